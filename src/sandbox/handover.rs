//! How an interpreter that was started ahead gets its program.
//!
//! In the place of the program's file there is a FIFO. The interpreter starts as it always does, opens the
//! file, as the last thing before it would run it, and waits there for somebody to write:
//!
//! ```text
//!  interpreter: start ── open /box/main.py ···················· read to the end ── run
//!  helper:               watch            files ── the true file over the FIFO ── write, close
//! ```
//!
//! It reads the program's bytes from the FIFO once; whoever opens the path from then on, the interpreter
//! for a traceback among them, finds the file.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
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
    sys::{socket::MsgFlags, stat::Mode},
    unistd::{Pid, mkfifo},
};

use super::{
    helper::broken,
    jail, sys,
    wire::{self, Handover, Reply},
};

/// How long an interpreter waits for a program before it is thrown away.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a program waits for an interpreter that has not come to its FIFO yet. After that it is started
/// in the plain way.
const READY: Duration = Duration::from_secs(5);

/// Between two looks whether the interpreter has come to its FIFO, in milliseconds.
const LOOK: u8 = 1;

/// The true file before it is in its place. No file of a program that is handed over has such a name.
const ASIDE: &str = "/box/.handover";

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
}

/// A program that was handed over.
pub(super) struct HandedOver {
    pub(super) at: Instant,
    /// The reading end of the FIFO, so that what nobody read is still there.
    fifo: File,
    length: usize,
}

impl HandedOver {
    /// Whether the interpreter, which has ended, read any of it: else it has run none of it.
    pub(super) fn was_read(mut self) -> bool {
        let mut rest = Vec::new();
        // It ends with "would block" where somebody still writes, and nobody does.
        let _ = self.fifo.read_to_end(&mut rest);
        self.length == 0 || rest.len() < self.length
    }
}

impl Waiting<'_> {
    /// Waits for a program; `None` when none will come, or nobody is there to take it.
    pub(super) fn receive(&mut self) -> io::Result<Option<Given>> {
        let (program, init) = (sys::pidfd_open(self.program)?, sys::pidfd_open(self.init)?);
        let until = Instant::now() + PATIENCE;
        loop {
            let mut fds = [
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(program.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.liveness.as_fd(), PollFlags::empty()),
            ];
            let left = until.saturating_duration_since(Instant::now()).as_millis();
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
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
            return Ok(Some(Given { handover, contents }));
        }
    }

    /// Whether the daemon wants nothing more of it.
    fn is_dismissed(&self) -> io::Result<bool> {
        let peek = nix::sys::socket::recv(self.control.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
        Ok(peek? == 0)
    }

    /// Gives the interpreter its program. `awaited` is the path in /box of the FIFO, `owner` whom the files
    /// are to belong to.
    ///
    /// # Errors
    /// [`Reply::Gone`] when it is not there any more and nothing was run.
    pub(super) fn hand_over(
        &mut self,
        given: Given,
        awaited: &str,
        owner: u32,
    ) -> Result<HandedOver, Reply> {
        let Given { handover, mut contents } = given;
        let mut files = handover.files;
        let position = files.iter().position(|(path, _)| path == awaited);
        let position = position.ok_or_else(|| Reply::Broken("no awaited file".to_owned()))?;
        files.remove(position);
        let content = contents.remove(position);
        jail::write_files(&files, &contents, Path::new("/box"), Some(owner))?;
        let path = Path::new("/box").join(awaited);
        let fifo = self.open(&path).map_err(broken("open the FIFO"))?.ok_or(Reply::Gone)?;
        // All of it fits, so that nobody waits for an interpreter that runs what it has read while it reads:
        // from here on its limits are watched.
        if !make_room(&fifo, content.len()) {
            return Err(Reply::Gone);
        }
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let ours = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let ours = ours.map_err(broken("open the FIFO"))?;
        let in_place = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o644).open(ASIDE)?;
            file.write_all(&content)?;
            chown(ASIDE, Some(owner), Some(owner))?;
            fs::rename(ASIDE, &path)
        };
        in_place().map_err(broken("write the program"))?;
        let at = Instant::now();
        (&fifo).write_all(&content).map_err(broken("hand over the program"))?;
        Ok(HandedOver { at, fifo: ours, length: content.len() })
    }

    /// The writing end of the FIFO, once the interpreter has opened it; `None` when it does not, or when
    /// there is news from the daemon.
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let program = sys::pidfd_open(self.program)?;
        let until = Instant::now() + READY;
        loop {
            let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
            match OpenOptions::new().write(true).custom_flags(flags).open(path) {
                Ok(fifo) => return Ok(Some(fifo)),
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
                Err(error) => return Err(error),
            }
            let mut fds = [
                PollFd::new(program.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.liveness.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::from(LOOK)) {
                Ok(0) if Instant::now() < until => {}
                Err(Errno::EINTR) => {}
                Ok(_) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Makes a pipe hold so many bytes; says whether it does.
fn make_room(pipe: &File, bytes: usize) -> bool {
    let holds = |size: nix::Result<libc::c_int>| {
        size.is_ok_and(|size| usize::try_from(size).is_ok_and(|size| size >= bytes))
    };
    holds(fcntl(pipe, FcntlArg::F_GETPIPE_SZ))
        || libc::c_int::try_from(bytes)
            .is_ok_and(|bytes| holds(fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes))))
}
