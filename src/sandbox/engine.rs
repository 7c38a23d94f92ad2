//! The daemon's side of the sandbox: the launcher process, the slots, and the pipes of each job.

mod ahead;
mod feed;
mod job;
mod launcher_process;
mod pipes;
mod terminal;

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use nix::{fcntl::OFlag, unistd::pipe2};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::{
    ahead::Waiting,
    job::{Done, follow, key, order},
    launcher_process::Launcher,
    pipes::{Ends, still_waits},
};
use super::{
    Ahead, Caps, Job, Layer, Measured, SandboxConfig, SandboxError, Stream, bare, cgroup,
    wire::{self, Handover, Message, Order, Reply, Seat},
};
use crate::protocol::Input;

/// See [`super::Sandbox`].
#[derive(Debug)]
pub(super) struct Engine {
    config: SandboxConfig,
    /// Why there is no floor, where jobs run all the same.
    lifted: Option<String>,
    /// By slot, the control socket of a helper that has prepared a jail and waits for a job.
    prepared: Mutex<Vec<Option<StdStream>>>,
    /// Interpreters that were started ahead and wait for a program.
    waiting: Mutex<Waiting>,
    /// How many of them were given one.
    handed_over: AtomicU64,
    /// What every helper and init polls: it ends with this process, however that ends, but not with
    /// a launcher. Like the helpers that wait, dropped before the launcher, which waits for its helpers.
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

/// The seat of an interpreter that was taken; given back when dropped.
struct TakenSeat<'a> {
    waiting: &'a Mutex<Waiting>,
    seat: u32,
}

impl Drop for TakenSeat<'_> {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).give_back(self.seat);
    }
}

fn broken(error: io::Error) -> SandboxError {
    SandboxError::Broken(format!("the sandbox helper failed: {error}"))
}

