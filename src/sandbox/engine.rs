//! The daemon's side of the sandbox: the launcher process, the slots, and the pipes of each job.

use std::{
    io::{self, IoSlice, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use nix::{
    fcntl::OFlag,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
    },
    unistd::pipe2,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::pipe},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    Caps, Job, Layer, Measured, SandboxConfig, SandboxError, Stream, launcher, sys,
    wire::{self, Facts, Order, Reply},
};
use crate::submission::StreamSummary;

/// The most that is read of a pipe at once: a pipe's default capacity.
const CHUNK_BYTES: usize = 64 << 10;

/// How much longer than its wall time a job's helper may take to build, clean up and answer.
const HELPER_GRACE: Duration = Duration::from_secs(30);

/// How long the launcher may take to look around; running newuidmap is its slowest step.
const GREETING_TIMEOUT: Duration = Duration::from_secs(20);

/// See [`super::Sandbox`].
#[derive(Debug)]
pub(super) struct Engine {
    config: SandboxConfig,
    /// What every helper and init polls: it ends with this process, however that ends, but not with
    /// a launcher. Dropped before the launcher, which waits for its helpers.
    alive: Liveness,
    launcher: Mutex<Launcher>,
    slots: Arc<Semaphore>,
    free: Arc<Mutex<Vec<u32>>>,
    jobs: AtomicU64,
}

/// A pipe that nobody writes to.
#[derive(Debug)]
struct Liveness {
    for_launchers: OwnedFd,
    _ours: OwnedFd,
}

/// The right to one jail at a time; gives the slot back when dropped.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    free: Arc<Mutex<Vec<u32>>>,
    _permit: OwnedSemaphorePermit,
}

impl Slot {
    /// Its number, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(self.number);
        // The permit goes after this, so whoever gets it finds a number.
    }
}

/// The launcher process. It ends by itself when our end of its socket is closed.
#[derive(Debug)]
struct Launcher {
    facts: Facts,
    /// `None` only while it is being dropped.
    orders: Option<OwnedFd>,
    child: Child,
}

impl Launcher {
    /// `first`: of this daemon, so that what it finds of an earlier one is to be ended.
    fn start(config: &SandboxConfig, alive: &OwnedFd, first: bool) -> io::Result<Launcher> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let (theirs, alive) = (sys::above(&theirs)?, sys::above(alive)?);
        let settings = launcher::Settings {
            instance: config.instance.clone(),
            slots: config.slots,
            first_uid: config.first_uid,
            without: config.without,
            first,
        };
        let mut command = Command::new(&config.executable);
        command
            .arg(launcher::ARGUMENT)
            .arg(serde_json::to_string(&settings)?)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        sys::pass_on(
            &mut command,
            [(&theirs, launcher::ORDERS_FD), (&alive, launcher::LIVENESS_FD)],
        );
        let child = command.spawn()?;
        drop((theirs, alive));
        let mut launcher = Launcher {
            facts: Facts {
                user_namespace: Err(String::new()),
                uid: Err(String::new()),
                cgroup: Err(String::new()),
            },
            orders: Some(ours.try_clone()?),
            child,
        };
        let socket = StdStream::from(ours);
        socket.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let mut text = vec![0; CHUNK_BYTES];
        let length = (&socket).read(&mut text)?;
        launcher.facts = serde_json::from_slice(&text[..length])
            .map_err(|_| io::Error::other("the launcher process ended at once"))?;
        Ok(launcher)
    }

    /// Asks for a helper that serves `control`.
    fn fork_helper(&self, control: &OwnedFd) -> io::Result<()> {
        let orders = self.orders.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        send_descriptors(orders, &[control.as_raw_fd()])
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.orders = None;
        // It has read end-of-file and is on its way out; this only collects its exit status.
        let _ = self.child.wait();
    }
}

fn send_descriptors(socket: &impl AsRawFd, descriptors: &[i32]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let byte = [IoSlice::new(&[0])];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &byte, &rights, flags, None)?;
    Ok(())
}

