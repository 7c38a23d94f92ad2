//! The daemon's side of one job: the talk with its helper, and its three pipes or its terminal.

use std::{
    io::{self, Write as _},
    net::Shutdown,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::socket::{MsgFlags, recv},
    unistd::pipe2,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    ahead::Helper,
    feed::Feed,
    launcher_process::send_descriptors,
    terminal::{self, Terminal},
};
use crate::{
    protocol::InputSignal,
    sandbox::{
        Caps, Job, Stream,
        wire::{self, Message, Order, Reply},
    },
    submission::StreamSummary,
};

/// The most that is read of a pipe at once: a pipe's default capacity.
const CHUNK_BYTES: usize = 64 << 10;

/// What is read of a pipe and is no larger than this is copied.
const SMALL_BYTES: u64 = 4 << 10;

/// How much longer than its wall time a job's helper may take to build, clean up and answer.
const HELPER_GRACE: Duration = Duration::from_secs(30);

/// Our side of a job whose helper has its ends, and which nobody follows yet.
#[derive(Debug)]
pub(super) struct Ends {
    control: StdStream,
    ours: Ours,
}

#[derive(Debug)]
enum Ours {
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { ours: OwnedFd, theirs: OwnedFd },
}

/// Our side of one job.
pub(super) struct Pipes {
    pub(super) control: UnixStream,
    pub(super) feed: Feed,
    pub(super) outputs: Vec<(Stream, OutputReader)>,
    /// The job's side of its terminal. Without it, a program that closes all that it has of that would end it,
    /// for good and in the midst of its run; so it is kept until the jail has ended.
    pub(super) kept: Option<OwnedFd>,
}

/// What one stream of a job is read from.
pub(super) type OutputReader = Box<dyn AsyncRead + Send + Unpin>;

impl Ends {
    /// Makes the pipes, or the terminal, and sends the helper its ends.
    pub(super) fn open(control: StdStream, tty: bool) -> io::Result<Ends> {
        if tty {
            let (ours, theirs) = terminal::open()?;
            send_descriptors(&control, &[0], &[theirs.as_raw_fd(); 3])?;
            return Ok(Ends { control, ours: Ours::Terminal { ours, theirs } });
        }
        let (stdin_in, stdin_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_in, stdout_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_in, stderr_out) = pipe2(OFlag::O_CLOEXEC)?;
        let given = [stdin_in.as_raw_fd(), stdout_out.as_raw_fd(), stderr_out.as_raw_fd()];
        send_descriptors(&control, &[0], &given)?;
        let ours = Ours::Pipes { stdin: stdin_out, stdout: stdout_in, stderr: stderr_in };
        Ok(Ends { control, ours })
    }

    /// Has the helper start its interpreter.
    pub(super) fn start(&self, order: &Order) -> io::Result<()> {
        // It takes a few KiB without a reader, and a helper reads as soon as its jail is built.
        (&self.control).write_all(&wire::encoded(order)?)
    }

    /// Follows them from here on.
    pub(super) fn follow(self) -> io::Result<Pipes> {
        self.control.set_nonblocking(true)?;
        let control = UnixStream::from_std(self.control)?;
        let reader = |fd| Ok::<_, io::Error>(Box::new(pipe::Receiver::from_owned_fd(fd)?));
        Ok(match self.ours {
            Ours::Pipes { stdin, stdout, stderr } => Pipes {
                control,
                feed: Feed::of_pipe(pipe::Sender::from_owned_fd(stdin)?),
                outputs: vec![(Stream::Stdout, reader(stdout)?), (Stream::Stderr, reader(stderr)?)],
                kept: None,
            },
            Ours::Terminal { ours, theirs } => {
                let terminal = Terminal::new(ours)?;
                let feed = Feed::of_terminal(&terminal);
                let outputs = vec![(Stream::Stdout, Box::new(terminal) as OutputReader)];
                Pipes { control, feed, outputs, kept: Some(theirs) }
            }
        })
    }
}

impl Helper for Ends {
    fn waits(&self) -> bool {
        still_waits(&self.control)
    }

    fn dismiss(&self) {
        // One that has gone is dismissed as well.
        let _ = self.control.shutdown(Shutdown::Write);
    }

    fn has_ended(&self) -> bool {
        // What it says, it says at its end.
        let mut rest = [0; 1024];
        loop {
            match recv(self.control.as_raw_fd(), &mut rest, MsgFlags::MSG_DONTWAIT) {
                Ok(1..) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return false,
                Ok(0) | Err(_) => return true,
            }
        }
    }
}

/// A helper says nothing before it has a job: what can be read is its end.
pub(super) fn still_waits(control: &StdStream) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(control.as_raw_fd(), &mut [0], flags) == Err(Errno::EAGAIN)
}

/// What a helper may be asked for while its job runs.
pub(super) struct Asked<'a> {
    /// Told when the job has written more than it may.
    pub(super) too_much: &'a Notify,
    pub(super) cancel: &'a CancellationToken,
    /// For the job.
    pub(super) signals: &'a mut mpsc::Receiver<InputSignal>,
}

/// The whole talk with one helper, which is given an order or a handover. The control
/// socket is closed when it returns: a helper without a daemon ends its jail, whatever went wrong.
pub(super) async fn converse(
    mut control: UnixStream,
    message: &Message,
    job: &Job,
    asked: Asked<'_>,
) -> io::Result<Reply> {
    // One that has ended says why; it is read below.
    send(&mut control, message).await.or_else(too_late)?;
    let told = await_reply(&mut control, asked);
    match tokio::time::timeout(job.caps.wall_time + HELPER_GRACE, told).await {
        Ok(reply) => reply,
        Err(_) => Err(io::Error::other("no answer in time")),
    }
}

