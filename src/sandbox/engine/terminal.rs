//! A terminal of a job's own, in the place of its three pipes: the daemon's side of it.

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::errno::Errno;
use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

use crate::{protocol::WindowSize, sandbox::sys};

/// What a terminal gives at once at the most (N_TTY_BUF_SIZE in drivers/tty/n_tty.c).
const CHUNK_BYTES: usize = 4 << 10;

/// Our side of a terminal. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

/// A new terminal of the usual size: our side, and the job's.
///
/// # Errors
/// As pty(7): this machine has no more of them, or none.
pub(super) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    let mut settings = tcgetattr(&theirs)?;
    // So that erasing takes back a character, not a byte of it.
    settings.input_modes |= InputModes::IUTF8;
    tcsetattr(&theirs, OptionalActions::Now, &settings)?;
    tcsetwinsize(&ours, in_characters(WindowSize::DEFAULT))?;
    Ok((ours, theirs))
}

fn in_characters(WindowSize { rows, columns }: WindowSize) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Our side, from here on without blocking.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub(super) fn new(ours: OwnedFd) -> io::Result<Terminal> {
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok(Terminal(Arc::new(sys::watch(ours)?)))
    }

    /// Gives it another size, of which its programs are told (SIGWINCH).
    pub(super) fn resize(&self, size: WindowSize) {
        // It has no other way to fail than not to be a terminal.
        let _ = tcsetwinsize(self.0.get_ref(), in_characters(size));
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.remaining().min(CHUNK_BYTES);
            let space = buffer.initialize_unfilled_to(room);
            let read = ready.try_io(|ours| Ok(nix::unistd::read(ours, space)?));
            return Poll::Ready(match read {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    Ok(())
                }
                // Nobody has the other side open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(()),
                Ok(Err(error)) => Err(error),
                Err(_would_block) => continue,
            });
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(context))?;
            match ready.try_io(|ours| Ok(nix::unistd::write(ours, bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
