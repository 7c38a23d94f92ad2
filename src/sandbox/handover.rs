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
//! for a traceback among them, finds the file. A compiled program has its files in /program, and the FIFO
//! there.

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
}

/// A program that was handed over.
pub(super) struct HandedOver {
    pub(super) at: Instant,
    /// The reading end of the FIFO, so that what nobody read is still there.
    fifo: File,
    length: usize,
    /// Both ends, where the interpreter had not come to the FIFO when the file was put in its place.
    late: Option<File>,
}

impl HandedOver {
    /// Whether the interpreter, which has ended, read any of it: else it has run none of it. One that came late
    /// had its program there from its start, as in a plain run.
    pub(super) fn was_read(mut self) -> bool {
        if self.late.is_some() {
            return true;
        }
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

    /// Gives the interpreter its program. `awaited` is the path of the FIFO, `owner` whom the files in /box are
    /// to belong to.
    ///
    /// # Errors
    /// [`Reply::Gone`] when it is not there any more and nothing was run.
    pub(super) fn hand_over(
        &mut self,
        given: Given,
        awaited: &Path,
        owner: u32,
    ) -> Result<HandedOver, Reply> {
        let Given { handover: Handover { mut files, mut program, .. }, mut contents } = given;
        let mut compiled = contents.split_off(files.len());
        let is_compiled = awaited.starts_with(jail::PROGRAM);
        let content = if is_compiled {
            take(awaited, jail::PROGRAM, &mut program, &mut compiled)
        } else {
            take(awaited, WORK, &mut files, &mut contents)
        };
        let content = content.ok_or_else(|| Reply::Broken("no awaited file".to_owned()))?;
        jail::write_files(&files, &contents, Path::new(WORK), Some(owner), 0o644)?;
        jail::write_files(&program, &compiled, Path::new(jail::PROGRAM), None, 0o555)?;
        if is_compiled {
            hand_over_compiled(awaited, &content)
        } else {
            self.hand_over_source(awaited, &content, owner)
        }
    }

    /// Has the interpreter go on, then puts the file in its place, then writes.
    fn hand_over_source(
        &self,
        path: &Path,
        content: &[u8],
        owner: u32,
    ) -> Result<HandedOver, Reply> {
        let fifo = self.open(path).map_err(broken("open the FIFO"))?.ok_or(Reply::Gone)?;
        // All of it fits, so that nobody waits for an interpreter that runs what it has read while it reads:
        // from here on its limits are watched.
        if !make_room(&fifo, content.len()) {
            return Err(Reply::Gone);
        }
        let ours = open_to_read(path).map_err(broken("open the FIFO"))?;
        put(content, path, Some(owner), 0o644).map_err(broken("write the program"))?;
        let at = Instant::now();
        (&fifo).write_all(content).map_err(broken("hand over the program"))?;
        Ok(HandedOver { at, fifo: ours, length: content.len(), late: None })
    }

    /// The writing end of the FIFO, once the interpreter has opened it; `None` when it does not, or when
    /// there is news from the daemon.
    fn open(&self, path: &Path) -> io::Result<Option<File>> {
        let program = sys::pidfd_open(self.program)?;
        let until = Instant::now() + READY;
        loop {
            if let Some(fifo) = open_to_write(path)? {
                return Ok(Some(fifo));
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

/// Puts the file in its place, then has the interpreter go on, then writes: one that asks how long the file is
/// that it has opened, as a JVM does, is told the truth. It may not have come to the FIFO yet: then it
/// finds the file.
fn hand_over_compiled(path: &Path, content: &[u8]) -> Result<HandedOver, Reply> {
    let aside = Path::new(jail::PROGRAM).join(FIFO_ASIDE);
    fs::hard_link(path, &aside).map_err(broken("link the FIFO"))?;
    put(content, path, None, 0o555).map_err(broken("write the program"))?;
    let at = Instant::now();
    let open = || {
        let waiting = open_to_write(&aside)?;
        // One that has found the FIFO, and is about to wait at it, does not wait where there is a writer.
        let late = match &waiting {
            Some(_) => None,
            None => Some(OpenOptions::new().read(true).write(true).open(&aside)?),
        };
        let ours = open_to_read(&aside)?;
        fs::remove_file(&aside)?;
        Ok((waiting, late, ours))
    };
    let (waiting, late, ours) = open().map_err(broken("open the FIFO"))?;
    jail::close_program()?;
    let fifo = waiting.as_ref().or(late.as_ref()).expect("it was opened in one way");
    if make_room(fifo, content.len()) {
        { fifo }.write_all(content).map_err(broken("hand over the program"))?;
    } else if late.is_none() {
        // It waits for the first byte, and has run nothing.
        return Err(Reply::Gone);
    }
    Ok(HandedOver { at, fifo: ours, length: content.len(), late })
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

/// Puts a file in the place of the FIFO.
fn put(content: &[u8], path: &Path, owner: Option<u32>, mode: u32) -> io::Result<()> {
    let aside = path.with_file_name(ASIDE);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&aside)?;
    file.write_all(content)?;
    chown(&aside, owner, owner)?;
    fs::rename(&aside, path)
}

/// The writing end of a FIFO, where somebody has opened it, or is about to, to read.
fn open_to_write(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Ok(fifo) => Ok(Some(fifo)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A reading end of a FIFO, which has nobody go on who waits there.
fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
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
