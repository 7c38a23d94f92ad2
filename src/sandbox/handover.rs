//! How an interpreter that was started ahead gets its program.
//!
//! In the place of the program's file there is a FIFO. The interpreter starts as it always does, opens the
//! file, as the last thing before it would run it, and waits there for somebody to write. Nobody ever does:
//!
//! ```text
//!  interpreter: start ── open /box/main.py ······ stopped ············ open anew ── read ── run
//!  helper:               watch            SIGSTOP ── files ── the true file over the FIFO ── SIGCONT
//! ```
//!
//! A call that waits in a FIFO is begun anew by the kernel after a stop, from the path on, and so finds the
//! file. One that had not come so far finds it as well: from the stop on this is a plain run. Who opens the file
//! without waiting, and waits when it reads (Ruby), reads the same from the FIFO. A compiled program has its
//! files in /program, and the FIFO there.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
            net::UnixStream,
        },
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        socket::MsgFlags,
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

use super::{
    helper::broken,
    jail::{self, JailError},
    monitor::Meter,
    sys,
    wire::{self, Handover, Reply},
};

/// How long an interpreter waits for a program before it is thrown away.
const PATIENCE: Duration = Duration::from_secs(600);

/// After so long an interpreter has come to its FIFO, or spends more time on its start than it is worth.
const SETTLED: Duration = Duration::from_secs(1);

/// The true file before it is in its place, and the FIFO after that. No file of a program that is handed over
/// has such a name.
const ASIDE: &str = ".handover";
const FIFO_ASIDE: &str = ".handover-fifo";

const WORK: &str = "/box";

/// Puts a FIFO where the program's file will be.
pub(super) fn make_fifo(path: &Path, owner: u32) -> io::Result<()> {
    mkfifo(path, Mode::from_bits_truncate(0o644))?;
    fs::set_permissions(path, Permissions::from_mode(0o644))?;
    chown(path, Some(owner), Some(owner))
}

/// A started interpreter, and who may end it.
pub(super) struct Waiting<'a> {
    pub(super) init: Pid,
    pub(super) program: Pid,
    pub(super) control: &'a mut UnixStream,
    pub(super) liveness: &'a OwnedFd,
}

/// A program for an interpreter.
pub(super) struct Given {
    pub(super) handover: Handover,
    contents: Vec<Vec<u8>>,
    /// Processor time of the interpreter when it had settled down to wait, where it waited that long.
    settled: Option<Duration>,
}

