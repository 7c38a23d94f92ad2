//! Watches one jail from outside until its program ends, and ends it at its limits.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{Cap, Caps, End, Space, bare, cgroup::Group, proc_tree::ProcTree, sys, wire};

/// How often memory is read near its limit, and CPU where no cgroup counts it.
const CLOSE_LOOK: Duration = Duration::from_millis(5);
/// A program that is far from its memory limit is looked at again after this at the latest.
const FAR_LOOK: Duration = Duration::from_millis(50);
/// Two cores write at most about this much fresh memory in a millisecond, in bytes.
const FILL_PER_MS: u64 = 8 << 20;
const MIN_CPU_LOOK: Duration = Duration::from_millis(1);

/// What counts the jail's use.
pub(super) enum Meter {
    Cgroup(Group),
    Processes { tree: ProcTree, ticks_per_second: u64 },
}

impl Meter {
    /// What all its processes have used.
    pub(super) fn cpu_time(&mut self) -> io::Result<Duration> {
        match self {
            Meter::Cgroup(group) => group.cpu_time(),
            Meter::Processes { tree, ticks_per_second } => tree.cpu_time(*ticks_per_second),
        }
    }

    /// Memory in use, or anything below `limit` that is not less, when that is cheaper to know.
    fn memory(&self, limit: u64) -> io::Result<u64> {
        match self {
            Meter::Cgroup(group) => match group.memory_charged()? {
                charged if charged <= limit => Ok(charged),
                _ => group.memory_used(),
            },
            Meter::Processes { tree, .. } => tree.memory_used(),
        }
    }
}

/// Bytes used of the work directory, and what of it is used up.
pub(super) fn work_space() -> io::Result<(u64, Option<Space>)> {
    let stat = nix::sys::statvfs::statvfs("/box")?;
    let used = (stat.blocks() - stat.blocks_free()) * stat.fragment_size();
    let full = match (stat.blocks_free(), stat.files_free()) {
        (0, _) => Some(Space::Bytes),
        (_, 0) => Some(Space::Inodes),
        _ => None,
    };
    Ok((used, full))
}

/// The processes of one jail, and who may end them.
pub(super) struct Jailed<'a> {
    /// Without one there is no pid namespace that would end with it.
    pub(super) init: Option<Pid>,
    pub(super) program: Pid,
    pub(super) control: &'a mut UnixStream,
    pub(super) liveness: &'a OwnedFd,
    pub(super) started: Instant,
    /// Processor time that was used until then and is not the program's.
    pub(super) spared: Duration,
    /// Of the machine.
    pub(super) cores: u32,
}

/// What the watch saw.
pub(super) struct Seen {
    pub(super) end: End,
    pub(super) killed_for: Option<Cap>,
    /// The daemon asked for the end, or is gone.
    pub(super) unwanted: Option<Unwanted>,
    pub(super) destroyed_sandbox: bool,
    pub(super) wall_time: Duration,
    pub(super) cpu_time: Duration,
    pub(super) memory_peak: u64,
    pub(super) oom_kills: u64,
}

/// Why nobody needs the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    Cancelled,
    DaemonGone,
}

enum Why {
    Ended,
    InitGone,
    Cap(Cap),
    Unwanted(Unwanted),
}

/// Watches until the end; when it returns every process of the jail is dead and reaped.
pub(super) fn watch(mut jail: Jailed<'_>, meter: &mut Meter, caps: &Caps) -> io::Result<Seen> {
    let program_fd = sys::pidfd_open(jail.program)?;
    let init_fd = jail.init.map(sys::pidfd_open).transpose()?;
    let mut memory_peak = 0;
    let why = jail.until_something(&program_fd, init_fd.as_ref(), meter, caps, &mut memory_peak)?;
    let wall_time = jail.started.elapsed();
    if let Meter::Cgroup(_) = meter {
        // The true peak is read from the cgroup at the end; without one this is the last chance.
    } else if let Ok(used) = meter.memory(u64::MAX) {
        memory_peak = memory_peak.max(used);
    }
    let cpu_before = meter.cpu_time()?.saturating_sub(jail.spared);
    // Killing init kills the whole pid namespace. The kernel lets init go only when everybody in
    // it is reaped, and the program's parent is this process: so the program is waited for first.
    match jail.init.map(|init| kill(init, Signal::SIGKILL)) {
        Some(Ok(()) | Err(Errno::ESRCH)) => {}
        Some(Err(error)) => return Err(error.into()),
        None => bare::end_all(jail.program)?,
    }
    // With anybody else that should be this process's to reap.
    let mut end = End::Signaled(9);
    while let Some((pid, how)) = sys::wait_for_any()? {
        if pid == jail.program {
            end = how;
        }
        if Some(pid) == jail.init {
            break;
        }
    }
    let mut oom_kills = 0;
    let cpu_time = match meter {
        Meter::Cgroup(group) => {
            oom_kills = group.oom_kills()?;
            let files_left = group.memory_charged()?.saturating_sub(group.memory_used()?);
            let peak = group.memory_peak_charged().unwrap_or(0).saturating_sub(files_left);
            // Charged memory may have held file pages that were reclaimed since; what was not
            // seen above the limit is not reported above it.
            memory_peak = memory_peak.max(peak.min(caps.memory_bytes));
            group.cpu_time()?.saturating_sub(jail.spared)
        }
        Meter::Processes { .. } => cpu_before,
    };
    let mut seen = Seen {
        end,
        killed_for: None,
        unwanted: None,
        destroyed_sandbox: false,
        wall_time,
        cpu_time,
        memory_peak,
        oom_kills,
    };
    match why {
        Why::Ended => {}
        Why::InitGone => seen.destroyed_sandbox = true,
        Why::Cap(cap) => seen.killed_for = Some(cap),
        Why::Unwanted(unwanted) => seen.unwanted = Some(unwanted),
    }
    Ok(seen)
}

