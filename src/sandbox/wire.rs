//! What the daemon and a helper say to each other over the control socket of one job.
//!
//! A helper is asked for with its [`Seat`], and builds its jail. What follows may come much later.
//! Daemon to helper: one byte with three descriptors (stdin, stdout, stderr), then a length (u32,
//! little-endian), the [`Order`] as JSON of that length, then the contents of the files one after the
//! other. An order may be for an interpreter that is to wait for its program: then its files, and the
//! limits of the run, come later, as a [`Handover`] in the same form. While the job runs: single bytes,
//! [`KILL_FOR_OUTPUT`] or [`CANCEL`], or [`SIGNAL`] and its number; end-of-file means that the daemon is
//! gone. Helper to daemon: one [`Reply`] as JSON, then end-of-file.

use std::{
    io::{self, IoSliceMut, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::{
    signal::Signal,
    socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Ahead, Cap, Caps, End, JailFile, Job, Space, Taken, sys};
use crate::{protocol::InputSignal, submission::Blob};

/// The daemon has seen more output than the job may write.
pub(super) const KILL_FOR_OUTPUT: u8 = b'O';
/// Nobody wants the result; kill, clean up and say so.
pub(super) const CANCEL: u8 = b'C';

/// The program is to get a signal, whose number is the next byte.
pub(super) const SIGNAL: u8 = b'S';

/// As it is said.
pub(super) fn signal(signal: InputSignal) -> [u8; 2] {
    let signal = match signal {
        InputSignal::Hup => Signal::SIGHUP,
        InputSignal::Int => Signal::SIGINT,
        InputSignal::Quit => Signal::SIGQUIT,
        InputSignal::Kill => Signal::SIGKILL,
        InputSignal::Usr1 => Signal::SIGUSR1,
        InputSignal::Usr2 => Signal::SIGUSR2,
        InputSignal::Term => Signal::SIGTERM,
        InputSignal::Stop => Signal::SIGSTOP,
        InputSignal::Cont => Signal::SIGCONT,
    };
    [SIGNAL, signal as u8]
}

/// The most that an order without its files may be: arguments and environment are a few hundred KiB.
const MAX_ORDER_BYTES: u32 = 16 << 20;

/// The most that a [`Seat`] is long: two names.
pub(super) const MAX_SEAT_BYTES: usize = 256;

/// A job, without its files' contents.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    /// Empty: only find out whether a jail can be built.
    pub(super) command: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) mounts: Vec<Shown>,
    /// Path and length of each file.
    pub(super) files: Vec<(String, u64)>,
    pub(super) program: Option<PathBuf>,
    pub(super) collect: Option<PathBuf>,
    pub(super) collects_cache: bool,
    /// Paths in /box of what is to be taken at the end.
    pub(super) take: Vec<String>,
    /// Whether its three descriptors are a terminal.
    pub(super) tty: bool,
    pub(super) caps: Caps,
    /// Of an interpreter that is started ahead: the file, in /box or /program, whose content it is to wait for.
    pub(super) awaited: Option<PathBuf>,
}

/// What an interpreter that waits is given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Handover {
    /// Path and length of each file in /box.
    pub(super) files: Vec<(String, u64)>,
    /// The same in /program. The awaited one is among these or those.
    pub(super) program: Vec<(String, u64)>,
    /// As in an [`Order`].
    pub(super) take: Vec<String>,
    /// Of the run; what the kernel was told of them is the same.
    pub(super) caps: Caps,
}

/// A file or folder of the host that a jail shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shown {
    /// On the host, links followed.
    pub(super) source: PathBuf,
    /// In the jail.
    pub(super) target: PathBuf,
}

impl Shown {
    /// A path of the host under its own name; `None` when it is not there.
    pub(super) fn find(path: &Path) -> Option<Shown> {
        Some(Shown { source: path.canonicalize().ok()?, target: path.to_owned() })
    }
}

/// What a helper is told before there is a job for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) slot: u32,
    /// Unique in this instance, and begins with the slot: names the job's cgroup.
    pub(super) name: String,
}

