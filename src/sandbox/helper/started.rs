//! A jail's two processes, from the fork of the program on.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{fcntl::OFlag, unistd::Pid};

use super::{INSIDE_ID, Prepared, broken, data_limit, pipe};
use crate::sandbox::{
    Caps,
    cgroup::Group,
    handover::Waiting,
    launcher::Machine,
    monitor::Meter,
    program, seccomp, sys,
    sys::Forked,
    wire::{self, Reply},
};

/// A run that an interpreter goes on with which was started before it.
pub(super) struct Begun {
    /// Its limits.
    pub(super) caps: Caps,
    /// What is to be taken of its work directory.
    pub(super) take: Vec<String>,
    /// Processor time that was spent on waiting.
    pub(super) spared: Duration,
}

/// A jail with its two processes.
pub(super) struct Started {
    pub(super) init: Pid,
    pub(super) program: Pid,
    pub(super) started: Instant,
    /// The program never began.
    pub(super) failed: Option<Reply>,
}

impl Started {
    pub(super) fn begin(
        order: &wire::Order,
        stdio: [OwnedFd; 3],
        prepared: &Prepared,
        machine: &Machine,
    ) -> Result<Started, Reply> {
        let group = prepared.group.as_ref();
        let (mapped_in, mapped_out) = pipe()?;
        let (failed_in, failed_out) = pipe()?;
        let (command, environment) = program::strings(&order.command, &order.env)
            .map_err(|error| Reply::Exec(error.to_string()))?;
        let spec = program::Program {
            command,
            environment,
            stdio,
            tty: order.tty,
            cgroups: group.map_or(Ok(Vec::new()), Group::entrances).map_err(broken("cgroup"))?,
            place: program::Place::Jail {
                uid: prepared.seen_as,
                filter: seccomp::filter(group.is_some()),
            },
            caps: order.caps,
            data_limit: group.is_none().then(|| data_limit(&order.caps)),
            processes: (machine.user_namespace || group.is_none()).then_some(order.caps.processes),
            mapped: mapped_in,
            failed: failed_out,
        };
        let flags = if machine.user_namespace { nix::libc::CLONE_NEWUSER } else { 0 };
        let forked = match group.and_then(Group::folder) {
            Some(folder) => sys::fork_into_cgroup(flags, folder.as_raw_fd()),
            None => sys::fork(flags),
        };
        let program = match forked.map_err(broken("fork the program"))? {
            Forked::Child => {
                drop((mapped_out, failed_in));
                program::run(spec)
            }
            Forked::Parent(pid) => pid,
        };
        drop(spec); // our ends of its pipes
        let init = prepared.init.pid;
        let mut started = Started { init, program, started: Instant::now(), failed: None };
        if let Err(error) = introduce(program, machine, prepared) {
            started.failed = Some(Reply::Broken(format!("id map: {error}")));
            return Ok(started);
        }
        (&prepared.init.go).write_all(&[0]).map_err(broken("start init"))?;
        File::from(mapped_out).write_all(&[0]).map_err(broken("start the program"))?;
        let mut text = String::new();
        File::from(failed_in).read_to_string(&mut text).map_err(broken("await exec"))?;
        started.started = Instant::now();
        if let Some((step, error)) = text.split_once('\n') {
            started.failed = Some(match step {
                "exec" => Reply::Exec(format!("{}: {error}", order.command[0])),
                _ => Reply::Floor(format!("{step}: {error}")),
            });
        }
        Ok(started)
    }

    /// Waits until the interpreter that was started is to be given its program, and gives it.
    ///
    /// # Errors
    /// It was not, and nothing was run.
    pub(super) fn await_program(
        &mut self,
        awaited: &Path,
        owner: u32,
        control: &mut UnixStream,
        machine: &Machine,
        meter: &mut Meter,
    ) -> Result<Begun, Reply> {
        let (init, program) = (self.init, self.program);
        let mut waiting = Waiting { init, program, control, liveness: &machine.liveness };
        let given = waiting.receive(meter).map_err(broken("wait"))?;
        let given = given.ok_or(Reply::Gone)?;
        let (caps, take) = (given.handover.caps, given.handover.take.clone());
        let spared = waiting.hand_over(given, awaited, owner, meter)?;
        self.started = Instant::now();
        Ok(Begun { caps, take, spared })
    }

    /// Kills both; they are dead when it returns.
    pub(super) fn end(&self) {
        // Already dead is just as well.
        let _ = nix::sys::signal::kill(self.init, nix::sys::signal::Signal::SIGKILL);
        let _ = sys::wait(self.program, true);
        let _ = sys::wait(self.init, true);
    }
}

/// Tells the kernel who the new process is, from outside: its ids, and that it is to be the first to
/// go when the machine runs out of memory.
fn introduce(program: Pid, machine: &Machine, prepared: &Prepared) -> io::Result<()> {
    let write = |name: &str, text: &str| -> io::Result<()> {
        let path = format!("{program}/{name}");
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(
            prepared.host_proc.as_fd(),
            path.as_str(),
            flags,
            nix::sys::stat::Mode::empty(),
        )?;
        File::from(file).write_all(text.as_bytes())
    };
    write("oom_score_adj", "1000")?;
    if machine.user_namespace {
        let map = format!("{INSIDE_ID} {} 1\n", prepared.uid);
        write("setgroups", "deny")?;
        write("uid_map", &map)?;
        write("gid_map", &map)?;
    }
    Ok(())
}
