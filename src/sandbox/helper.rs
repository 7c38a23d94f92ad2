//! One jail and one job, from before its order to its reply. Runs in a process of its own, forked by
//! the launcher, that stays outside of the jail's pid namespace: the true parent of init and program.
//!
//! ```text
//! launcher ── helper ──┬── init      PID 1 of the jail
//!                      └── program   entered by clone, never PID 1
//! ```

mod started;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, unshare},
    unistd::{Pid, fchown, pipe2, sethostname},
};

use self::started::Started;
use super::{
    Caps, Taken,
    cgroup::Group,
    collect::{self, CollectError},
    init,
    jail::{self, JailError},
    launcher::Machine,
    monitor::{self, Jailed, Meter, Unwanted},
    network::{self, Lent},
    proc_tree::{ProcTree, Whose},
    sys,
    sys::Forked,
    take,
    wire::{self, Readings, Received, Reply, Seat},
};

/// The uid and gid that a program sees itself as, where it has a user namespace.
const INSIDE_ID: u32 = 1000;

/// Prepares a jail, waits for its job, serves that and ends.
pub(super) fn run(control: OwnedFd, seat: &Seat, machine: &Machine, lent: Option<Lent>) -> ! {
    let mut control = UnixStream::from(control);
    let prepared = Prepared::new(seat, machine, lent);
    let served = match wire::receive_order(&mut control) {
        Ok(Some(received)) => {
            prepared.and_then(|prepared| prepared.serve(received, &mut control, machine))
        }
        // The daemon is gone, or has no job for this one.
        Ok(None) => prepared.map(Prepared::discard).map(|()| None),
        // It went while it gave the order.
        Err(error) => prepared
            .map(Prepared::discard)
            .and(Err(Reply::Broken(format!("cannot read the order: {error}")))),
    };
    answer(&mut control, served)
}

/// Says how it went, and ends.
pub(super) fn answer(control: &mut UnixStream, served: Result<Option<Reply>, Reply>) -> ! {
    if let Some(reply) = served.unwrap_or_else(Some) {
        let text = serde_json::to_vec(&reply).unwrap_or_default();
        // When the daemon is gone nobody needs the reply. It takes it for whole when there can be no
        // more, and need not wait until what this process has built is taken down.
        let _ = control.write_all(&text);
        let _ = control.shutdown(Shutdown::Write);
    }
    sys::exit(0)
}

pub(super) fn broken(step: &'static str) -> impl Fn(io::Error) -> Reply {
    move |error| Reply::Broken(format!("{step}: {error}"))
}

fn floor(step: &'static str) -> impl Fn(io::Error) -> Reply {
    move |error| Reply::Floor(format!("{step}: {error}"))
}

impl From<JailError> for Reply {
    fn from(error: JailError) -> Reply {
        Reply::Floor(error.to_string())
    }
}

impl From<CollectError> for Reply {
    fn from(error: CollectError) -> Reply {
        match error {
            CollectError::TooMuch(what) => Reply::Collect(what),
            CollectError::Host(error) => broken("take what was compiled")(error),
        }
    }
}

/// A jail that waits for its job: all that does not depend on it is there, and nothing of another
/// job ever was. Most of what a jail costs is in here, while nobody waits for it.
struct Prepared {
    /// What the program's files belong to.
    uid: u32,
    /// What the program sees itself as.
    seen_as: u32,
    group: Option<Group>,
    /// The host's, which is not in the jail.
    host_proc: File,
    /// Where the network is not its own.
    lent: Option<Lent>,
    init: Init,
}

impl Prepared {
    fn new(seat: &Seat, machine: &Machine, mut lent: Option<Lent>) -> Result<Prepared, Reply> {
        let host_proc = File::open("/proc").map_err(broken("open /proc"))?;
        let group = machine.tree.create(seat.slot, &seat.name).map_err(broken("make a cgroup"))?;
        let namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        unshare(namespaces).map_err(|error| floor("namespaces")(error.into()))?;
        sethostname("sandbox").map_err(|error| floor("host name")(error.into()))?;
        match &mut lent {
            Some(lent) => lent.enter(),
            None => network::make(),
        }
        .map_err(floor("network"))?;
        let uid = machine.jail_uid(seat.slot);
        let seen_as = if machine.user_namespace { INSIDE_ID } else { uid };
        jail::prepare(seen_as)?;
        let init = start_init(machine)?;
        Ok(Prepared { uid, seen_as, group, host_proc, lent, init })
    }

    /// Takes it down unused.
    fn discard(self) {
        self.init.end();
        if let Some(lent) = &self.lent {
            lent.give_back(&self.host_proc);
        }
    }