/// Our side of one job.
struct Pipes {
    control: UnixStream,
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

fn broken(error: io::Error) -> SandboxError {
    SandboxError::Broken(format!("the sandbox helper failed: {error}"))
}

impl Engine {
    pub(super) async fn start(config: SandboxConfig) -> Result<Arc<Engine>, SandboxError> {
        let (for_launchers, ours) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| broken(error.into()))?;
        let alive = Liveness { for_launchers, _ours: ours };
        let for_launcher = config.clone();
        let started = tokio::task::spawn_blocking(move || {
            Launcher::start(&for_launcher, &alive.for_launchers, true).map(|one| (one, alive))
        });
        let started = started.await.map_err(io::Error::other).and_then(|started| started);
        let (launcher, alive) = started.map_err(broken)?;
        if let Err(reason) = &launcher.facts.uid {
            return Err(SandboxError::Floor(reason.clone()));
        }
        let engine = Arc::new(Engine {
            launcher: Mutex::new(launcher),
            alive,
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            free: Arc::new(Mutex::new((0..config.slots).rev().collect())),
            jobs: AtomicU64::new(0),
            config,
        });
        engine.try_jail().await?;
        Ok(engine)
    }

    /// Builds one jail with nothing in it: the same way as any, up to the exec.
    async fn try_jail(&self) -> Result<(), SandboxError> {
        let caps = Caps {
            cpu_time: Duration::from_secs(5),
            wall_time: Duration::from_secs(10),
            memory_bytes: 64 << 20,
            processes: 8,
            output_keep: 0,
            output_kill: 1 << 20,
            disk_bytes: 1 << 20,
            inodes: 64,
            open_files: 64,
            stack_bytes: 8 << 20,
        };
        let (output, _) = mpsc::channel(1);
        let slot = self.slot().await;
        let job = Job { caps, ..Job::default() };
        match self.run(&slot, job, output, &CancellationToken::new()).await {
            Ok(measured) if measured.end == super::End::Exited(0) => Ok(()),
            Ok(measured) => {
                Err(SandboxError::Floor(format!("an empty jail ended as {:?}", measured.end)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn layers(&self) -> Vec<Layer> {
        let launcher = self.launcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let facts = &launcher.facts;
        let fixed = |name, detail: &str| Layer { name, active: true, detail: detail.to_owned() };
        let found = |name, fact: &Result<String, String>| Layer {
            name,
            active: fact.is_ok(),
            detail: fact.clone().unwrap_or_else(|why| why),
        };
        vec![
            fixed("namespaces", "own pid, mount, network, ipc and uts namespace for each run"),
            found("user_namespace", &facts.user_namespace),
            found("uid", &facts.uid),
            fixed("root", "own root by pivot_root, read-only but for a capped tmpfs"),
            fixed("network", "none but an own loopback"),
            fixed("capabilities", "none, and no_new_privs"),
            fixed("seccomp", "filter loaded before exec"),
            found("cgroup", &facts.cgroup),
        ]
    }

    pub(super) async fn slot(&self) -> Slot {
        let permit = Arc::clone(&self.slots).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop();
        let number = free.expect("there is a free number for each free permit");
        Slot { number, free: Arc::clone(&self.free), _permit: permit }
    }

    pub(super) async fn run(
        &self,
        slot: &Slot,
        job: Job,
        output: mpsc::Sender<(Stream, Bytes)>,
        cancel: &CancellationToken,
    ) -> Result<Measured, SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let pipes = self.begin().map_err(broken)?;
        let Pipes { control, mut stdin, stdout, stderr } = pipes;
        let caps = job.caps;
        let too_much = Notify::new();
        let feed = async {
            // The program may end, or close its stdin, before it has read all.
            let _ = stdin.write_all(&job.stdin.0).await;
            drop(stdin);
        };
        let out = read(stdout, Stream::Stdout, &caps, &output, &too_much);
        let err = read(stderr, Stream::Stderr, &caps, &output, &too_much);
        let order = self.order(slot, &job);
        let talk = converse(control, order, &job, &too_much, cancel);
        let (reply, (), out, err) = tokio::join!(talk, feed, out, err);
        let readings = match reply.map_err(broken)? {
            Reply::Done(readings) => readings,
            Reply::Cancelled => return Err(SandboxError::Cancelled),
            Reply::Exec(why) => return Err(SandboxError::Exec(why)),
            Reply::Floor(why) => return Err(SandboxError::Floor(why)),
            Reply::Collect(why) => return Err(SandboxError::Collect(why)),
            Reply::Broken(why) => return Err(SandboxError::Broken(why)),
        };
        Ok(Measured {
            end: readings.end,
            killed_for: readings.killed_for,
            oom_kills: readings.oom_kills,
            destroyed_sandbox: readings.destroyed_sandbox,
            cpu_time: readings.cpu_time,
            wall_time: readings.wall_time,
            memory_peak_bytes: readings.memory_peak_bytes,
            stdout: out,
            stderr: err,
            disk_used_bytes: readings.disk_used_bytes,
            disk_full: readings.disk_full,
        })
    }

    fn begin(&self) -> io::Result<Pipes> {
        let (ours, theirs) = StdStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        self.fork_helper(&theirs)?;
        drop(theirs);
        let (stdin_in, stdin_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_in, stdout_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_in, stderr_out) = pipe2(OFlag::O_CLOEXEC)?;
        let given = [stdin_in.as_raw_fd(), stdout_out.as_raw_fd(), stderr_out.as_raw_fd()];
        send_descriptors(&ours, &given)?;
        ours.set_nonblocking(true)?;
        Ok(Pipes {
            control: UnixStream::from_std(ours)?,
            stdin: pipe::Sender::from_owned_fd(stdin_out)?,
            stdout: pipe::Receiver::from_owned_fd(stdout_in)?,
            stderr: pipe::Receiver::from_owned_fd(stderr_in)?,
        })
    }

    /// Asks the launcher for a helper, and starts a new launcher where that one is gone.
    fn fork_helper(&self, control: &OwnedFd) -> io::Result<()> {
        let mut launcher = self.launcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if launcher.fork_helper(control).is_ok() {
            return Ok(());
        }
        tracing::warn!("the sandbox launcher is gone; starting another");
        *launcher = Launcher::start(&self.config, &self.alive.for_launchers, false)?;
        launcher.fork_helper(control)
    }

    fn order(&self, slot: &Slot, job: &Job) -> Order {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let lengths = job.files.iter().map(|file| (file.path.clone(), file.content.len() as u64));
        Order {
            name: format!("{}-{number}", slot.number),
            slot: slot.number,
            command: job.command.clone(),
            env: job.env.clone(),
            mounts: job.mounts.clone(),
            files: lengths.collect(),
            program: job.program.clone(),
            collect: job.collect.clone(),
            caps: job.caps,
        }
    }
}

/// The whole talk with one helper. The control socket is closed when it returns: a helper without a
/// daemon ends its jail, whatever went wrong.
async fn converse(
    mut control: UnixStream,
    order: Order,
    job: &Job,
    too_much: &Notify,
    cancel: &CancellationToken,
) -> io::Result<Reply> {
    send_order(&mut control, &order, job).await?;
    let told = await_reply(&mut control, too_much, cancel);
    match tokio::time::timeout(job.caps.wall_time + HELPER_GRACE, told).await {
        Ok(reply) => reply,
        Err(_) => Err(io::Error::other("no answer in time")),
    }
}

async fn send_order(control: &mut UnixStream, order: &Order, job: &Job) -> io::Result<()> {
    let json = serde_json::to_vec(order)?;
    control.write_all(&(json.len() as u32).to_le_bytes()).await?;
    control.write_all(&json).await?;
    for file in &job.files {
        control.write_all(&file.content).await?;
    }
    Ok(())
}

async fn await_reply(
    control: &mut UnixStream,
    too_much: &Notify,
    cancel: &CancellationToken,
) -> io::Result<Reply> {
    let (mut from, mut to) = control.split();
    let mut text = Vec::new();
    let mut asked = false;
    let read = from.read_to_end(&mut text);
    tokio::pin!(read);
    loop {
        tokio::select! {
            done = &mut read => { done?; break }
            () = too_much.notified(), if !asked => {
                asked = true;
                to.write_all(&[wire::KILL_FOR_OUTPUT]).await.or_else(too_late)?;
            }
            () = cancel.cancelled(), if !asked => {
                asked = true;
                to.write_all(&[wire::CANCEL]).await.or_else(too_late)?;
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

/// Reads one stream to its end, passes on what is to be kept and counts the rest.
async fn read(
    mut from: pipe::Receiver,
    stream: Stream,
    caps: &Caps,
    output: &mpsc::Sender<(Stream, Bytes)>,
    too_much: &Notify,
) -> StreamSummary {
    let (mut seen, mut kept) = (0u64, 0u64);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => seen += length as u64,
        }
        if seen > caps.output_kill {
            too_much.notify_one();
        }
        let room = (caps.output_keep - kept).min(buffer.len() as u64);
        let chunk = buffer.split_to(room as usize).freeze();
        buffer.clear();
        kept += room;
        if !chunk.is_empty() {
            // Without a receiver nobody wants the output, but the program must not hang on it.
            let _ = output.send((stream, chunk)).await;
        }
    }
    StreamSummary { bytes: seen, truncated: seen > kept }
}
