//! What reaches a job while it runs: its input, and signals.

use std::{collections::VecDeque, io};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::terminal::Terminal;
use crate::protocol::{Input, InputSignal, MAX_INPUT_BYTES};

/// Input that a program has not read yet and that signals may overtake; past it whoever sends waits.
const MOST_WAITING: usize = 4 * MAX_INPUT_BYTES;

/// Ctrl-D, which has a terminal give what it has of a line (VEOF in termios(3)): nothing at its beginning, which is
/// the end of input. Within a line it takes two.
const END_OF_INPUT: u8 = 4;

/// Where a job's input goes.
pub(super) struct Feed {
    /// None once it has ended.
    to: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The same, where it is one.
    terminal: Option<Terminal>,
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// The last byte that was added.
    last: Option<u8>,
    /// Whether input ends when nothing waits any more.
    ends: bool,
}

impl Feed {
    /// By a pipe.
    pub(super) fn of_pipe(pipe: impl AsyncWrite + Send + Unpin + 'static) -> Feed {
        Feed::new(Box::new(pipe), None)
    }

    /// By a terminal.
    pub(super) fn of_terminal(terminal: &Terminal) -> Feed {
        Feed::new(Box::new(terminal.clone()), Some(terminal.clone()))
    }

    fn new(to: Box<dyn AsyncWrite + Send + Unpin>, terminal: Option<Terminal>) -> Feed {
        Feed { to: Some(to), terminal, waiting: VecDeque::new(), bytes: 0, last: None, ends: false }
    }

    /// Feeds a job with what it was given beforehand, and then with what comes of `live`; signals go to `signals`.
    /// Returns when nothing more can come.
    pub(super) async fn run(
        mut self,
        first: Bytes,
        live: Option<mpsc::Receiver<Input>>,
        signals: &mpsc::Sender<InputSignal>,
    ) {
        self.add(first);
        let Some(mut live) = live else { return self.end_and_write().await };
        loop {
            tokio::select! {
                written = write(&mut self.to, &self.waiting), if !self.waiting.is_empty() => self.wrote(written),
                input = live.recv(), if self.bytes < MOST_WAITING => match input {
                    Some(Input::Data { data }) => self.add(data.0),
                    Some(Input::End) => self.end(),
                    Some(Input::Resize(size)) => {
                        if let Some(terminal) = &self.terminal {
                            terminal.resize(size);
                        }
                    }
                    // One of very many is lost, and one for a job that has ended.
                    Some(Input::Signal { signal }) => drop(signals.try_send(signal)),
                    None => return self.end_and_write().await,
                },
            }
        }
    }

    async fn end_and_write(mut self) {
        self.end();
        while !self.waiting.is_empty() {
            let written = write(&mut self.to, &self.waiting).await;
            self.wrote(written);
        }
    }

    fn add(&mut self, data: Bytes) {
        if self.to.is_some() && !self.ends && !data.is_empty() {
            self.bytes += data.len();
            self.last = data.last().copied();
            self.waiting.push_back(data);
        }
    }

    fn end(&mut self) {
        match &self.terminal {
            Some(_) => {
                // As far as can be told: behind a key that ends or clears a line it is not.
                let is_within = matches!(self.last, Some(b'\t' | b' '..=b'~' | 0x80..));
                let keys: &[u8] = if is_within { &[END_OF_INPUT; 2] } else { &[END_OF_INPUT] };
                self.add(Bytes::from_static(keys));
            }
            None => {
                self.ends = true;
                self.close_if_ended();
            }
        }
    }

    fn wrote(&mut self, written: io::Result<usize>) {
        let Some(front) = self.waiting.front_mut() else { return };
        match written {
            Ok(length) => {
                self.bytes -= length;
                front.advance(length);
                if front.is_empty() {
                    self.waiting.pop_front();
                }
                self.close_if_ended();
            }
            // The program has ended, or closed its input, before it has read all.
            Err(_) => {
                (self.to, self.bytes) = (None, 0);
                self.waiting.clear();
            }
        }
    }

    fn close_if_ended(&mut self) {
        if self.ends && self.waiting.is_empty() {
            self.to = None;
        }
    }
}

/// Writes some of what waits.
async fn write(
    to: &mut Option<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: &VecDeque<Bytes>,
) -> io::Result<usize> {
    match (to, waiting.front()) {
        (Some(to), Some(front)) => match to.write(front).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            length => Ok(length),
        },
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