    /// `Ok(None)` when the daemon is gone.
    fn serve(
        self,
        received: Received,
        control: &mut UnixStream,
        machine: &Machine,
    ) -> Result<Option<Reply>, Reply> {
        let Received { mut order, stdio, contents } = received;
        for fd in &stdio {
            // Else opening /dev/stdin is refused: a pipe's inode belongs to who made it.
            let owner = Some(self.uid);
            match fchown(fd, owner.map(Into::into), owner.map(Into::into)) {
                // A terminal's group is one that root of a user namespace has no right to change.
                Err(Errno::EPERM) if order.tty => {}
                changed => changed.map_err(|error| broken("chown")(error.into()))?,
            }
        }
        let target = order.collect.as_ref().map(|folder| File::open(jail::on_host(folder)));
        let target = target.transpose().map_err(broken("open the folder to collect into"))?;
        if let Some(group) = &self.group {
            group.limit(&order.caps).map_err(broken("limit the cgroup"))?;
        }
        jail::furnish(&order, &contents, self.uid)?;
        drop(contents);
        jail::close()?;
        let mut jailed = Started::begin(&order, stdio, &self, machine)?;
        let mut meter = match self.group {
            Some(group) => Meter::Cgroup(group),
            None => Meter::Processes {
                tree: ProcTree::of(Whose::Jail),
                ticks_per_second: machine.ticks_per_second,
            },
        };
        let (awaited, uid, mut spared) = (order.awaited.take(), self.uid, Duration::ZERO);
        let begun = match (jailed.failed.take(), awaited) {
            (Some(reply), _) => Err(reply),
            (None, None) => Ok(()),
            (None, Some(awaited)) => {
                let begun = jailed.await_program(&awaited, uid, control, machine, &mut meter);
                begun.map(|begun| {
                    (order.caps, order.take, spared) = (begun.caps, begun.take, begun.spared);
                })
            }
        };
        let seen = match begun {
            Err(reply) => {
                jailed.end();
                Err(reply)
            }
            Ok(()) => {
                let watched = Jailed {
                    init: Some(jailed.init),
                    program: jailed.program,
                    control,
                    liveness: &machine.liveness,
                    started: jailed.started,
                    spared,
                    cores: machine.cores,
                };
                let seen = monitor::watch(watched, &mut meter, &order.caps);
                seen.map_err(broken("watch"))
            }
        };
        let space = monitor::work_space();
        if let Meter::Cgroup(group) = meter {
            group.remove().map_err(broken("remove the cgroup"))?;
        }
        let seen = seen?;
        // All processes of the jail are dead, and reaped.
        if let Some(lent) = &self.lent {
            lent.give_back(&self.host_proc);
        }
        match seen.unwanted {
            Some(Unwanted::Cancelled) => return Ok(Some(Reply::Cancelled)),
            Some(Unwanted::DaemonGone) => return Ok(None),
            None => {}
        }
        let good =
            seen.end == super::End::Exited(0) && seen.killed_for.is_none() && seen.oom_kills == 0;
        if let (Some(target), true) = (target, good) {
            let source = File::open("/out").map_err(broken("open /out"))?;
            collect::collect(&source.into(), &target.into(), order.collects_cache)?;
        }
        let taken = taken(&order.take).map_err(broken("take files"))?;
        let (disk_used_bytes, disk_full) = space.map_err(broken("measure the work directory"))?;
        Ok(Some(Reply::Done(Readings {
            end: seen.end,
            killed_for: seen.killed_for,
            oom_kills: seen.oom_kills,
            destroyed_sandbox: seen.destroyed_sandbox,
            cpu_time: seen.cpu_time,
            wall_time: seen.wall_time,
            memory_peak_bytes: seen.memory_peak,
            disk_used_bytes,
            disk_full,
            taken,
        })))
    }
}

/// The files that were asked for; /box is not opened where none were.
fn taken(paths: &[String]) -> io::Result<Vec<Taken>> {
    match paths {
        [] => Ok(Vec::new()),
        paths => take::take(&File::open("/box")?.into(), paths),
    }
}

/// Private memory that a process may map where no cgroup counts: twice the limit, as a backstop to
/// what is summed every 5 ms, and room for the stacks of a runtime's own threads, each of which maps
/// as much as the stack limit.
pub(super) fn data_limit(caps: &Caps) -> u64 {
    const THREADS: u64 = 16;
    caps.memory_bytes.saturating_mul(2).saturating_add(THREADS * caps.stack_bytes)
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Reply> {
    pipe2(OFlag::O_CLOEXEC).map_err(|error| broken("make a pipe")(error.into()))
}

struct Init {
    pid: Pid,
    /// A byte here lets it settle down for the time that the program runs.
    go: File,
}

impl Init {
    /// Kills it where no program has begun; it is dead when this returns.
    fn end(&self) {
        // Already dead is just as well.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
        let _ = sys::wait(self.pid, true);
    }
}

fn start_init(machine: &Machine) -> Result<Init, Reply> {
    let (ready_in, ready_out) = pipe()?;
    let (go_in, go_out) = pipe()?;
    let liveness = machine.liveness.try_clone().map_err(broken("liveness"))?;
    let pid = match sys::fork(0).map_err(broken("fork init"))? {
        Forked::Child => {
            drop((ready_in, go_out));
            init::run(init::Init {
                liveness,
                ready: ready_out,
                go: go_in,
                change_user: machine.root,
            })
        }
        Forked::Parent(pid) => pid,
    };
    drop((ready_out, go_in));
    let mut text = Vec::new();
    File::from(ready_in).read_to_end(&mut text).map_err(broken("await init"))?;
    match text.as_slice() {
        [0] => Ok(Init { pid, go: go_out.into() }),
        text => Err(Reply::Floor(format!("/proc: {}", String::from_utf8_lossy(text)))),
    }
}