impl Jailed<'_> {
    fn until_something(
        &mut self,
        program: &OwnedFd,
        init: Option<&OwnedFd>,
        meter: &mut Meter,
        caps: &Caps,
        memory_peak: &mut u64,
    ) -> io::Result<Why> {
        let cores = self.cores;
        let mut next_cpu = match meter {
            Meter::Cgroup(_) => (caps.cpu_time / cores).max(MIN_CPU_LOOK),
            Meter::Processes { .. } => CLOSE_LOOK,
        };
        let mut next_memory = CLOSE_LOOK.min(next_look(caps.memory_bytes));
        loop {
            let next = next_cpu.min(next_memory).min(caps.wall_time);
            let pause = next.saturating_sub(self.started.elapsed());
            let mut fds = [
                PollFd::new(program.as_fd(), PollFlags::POLLIN),
                // In its place stands what is asked about anyway, and first.
                PollFd::new(init.unwrap_or(program).as_fd(), PollFlags::POLLIN),
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.liveness.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, to_timeout(pause)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [ended, init_ended, asked, daemon_gone] =
                fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
            let init_ended = init_ended && init.is_some();
            if daemon_gone {
                return Ok(Why::Unwanted(Unwanted::DaemonGone));
            }
            if ended {
                // When init dies first the kernel kills the program with it; both are then ready.
                return Ok(if init_ended { Why::InitGone } else { Why::Ended });
            }
            if init_ended {
                return Ok(Why::InitGone);
            }
            if asked && let Some(why) = self.listen()? {
                return Ok(why);
            }
            if init.is_none() {
                bare::reap_orphans(self.program);
            }
            let now = self.started.elapsed();
            if now >= caps.wall_time {
                return Ok(Why::Cap(Cap::Wall));
            }
            if now >= next_cpu {
                let used = meter.cpu_time()?.saturating_sub(self.spared);
                if used >= caps.cpu_time {
                    return Ok(Why::Cap(Cap::Cpu));
                }
                let left = (caps.cpu_time - used) / cores;
                next_cpu = now
                    + match meter {
                        Meter::Cgroup(_) => left.max(MIN_CPU_LOOK),
                        Meter::Processes { .. } => CLOSE_LOOK,
                    };
            }
            if now >= next_memory {
                let used = meter.memory(caps.memory_bytes)?;
                if used > caps.memory_bytes {
                    *memory_peak = used;
                    return Ok(Why::Cap(Cap::Memory));
                }
                if let Meter::Processes { .. } = meter {
                    *memory_peak = (*memory_peak).max(used);
                }
                next_memory = now + next_look(caps.memory_bytes - used);
            }
        }
    }

    /// Does what the daemon asks for; says so where that is the end.
    fn listen(&mut self) -> io::Result<Option<Why>> {
        let mut byte = [0];
        Ok(Some(match self.control.read(&mut byte) {
            Ok(1) if byte[0] == wire::KILL_FOR_OUTPUT => Why::Cap(Cap::Output),
            Ok(1) if byte[0] == wire::CANCEL => Why::Unwanted(Unwanted::Cancelled),
            Ok(1) if byte[0] == wire::SIGNAL && self.control.read(&mut byte)? == 1 => {
                self.send(byte[0].into());
                return Ok(None);
            }
            _ => Why::Unwanted(Unwanted::DaemonGone),
        }))
    }

    /// To all of the program that did not leave its process group. It is not reaped yet, so the group is its own.
    fn send(&self, signal: i32) {
        if let Ok(signal) = Signal::try_from(signal) {
            // A group in which all have ended is none any more.
            let _ = killpg(self.program, signal);
        }
    }
}

/// When memory with this much room left must be looked at again.
fn next_look(room: u64) -> Duration {
    Duration::from_millis(room / FILL_PER_MS).clamp(CLOSE_LOOK, FAR_LOOK)
}

/// Rounded up to whole milliseconds, so that a wait never ends just before its time and spins.
fn to_timeout(pause: Duration) -> PollTimeout {
    let millis = pause.as_micros().div_ceil(1000).min(60_000) as u16;
    PollTimeout::from(millis)
}