/// How a job ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done(Readings),
    Cancelled,
    /// The interpreter that was started ahead is not there any more; nothing was run.
    Gone,
    /// The command cannot be executed: errno's text.
    Exec(String),
    Floor(String),
    Collect(String),
    Broken(String),
}

/// What was measured in the jail; the daemon adds what it saw of the output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Readings {
    pub(super) end: End,
    pub(super) killed_for: Option<Cap>,
    pub(super) oom_kills: u64,
    pub(super) destroyed_sandbox: bool,
    pub(super) cpu_time: Duration,
    pub(super) wall_time: Duration,
    pub(super) memory_peak_bytes: u64,
    pub(super) disk_used_bytes: u64,
    pub(super) disk_full: Option<Space>,
    pub(super) taken: Vec<Taken>,
}

/// What the launcher found on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) user_namespace: Result<String, String>,
    pub(super) uid: Result<String, String>,
    pub(super) cgroup: Result<String, String>,
}

/// Receives at most `bytes.len()` bytes, how many, and the descriptors sent with them; no bytes at
/// end-of-file.
pub(super) fn receive_descriptors(
    socket: &impl AsRawFd,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([i32; 3]);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            descriptors.extend(numbers.into_iter().map(sys::adopt));
        }
    }
    Ok((message.bytes, descriptors))
}

/// An order with everything that belongs to it.
pub(super) struct Received {
    pub(super) order: Order,
    pub(super) stdio: [OwnedFd; 3],
    pub(super) contents: Vec<Vec<u8>>,
}

/// Waits for an order and reads all of it; `None` when none will come.
pub(super) fn receive_order(control: &mut UnixStream) -> io::Result<Option<Received>> {
    let (bytes, descriptors) = receive_descriptors(control, &mut [0])?;
    if bytes == 0 {
        return Ok(None);
    }
    let stdio = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| io::Error::other("an order comes with three descriptors"))?;
    let order: Order = receive_json(control)?;
    let contents = receive_contents(control, &order.files)?;
    Ok(Some(Received { order, stdio, contents }))
}

/// Reads a handover, of which something has come, with the contents of its files.
pub(super) fn receive_handover(control: &mut UnixStream) -> io::Result<(Handover, Vec<Vec<u8>>)> {
    let handover: Handover = receive_json(control)?;
    let mut contents = receive_contents(control, &handover.files)?;
    contents.extend(receive_contents(control, &handover.program)?);
    Ok((handover, contents))
}

fn receive_json<T: DeserializeOwned>(control: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ORDER_BYTES {
        return Err(io::Error::other("the order is too long"));
    }
    let mut json = vec![0; length as usize];
    control.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

fn receive_contents(control: &mut UnixStream, files: &[(String, u64)]) -> io::Result<Vec<Vec<u8>>> {
    let mut contents = Vec::with_capacity(files.len());
    for (_, length) in files {
        let mut content = vec![0; *length as usize];
        control.read_exact(&mut content)?;
        contents.push(content);
    }
    Ok(contents)
}

/// An order or a handover as it is sent.
pub(super) struct Message {
    pub(super) head: Vec<u8>,
    /// Of its files, in their order.
    pub(super) contents: Vec<Blob>,
}

impl Message {
    pub(super) fn order(order: &Order, job: &Job) -> io::Result<Message> {
        Message::new(order, &[&job.files])
    }

    pub(super) fn handover(handover: &Handover, job: &Job, ahead: &Ahead) -> io::Result<Message> {
        Message::new(handover, &[&job.files, &ahead.program])
    }

    fn new(head: &impl Serialize, files: &[&Vec<JailFile>]) -> io::Result<Message> {
        let contents = files.iter().copied().flatten().map(|file| file.content.clone()).collect();
        Ok(Message { head: encoded(head)?, contents })
    }
}

/// Path and length of each file.
pub(super) fn lengths(files: &[JailFile]) -> Vec<(String, u64)> {
    files.iter().map(|file| (file.path.clone(), file.content.len() as u64)).collect()
}

/// An order or a handover without files' contents.
pub(super) fn encoded(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    Ok([&(json.len() as u32).to_le_bytes()[..], &json].concat())
}
