//! One job without a jail, where this machine has no floor and `--unsafe-no-sandbox` lifts it: a plain
//! process of the daemon's user, in the place of `helper`. Best effort throughout: nothing here
//! stops a program from doing what that user can.
//!
//! ```text
//! launcher ── bare helper ── program ── ...
//!              │ what nobody waits for becomes its child, so that it finds and ends everything
//!              └─ folder: box tmp out
//! ```
//!
//! What keeps a jail's promises as far as it goes: a session and limits of its own, no capabilities
//! and no_new_privs, no inherited environment or descriptors, folders of its own.

mod folders;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::{Pid, geteuid},
};

pub(super) use self::folders::clear;

use self::folders::Folders;
use super::{
    End, FLOOR, Layer, Space,
    cgroup::Group,
    collect,
    helper::{answer, broken, data_limit, pipe},
    jail,
    launcher::Machine,
    monitor::{self, Jailed, Meter, Unwanted},
    proc_tree::{self, ProcTree, Whose},
    program, sys,
    sys::Forked,
    take,
    wire::{self, Order, Readings, Received, Reply, Seat},
};

/// What is said of a layer that is not there.
pub(super) const LIFTED: &str = "lifted by --unsafe-no-sandbox";

/// How long the processes of a job may take to die.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// Processes and threads that this user may have where we do not see them, in other containers: the
/// kernel counts all of them against RLIMIT_NPROC, and a program must not fail for theirs.
const UNSEEN_TASKS: u64 = 1024;

/// Between two looks at processes that are dying.
const DEATH_LOOK: Duration = Duration::from_millis(1);

/// What there is in place of a jail. `why` is there no floor.
pub(super) fn layers(why: &str, cgroup: &Result<String, String>) -> Vec<Layer> {
    let lifted =
        |name: &str| Layer { name: name.to_owned(), active: false, detail: LIFTED.to_owned() };
    let mut layers =
        vec![Layer { name: FLOOR.to_owned(), active: false, detail: format!("{LIFTED}: {why}") }];
    layers
        .extend(["namespaces", "user_namespace", "uid", "root", "network", "seccomp"].map(lifted));
    let capabilities = "none, and no_new_privs".to_owned();
    layers.push(Layer { name: "capabilities".to_owned(), active: true, detail: capabilities });
    layers.push(Layer {
        name: "cgroup".to_owned(),
        active: cgroup.is_ok(),
        detail: cgroup.clone().unwrap_or_else(|why| why),
    });
    layers
}

/// Waits for its job, serves that and ends. `prefix` is what the path of its folder begins with.
pub(super) fn run(control: OwnedFd, seat: &Seat, machine: &Machine, prefix: &Path) -> ! {
    let mut control = UnixStream::from(control);
    let served = match wire::receive_order(&mut control) {
        Ok(Some(received)) => {
            Folders::create(prefix, &seat.name, &received.order).and_then(|folders| {
                let served = serve(received, &folders, seat, machine, &mut control);
                // Nothing of the job is left when the daemon hears of its end.
                folders.remove().map_err(broken("remove the job's folder")).and(served)
            })
        }
        Ok(None) => Ok(None),
        Err(error) => Err(Reply::Broken(format!("cannot read the order: {error}"))),
    };
    answer(&mut control, served)
}

fn serve(
    received: Received,
    folders: &Folders,
    seat: &Seat,
    machine: &Machine,
    control: &mut UnixStream,
) -> Result<Option<Reply>, Reply> {
    let Received { order, stdio, contents } = received;
    jail::write_files(&order.files, &contents, &folders.work, None, 0o644)
        .map_err(|error| Reply::Broken(error.to_string()))?;
    drop(contents);
    // What loses its parent becomes ours, and so stays in sight.
    prctl::set_child_subreaper(true).map_err(|error| broken("become subreaper")(error.into()))?;
    let group = machine.tree.create(seat.slot, &seat.name).map_err(broken("make a cgroup"))?;
    if let Some(group) = &group {
        group.limit(&order.caps).map_err(broken("limit the cgroup"))?;
    }
    // Whatever the program makes of its path.
    let work = File::open(&folders.work).map_err(broken("open the work folder"))?;
    let begun = begin(&order, stdio, folders, group.as_ref());
    let mut meter = match group {
        Some(group) => Meter::Cgroup(group),
        None => Meter::Processes {
            tree: ProcTree::of(Whose::Own),
            ticks_per_second: machine.ticks_per_second,
        },
    };
    let seen = begun.and_then(|(program, started)| {
        let liveness = &machine.liveness;
        let watched = Jailed {
            init: None,
            program,
            control,
            liveness,
            started,
            spared: Duration::ZERO,
            cores: machine.cores,
        };
        monitor::watch(watched, &mut meter, &order.caps).map_err(|error| {
            // In a jail this helper's end is theirs too.
            let _ = end_all(program);
            sys::wait_for_all();
            broken("watch")(error)
        })
    });
    if let Meter::Cgroup(group) = meter {
        group.remove().map_err(broken("remove the cgroup"))?;
    }
    let seen = seen?;
    match seen.unwanted {
        Some(Unwanted::Cancelled) => return Ok(Some(Reply::Cancelled)),
        Some(Unwanted::DaemonGone) => return Ok(None),
        None => {}
    }
    let good = seen.end == End::Exited(0) && seen.killed_for.is_none() && seen.oom_kills == 0;
    if let (Some(target), true) = (&order.collect, good) {
        let open = |path: &Path| File::open(path).map_err(broken("open a folder to collect"));
        let (source, target) = (open(&folders.out)?, open(target)?);
        collect::collect(&source.into(), &target.into(), order.collects_cache)?;
    }
    let taken = take::take(&work.into(), &order.take).map_err(broken("take files"))?;
    let disk_used_bytes = folders.size();
    Ok(Some(Reply::Done(Readings {
        end: seen.end,
        killed_for: seen.killed_for,
        oom_kills: seen.oom_kills,
        destroyed_sandbox: false,
        cpu_time: seen.cpu_time,
        wall_time: seen.wall_time,
        memory_peak_bytes: seen.memory_peak,
        disk_used_bytes,
        disk_full: (disk_used_bytes >= order.caps.disk_bytes).then_some(Space::Bytes),
        taken,
    })))
}