impl Engine {
    /// `lifted`: jobs run without a jail, since this machine has no floor for this reason. `trial`: a
    /// jail is tried first.
    pub(super) async fn start(
        config: SandboxConfig,
        lifted: Option<String>,
        trial: bool,
    ) -> Result<Arc<Engine>, SandboxError> {
        let (for_launchers, ours) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| broken(error.into()))?;
        let alive = Liveness { for_launchers, _ours: ours };
        let for_launcher = config.clone();
        let bare = lifted.is_some();
        let started = tokio::task::spawn_blocking(move || {
            Launcher::start(&for_launcher, &alive.for_launchers, bare, true).map(|one| (one, alive))
        });
        let started = started.await.map_err(io::Error::other).and_then(|started| started);
        let (launcher, alive) = started.map_err(broken)?;
        if let Err(reason) = &launcher.facts.uid {
            return Err(SandboxError::Floor(reason.clone()));
        }
        let engine = Arc::new(Engine {
            prepared: Mutex::new((0..config.slots).map(|_| None).collect()),
            waiting: Mutex::new(Waiting::new(
                config.slots..config.seats(),
                if lifted.is_some() { 0 } else { config.prepared_bytes },
                config.slots as usize,
            )),
            handed_over: AtomicU64::new(0),
            launcher: Mutex::new(launcher),
            alive,
            slots: Arc::new(Semaphore::new(config.slots as usize)),
            free: Arc::new(Mutex::new((0..config.slots).rev().collect())),
            jobs: AtomicU64::new(0),
            lifted,
            config,
        });
        if trial {
            engine.try_jail().await?;
        }
        // Where one was tried, the first slot's next jail was asked for when that ended.
        (u32::from(trial)..engine.config.slots)
            .try_for_each(|slot| engine.prepare(slot))
            .map_err(broken)?;
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
        let job = Job { caps, followed: true, ..Job::default() };
        match self.run(&slot, job, None, output, &CancellationToken::new()).await {
            Ok(measured) if measured.end == super::End::Exited(0) => Ok(()),
            Ok(measured) => {
                Err(SandboxError::Floor(format!("an empty jail ended as {:?}", measured.end)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn lifted(&self) -> Option<&str> {
        self.lifted.as_deref()
    }

    pub(super) fn layers(&self) -> Vec<Layer> {
        let launcher = self.launcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let facts = &launcher.facts;
        let fixed = |name: &str, detail: &str| Layer {
            name: name.to_owned(),
            active: true,
            detail: detail.to_owned(),
        };
        if let Some(why) = &self.lifted {
            return bare::layers(why, &facts.cgroup);
        }
        let found = |name: &str, fact: &Result<String, String>| Layer {
            name: name.to_owned(),
            active: fact.is_ok(),
            detail: fact.clone().unwrap_or_else(|why| why),
        };
        vec![
            fixed(
                "namespaces",
                "own pid, mount, ipc and uts namespace for each run, and a network that no other has used",
            ),
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
        live: Option<mpsc::Receiver<Input>>,
        output: mpsc::Sender<(Stream, Bytes)>,
        cancel: &CancellationToken,
    ) -> Result<Measured, SandboxError> {
        if cancel.is_cancelled() {
            return Err(SandboxError::Cancelled);
        }
        let order = order(&job);
        // What was sent to one that has ended meanwhile could not be sent again.
        let key = if live.is_none() { key(&job, &order) } else { None };
        if let Some(key) = &key
            && let Some(ahead) = &job.ahead
            && let Some(done) =
                self.run_by_interpreter((key, ahead), &job, &order, &output, cancel).await
        {
            return done;
        }
        let ends = self.helper(slot.number).and_then(|helper| Ends::open(helper, job.tty));
        let pipes = ends.and_then(Ends::follow);
        let message = Message::order(&order, &job).map_err(broken)?;
        let done = follow(pipes.map_err(broken)?, &message, &job, live, &output, cancel).await;
        let wanted = job.followed || !self.config.for_one_request;
        if wanted && let Err(error) = self.prepare(slot.number) {
            // The next job of this slot asks again, and waits for it.
            tracing::debug!(%error, "cannot prepare a jail");
        }
        self.start_ahead(key.as_deref(), &job, &order);
        done?.measured()
    }

    /// Runs a job in the jail of an interpreter that waits for it; `None` when there is none.
    async fn run_by_interpreter(
        &self,
        (key, ahead): (&str, &Ahead),
        job: &Job,
        order: &Order,
        output: &mpsc::Sender<(Stream, Bytes)>,
        cancel: &CancellationToken,
    ) -> Option<Result<Measured, SandboxError>> {
        let (seat, ends) = self.lock_waiting().take(key, Instant::now())?;
        let seat = TakenSeat { waiting: &self.waiting, seat };
        let (files, program) = (wire::lengths(&job.files), wire::lengths(&ahead.program));
        let handover = Handover { files, program, take: job.take.clone(), caps: job.caps };
        let message = Message::handover(&handover, job, ahead);
        let done = match message.and_then(|message| Ok((message, ends.follow()?))) {
            Ok((message, pipes)) => follow(pipes, &message, job, None, output, cancel).await,
            Err(error) => Err(broken(error)),
        };
        drop(seat);
        self.start_ahead(Some(key), job, order);
        match done {
            // It ended just then, and nothing was run.
            Ok(Done { reply: Reply::Gone, .. }) => None,
            done => {
                self.handed_over.fetch_add(1, Ordering::Relaxed);
                Some(done.and_then(Done::measured))
            }
        }
    }

    /// Starts an interpreter for the next job like this one, where there is to be one and room for it. Does
    /// not wait for it.
    fn start_ahead(&self, key: Option<&str>, job: &Job, order: &Order) {
        let Some((key, ahead)) = key.zip(job.ahead.as_ref()) else { return };
        let now = Instant::now();
        let Some(seat) = self.lock_waiting().seat_for(key, ahead.memory_bytes, now) else {
            return;
        };
        let awaited = Some(ahead.awaited.clone());
        let (files, take) = (Vec::new(), Vec::new());
        let order = Order { files, take, program: None, awaited, ..order.clone() };
        let started = self.ask_for_helper(seat).and_then(|helper| {
            let ends = Ends::open(helper, false)?;
            ends.start(&order)?;
            Ok(ends)
        });
        let mut waiting = self.lock_waiting();
        match started {
            Ok(ends) => waiting.put(key.to_owned(), seat, ahead.memory_bytes, ends, now),
            Err(error) => {
                tracing::debug!(%error, "cannot start an interpreter ahead");
                waiting.give_back(seat);
            }
        }
    }

    /// How many jobs were given to an interpreter that was started before them.
    pub(super) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// The control socket of a helper for the next job of a slot: of one that waits, or a new one.
    fn helper(&self, slot: u32) -> io::Result<StdStream> {
        let waiting = self.lock_prepared()[slot as usize].take();
        match waiting {
            Some(helper) if still_waits(&helper) => Ok(helper),
            _ => self.ask_for_helper(slot),
        }
    }

    /// Has a jail made for the next job of a slot. Does not wait for it.
    fn prepare(&self, slot: u32) -> io::Result<()> {
        let helper = self.ask_for_helper(slot)?;
        self.lock_prepared()[slot as usize] = Some(helper);
        Ok(())
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn lock_prepared(&self) -> MutexGuard<'_, Vec<Option<StdStream>>> {
        self.prepared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Asks the launcher for a helper, and starts a new launcher where that one is gone.
    fn ask_for_helper(&self, slot: u32) -> io::Result<StdStream> {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { slot, name: cgroup::job_name(slot, number) };
        let (ours, theirs) = StdStream::pair()?;
        let theirs = OwnedFd::from(theirs);
        let mut launcher = self.launcher.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if launcher.fork_helper(&theirs, &seat).is_err() {
            tracing::warn!("the sandbox launcher is gone; starting another");
            let bare = self.lifted.is_some();
            let next = Launcher::start(&self.config, &self.alive.for_launchers, bare, false)?;
            if next.facts != launcher.facts {
                tracing::warn!(facts = ?next.facts, "the sandbox is not what it was");
            }
            *launcher = next;
            launcher.fork_helper(&theirs, &seat)?;
        }
        Ok(ours)
    }
}