impl Waiting<'_> {
    /// Waits for a program; `None` when none will come, or nobody is there to take it.
    pub(super) fn receive(&mut self, meter: &mut Meter) -> io::Result<Option<Given>> {
        let (program, init) = (sys::pidfd_open(self.program)?, sys::pidfd_open(self.init)?);
        let begun = Instant::now();
        let mut settled = None;
        loop {
            let mut fds = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(program.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.liveness.as_fd(), PollFlags::empty()),
            ];
            let until = if settled.is_none() { SETTLED } else { PATIENCE };
            let left = until.saturating_sub(begun.elapsed()).as_millis();
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if settled.is_none() => {
                    settled = Some(meter.cpu_time()?);
                    continue;
                }
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [asked, others @ ..] =
                fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
            if others.contains(&true) || !asked || self.is_dismissed()? {
                return Ok(None);
            }
            let (handover, contents) = wire::receive_handover(self.control)?;
            return Ok(Some(Given { handover, contents, settled }));
        }
    }

    /// Whether the daemon wants nothing more of it.
    fn is_dismissed(&self) -> io::Result<bool> {
        let peek = nix::sys::socket::recv(self.control.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
        Ok(peek? == 0)
    }

    /// Gives the interpreter its program. `awaited` is the path of the FIFO, `owner` whom the files in /box are
    /// to belong to. Its time begins when this returns: with the processor time that it has spent on waiting, as a
    /// JVM does, which is not the program's.
    ///
    /// # Errors
    /// [`Reply::Gone`] when it is not there any more and nothing was run.
    pub(super) fn hand_over(
        &mut self,
        given: Given,
        awaited: &Path,
        owner: u32,
        meter: &mut Meter,
    ) -> Result<Duration, Reply> {
        let Given { handover: Handover { mut files, mut program, .. }, mut contents, settled } =
            given;
        if !sys::stop(self.program).map_err(broken("stop the interpreter"))? {
            return Err(Reply::Gone);
        }
        let used = meter.cpu_time().map_err(broken("read processor time"))?;
        let mut compiled = contents.split_off(files.len());
        let is_compiled = awaited.starts_with(jail::PROGRAM);
        let content = if is_compiled {
            take(awaited, jail::PROGRAM, &mut program, &mut compiled)
        } else {
            take(awaited, WORK, &mut files, &mut contents)
        };
        let content = content.ok_or_else(|| Reply::Broken("no awaited file".to_owned()))?;
        let write = || -> Result<(), JailError> {
            jail::write_files(&files, &contents, Path::new(WORK), Some(owner), 0o644)?;
            jail::write_files(&program, &compiled, Path::new(jail::PROGRAM), None, 0o555)
        };
        // What goes wrong here is no fault of the machine's floor, which made this jail.
        let broken_jail = |error: JailError| Reply::Broken(error.to_string());
        write().map_err(broken_jail)?;
        let (owner, mode) = if is_compiled { (None, 0o555) } else { (Some(owner), 0o644) };
        let fifo = swap(&content, awaited, owner, mode).map_err(broken("write the program"))?;
        if let Some(fifo) = fifo
            && !fill(&fifo, &content).map_err(broken("write to the FIFO"))?
        {
            return Err(Reply::Gone); // it has run nothing
        }
        if is_compiled {
            jail::close_program().map_err(broken_jail)?;
        }
        kill(self.program, Signal::SIGCONT).map_err(|error| broken("go on")(error.into()))?;
        Ok(settled.map_or(Duration::ZERO, |settled| used.saturating_sub(settled)))
    }
}

/// Takes the awaited file out, and returns its content.
fn take(
    awaited: &Path,
    folder: &str,
    files: &mut Vec<(String, u64)>,
    contents: &mut Vec<Vec<u8>>,
) -> Option<Vec<u8>> {
    let position = files.iter().position(|(path, _)| Path::new(folder).join(path) == awaited)?;
    files.remove(position);
    Some(contents.remove(position))
}

/// Puts a file in the place of the FIFO; the writing end of that, where somebody has opened it.
fn swap(content: &[u8], path: &Path, owner: Option<u32>, mode: u32) -> io::Result<Option<File>> {
    let (aside, fifo_aside) = (path.with_file_name(ASIDE), path.with_file_name(FIFO_ASIDE));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(content)?;
    chown(&aside, owner, owner)?;
    fs::hard_link(path, &fifo_aside)?;
    fs::rename(&aside, path)?;
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let fifo = OpenOptions::new().write(true).custom_flags(flags).open(&fifo_aside);
    fs::remove_file(&fifo_aside)?;
    match fifo {
        Ok(fifo) => Ok(Some(fifo)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes all of it into a pipe at once, so that nobody waits for whoever reads it; says whether it can hold
/// so much.
fn fill(mut pipe: &File, content: &[u8]) -> io::Result<bool> {
    let holds = |size: nix::Result<libc::c_int>| {
        size.is_ok_and(|size| usize::try_from(size).is_ok_and(|size| size >= content.len()))
    };
    let has_room = holds(fcntl(pipe, FcntlArg::F_GETPIPE_SZ))
        || libc::c_int::try_from(content.len())
            .is_ok_and(|bytes| holds(fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes))));
    if has_room {
        pipe.write_all(content)?;
    }
    Ok(has_room)
}