async fn send(control: &mut UnixStream, message: &Message) -> io::Result<()> {
    control.write_all(&message.head).await?;
    for content in &message.contents {
        control.write_all(content).await?;
    }
    Ok(())
}

async fn await_reply(
    control: &mut UnixStream,
    Asked { too_much, cancel, signals }: Asked<'_>,
) -> io::Result<Reply> {
    let (mut from, mut to) = control.split();
    let mut text = Vec::new();
    let mut asked = false;
    let read = from.read_to_end(&mut text);
    tokio::pin!(read);
    // Not written yet: a helper that answers reads nothing any more, and must be read all the same.
    let mut unsaid = Vec::new();
    loop {
        tokio::select! {
            // A helper that ends with our last word unread resets the socket behind its answer.
            done = &mut read => { done.map(drop).or_else(too_late)?; break }
            said = to.write(&unsaid), if !unsaid.is_empty() => match said {
                Ok(length) => drop(unsaid.drain(..length)),
                Err(error) => { too_late(error)?; unsaid.clear(); }
            },
            () = too_much.notified(), if !asked => {
                asked = true;
                unsaid.push(wire::KILL_FOR_OUTPUT);
            }
            () = cancel.cancelled(), if !asked => {
                asked = true;
                unsaid.push(wire::CANCEL);
            }
            Some(signal) = signals.recv(), if unsaid.is_empty() => {
                unsaid.extend(wire::signal(signal));
            }
        }
    }
    serde_json::from_slice(&text).map_err(|_| io::Error::other("it ended without an answer"))
}

/// A helper that has just answered does not listen any more; its answer is still to be read.
fn too_late(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error),
    }
}

/// Reads all streams to their ends, each when it is woken: in the order in which the pipes could be read,
/// not in one of our own, so that what was written first goes on first.
pub(super) async fn read_all(
    outputs: Vec<(Stream, OutputReader)>,
    caps: &Caps,
    output: &mpsc::Sender<(Stream, Bytes)>,
    too_much: &Notify,
    ended: &CancellationToken,
) -> [StreamSummary; 2] {
    let read =
        async |(stream, from)| (stream, read(from, stream, caps, output, too_much, ended).await);
    let mut reads: FuturesUnordered<_> = outputs.into_iter().map(read).collect();
    let mut summaries = [StreamSummary::default(); 2];
    while let Some((stream, summary)) = reads.next().await {
        summaries[stream as usize] = summary;
    }
    summaries
}

/// Reads one stream to its end, passes on what is to be kept and counts the rest. `ended` says that the
/// jail has ended.
async fn read(
    mut from: OutputReader,
    stream: Stream,
    caps: &Caps,
    output: &mpsc::Sender<(Stream, Bytes)>,
    too_much: &Notify,
    ended: &CancellationToken,
) -> StreamSummary {
    let (mut seen, mut kept) = (0u64, 0u64);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => seen += length as u64,
        }
        let is_too_much = seen > caps.output_kill;
        if is_too_much {
            too_much.notify_one();
        }
        let room = (caps.output_keep - kept).min(buffer.len() as u64);
        // A few bytes must not keep a whole buffer alive, nor cost the next read another one.
        let chunk = if room <= SMALL_BYTES {
            Bytes::copy_from_slice(&buffer[..room as usize])
        } else {
            buffer.split_to(room as usize).freeze()
        };
        buffer.clear();
        kept += room;
        if !chunk.is_empty() {
            // Without a receiver nobody wants the output, but the program must not hang on it.
            let _ = output.send((stream, chunk)).await;
        }
        if is_too_much {
            // It stands still at a full pipe until it is killed, however long that takes on a busy machine.
            ended.cancelled().await;
        }
    }
    StreamSummary { bytes: seen, truncated: seen > kept }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// What is passed on of two writes, of which the first goes to this stream.
    async fn passed_on(first: Stream) -> Vec<(Stream, Bytes)> {
        let open = || {
            let (from, to) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
            let from: OutputReader = Box::new(pipe::Receiver::from_owned_fd(from).expect("a pipe"));
            (from, File::from(to))
        };
        let ((stdout, mut out), (stderr, mut err)) = (open(), open());
        let caps = Caps { output_keep: 100, output_kill: 100, ..Caps::default() };
        let (sender, mut chunks) = mpsc::channel(8);
        let (too_much, ended) = (Notify::new(), CancellationToken::new());
        let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        let read = read_all(outputs, &caps, &sender, &too_much, &ended);
        let write = async {
            // Both are waited for by now, and nobody looks at them before all is written.
            let (first, second) = match first {
                Stream::Stdout => (&mut out, &mut err),
                Stream::Stderr => (&mut err, &mut out),
            };
            first.write_all(b"first").expect("room");
            second.write_all(b"second").expect("room");
            drop((out, err));
        };
        tokio::join!(read, write);
        vec![chunks.recv().await.expect("a write"), chunks.recv().await.expect("another")]
    }

    #[tokio::test]
    async fn what_is_written_first_goes_on_first() {
        for (first, second) in [(Stream::Stdout, Stream::Stderr), (Stream::Stderr, Stream::Stdout)]
        {
            let wanted = [(first, Bytes::from("first")), (second, Bytes::from("second"))];
            assert_eq!(passed_on(first).await, wanted);
        }
    }
}