/// Starts the program; the time is that of its exec.
fn begin(
    order: &Order,
    stdio: [OwnedFd; 3],
    folders: &Folders,
    group: Option<&Group>,
) -> Result<(Pid, Instant), Reply> {
    let command: Vec<String> = order.command.iter().map(|word| folders.real(word)).collect();
    let (command, environment) = program::strings(&command, &folders.environment(&order.env))
        .map_err(|error| Reply::Exec(error.to_string()))?;
    let (go_in, go_out) = pipe()?;
    let (failed_in, failed_out) = pipe()?;
    let spec = program::Program {
        command,
        environment,
        stdio,
        tty: order.tty,
        cgroups: group.map_or(Ok(Vec::new()), Group::entrances).map_err(broken("cgroup"))?,
        place: program::Place::Bare(folders.work.clone()),
        caps: order.caps,
        data_limit: group.is_none().then(|| data_limit(&order.caps)),
        processes: group.is_none().then(|| own_tasks() + UNSEEN_TASKS + order.caps.processes),
        mapped: go_in,
        failed: failed_out,
    };
    let forked = match group.and_then(Group::folder) {
        Some(folder) => sys::fork_into_cgroup(0, folder.as_raw_fd()),
        None => sys::fork(0),
    };
    let program = match forked.map_err(broken("fork the program"))? {
        Forked::Child => {
            drop((go_out, failed_in));
            program::run(spec)
        }
        Forked::Parent(pid) => pid,
    };
    drop(spec); // our ends of its pipes
    let started = (|| {
        fs::write(format!("/proc/{program}/oom_score_adj"), "1000")?;
        File::from(go_out).write_all(&[0])?;
        let mut text = String::new();
        File::from(failed_in).read_to_string(&mut text)?;
        Ok(text)
    })();
    let began = Instant::now();
    let failed = match started {
        Ok(text) => match text.split_once('\n') {
            None => return Ok((program, began)),
            Some(("exec", error)) => Reply::Exec(format!("{}: {error}", order.command[0])),
            Some((step, error)) => Reply::Broken(format!("{step}: {error}")),
        },
        Err(error) => broken("start the program")(error),
    };
    // Already dead is just as well.
    let _ = kill(program, Signal::SIGKILL);
    let _ = sys::wait(program, true);
    Err(failed)
}

/// Processes and threads of this user now, as far as they can be seen.
fn own_tasks() -> u64 {
    let own = geteuid().to_string();
    let tasks = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|values| values.split_whitespace().next())
        };
        (field("Uid:")? == own).then(|| field("Threads:")?.parse::<u64>().ok())?
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(tasks).sum()
}

/// Reaps what has ended and nobody waits for but us; never the program itself.
pub(super) fn reap_orphans(program: Pid) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, flags) {
        match status.pid() {
            Some(pid) if pid != program && sys::wait(pid, true).is_ok() => {}
            _ => return,
        }
    }
}

/// Kills the program and everything that it started. All are dead when it returns, and not reaped.
///
/// # Errors
/// One does not die in time.
pub(super) fn end_all(program: Pid) -> io::Result<()> {
    // All that did not leave its session, at once: what forks cannot run away from this.
    let _ = killpg(program, Signal::SIGKILL);
    let deadline = Instant::now() + DEATH_TIMEOUT;
    loop {
        // What is stopped forks no more, and leaves no room for others by its death.
        let mut stopped = HashSet::new();
        while Instant::now() < deadline {
            let living = proc_tree::living_descendants()?;
            let fresh: Vec<i32> = living.difference(&stopped).copied().collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
                stopped.insert(pid);
            }
        }
        if stopped.is_empty() {
            return Ok(());
        }
        for pid in stopped {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its processes do not die"));
        }
        std::thread::sleep(DEATH_LOOK);
    }
}
