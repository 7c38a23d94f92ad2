//! What we read, on its way to a program that is talked to while it runs.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    os::fd::AsFd as _,
};

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::protocol::{Input, WindowSize};

/// What is read at once at the most.
const CHUNK_BYTES: usize = 16 << 10;

/// Pieces that wait for the program, past which nothing more is read.
const WAITING: usize = 4;

/// What a person types, and the size of the window that it is typed in.
pub(super) struct Keyboard {
    typed: mpsc::Receiver<Vec<u8>>,
    has_ended: bool,
    /// Where the program has a terminal, and we have one.
    window: Option<Window>,
    escape: Escape,
    cancel: CancellationToken,
}

struct Window {
    changes: Signal,
    /// Whether its size is to be told.
    is_news: bool,
}

/// Our own terminal, each key of which goes to the program, until dropped.
pub(super) struct Raw {
    terminal: File,
    before: Termios,
}

impl Raw {
    /// Takes the terminal that we read from, where it is one.
    ///
    /// # Errors
    /// It cannot be set.
    pub(super) fn begin() -> anyhow::Result<Option<Raw>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let set = || -> io::Result<Raw> {
            let terminal = File::from(stdin.as_fd().try_clone_to_owned()?);
            let before = tcgetattr(&terminal)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&terminal, OptionalActions::Now, &raw)?;
            Ok(Raw { terminal, before })
        };
        set().map(Some).context("cannot take this terminal over")
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody left to be told.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

impl Keyboard {
    /// Reads our standard input from here on. `raw` where its keys are for a terminal of the program's.
    ///
    /// # Errors
    /// We cannot be told of another size.
    pub(super) fn listen(raw: bool, cancel: CancellationToken) -> anyhow::Result<Keyboard> {
        let (sender, typed) = mpsc::channel(WAITING);
        // A thread of its own, since a read of a terminal cannot be given up: it goes with the process.
        std::thread::spawn(move || {
            let (mut stdin, mut buffer) = (io::stdin().lock(), vec![0; CHUNK_BYTES]);
            while let Ok(length @ 1..) = stdin.read(&mut buffer) {
                if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let window = if raw {
            let changes =
                signal(SignalKind::window_change()).context("cannot wait for SIGWINCH")?;
            Some(Window { changes, is_news: true })
        } else {
            None
        };
        let escape = Escape::default();
        Ok(Keyboard { typed, has_ended: false, window, escape, cancel })
    }

    /// The next. Waits for ever when nothing more can come; may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            if let Some(window) = &mut self.window
                && std::mem::take(&mut window.is_news)
                && let Ok(size) = tcgetwinsize(io::stdin())
            {
                return Input::Resize(WindowSize { rows: size.ws_row, columns: size.ws_col });
            }
            let window = &mut self.window;
            let changed = async {
                match window {
                    Some(window) => window.is_news = window.changes.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            let typed = tokio::select! {
                () = changed => continue,
                typed = self.typed.recv(), if !self.has_ended => typed,
            };
            let Some(mut data) = typed else {
                self.has_ended = true;
                return Input::End;
            };
            if self.window.is_some() && self.escape.finds_itself_in(&mut data) {
                self.cancel.cancel();
            }
            if !data.is_empty() {
                return Input::Data { data: data.into() };
            }
        }
    }
}

/// `~.` at the beginning of a line ends the program, as it ends ssh; `~~` is one tilde.
#[derive(Debug, Default)]
struct Escape(At);

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Beginning,
    Tilde,
    Within,
}

impl Escape {
    /// Whether it is there; takes out what is not for the program.
    fn finds_itself_in(&mut self, data: &mut Vec<u8>) -> bool {
        let mut passed = Vec::with_capacity(data.len() + 1);
        let mut is_found = false;
        for byte in std::mem::take(data) {
            let is_held = self.0 == At::Beginning && byte == b'~';
            match (self.0, byte) {
                (At::Tilde, b'.') => {
                    is_found = true;
                    break;
                }
                // It stood for itself.
                (At::Tilde, other) if other != b'~' => passed.extend([b'~', other]),
                _ if is_held => {}
                (_, other) => passed.push(other),
            }
            self.0 = match byte {
                _ if is_held => At::Tilde,
                b'\r' | b'\n' => At::Beginning,
                _ => At::Within,
            };
        }
        *data = passed;
        is_found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_and_a_dot_at_the_beginning_of_a_line_end_it_however_they_come() {
        for (typed, passed, ends) in [
            (&["~."][..], "", true),
            (&["a\r", "~", "."], "a\r", true),
            (&["a~."], "a~.", false),
            (&["~~."], "~.", false),
            (&["~x\r~", "\r~."], "~x\r~\r", true),
            (&["x", "~.", "\n~y"], "x~.\n~y", false),
        ] {
            let (mut escape, mut all, mut found) = (Escape::default(), Vec::new(), false);
            for piece in typed {
                let mut data = piece.as_bytes().to_vec();
                found |= escape.finds_itself_in(&mut data);
                all.extend(data);
            }
            assert_eq!(
                (String::from_utf8_lossy(&all).as_ref(), found),
                (passed, ends),
                "{typed:?}"
            );
        }
    }
}
