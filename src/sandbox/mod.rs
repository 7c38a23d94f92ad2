//! One process on this machine, under limits, in a jail of its own.
//!
//! The runner is the only caller. See `docs/sandbox.md` for what the jail promises.
//!
//! ```text
//! daemon (engine) ── launcher ──┬─ helper ──┬─ init      PID 1 of the jail
//!   pipes: stdin stdout stderr  │ (monitor) └─ program
//!                               └─ helper ── ...          one for each job
//! ```
//!
//! The daemon asks the launcher for a helper and talks to it over a socket of the job's own (`wire`);
//! the helper makes the namespaces and the file tree (`jail`), forks `init` and `program`, and watches
//! them (`monitor`) with what `cgroup` or `proc_tree` counts. Whoever dies takes what it started along.
//! Where no jail can be made and that is accepted, `bare` stands in for `helper`.

mod bare;
mod cgroup;
mod collect;
mod engine;
mod handover;
mod helper;
mod init;
mod jail;
mod launcher;
mod monitor;
mod network;
mod proc_tree;
mod program;
mod seccomp;
mod sys;
mod take;
mod wire;

pub use engine::Slot;
pub use launcher::launch_if_asked;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::Input,
    submission::{Blob, StreamSummary},
};

/// The most bytes that a job leaves in its [`Job::collect`] folder.
pub const MAX_COLLECTED_BYTES: u64 = collect::MAX_BYTES;

/// The most files of its work directory that are taken of a job.
pub const MAX_TAKEN_FILES: usize = 32;

/// The most bytes that these are together.
pub const MAX_TAKEN_BYTES: u64 = 4 << 20;

/// The name of the [`Layer`] that stands for all that no jail can do without.
pub const FLOOR: &str = "floor";

/// Interpreters that may wait, for each slot.
const WAITING_FOR_EACH_SLOT: u32 = 2;
/// And in all.
const MOST_WAITING: u32 = 64;

/// How the sandbox of this machine is set up.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// 8 hex digits that name this instance in cgroups and folders.
    pub instance: String,
    /// Jails at once; each has a uid of its own.
    pub slots: u32,
    /// As root, slot n runs as this uid and gid plus n on the host. Default 60000.
    pub first_uid: u32,
    /// The braindrill executable, which becomes the launcher: the daemon's own.
    pub executable: PathBuf,
    /// It is for one request and ends with it: no jail is tried before the first is wanted, which shows
    /// as well whether there can be one, and none is made ahead but where [`Job::followed`] says so.
    pub for_one_request: bool,
    /// Bytes of memory that interpreters may take up which are started before there is a program for
    /// them, as their languages state it. 0: none is.
    pub prepared_bytes: u64,
    /// Layers not to use even where the machine has them, to test the weaker forms.
    pub without: Without,
}

/// Layers that are left out. Nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without {
    /// No cgroup: CPU and memory are summed over processes.
    pub cgroup: bool,
    /// No user namespace for programs: as root, real uids.
    pub user_namespace: bool,
}

impl SandboxConfig {
    /// The first host uid of jails unless configured.
    pub const FIRST_UID: u32 = 60_000;

    /// Jails at once, each with a uid: those of the slots, and those of interpreters that wait.
    pub fn seats(&self) -> u32 {
        let is_ahead = self.prepared_bytes > 0 && !self.for_one_request;
        SandboxConfig::seats_for(self.slots, is_ahead)
    }

    /// The same of so many slots, with or without interpreters that wait.
    pub const fn seats_for(slots: u32, is_ahead: bool) -> u32 {
        let waiting = if is_ahead { WAITING_FOR_EACH_SLOT.saturating_mul(slots) } else { 0 };
        // `min` of Ord is not const.
        slots.saturating_add(if waiting < MOST_WAITING { waiting } else { MOST_WAITING })
    }
}

/// This machine's sandbox. Cheap to clone; the launcher ends with the last clone.
#[derive(Debug, Clone)]
pub struct Sandbox {
    engine: Arc<engine::Engine>,
}

/// What to run, and under which limits.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// Absolute path of the program as seen in the jail, then its arguments.
    pub command: Vec<String>,
    /// The whole environment beside the fixed part (PATH, HOME, TMPDIR, LANG, TZ), which it may override.
    pub env: Vec<(String, String)>,
    /// Paths of the host shown read-only, beside the base. Missing ones are passed over.
    pub mounts: Vec<PathBuf>,
    /// Files put into /box.
    pub files: Vec<JailFile>,
    /// A folder of the host shown read-only at /program.
    pub program: Option<PathBuf>,
    /// An empty folder of the host that receives what the job leaves in /out, when it exits 0 in
    /// its limits: regular files only, mode 0555. /out exists in the jail only then.
    pub collect: Option<PathBuf>,
    /// Whether that is a cache of ours and no program of a user's, and may be larger.
    pub collects_cache: bool,
    /// Paths in /box of files and folders that are taken when it has ended, however it did.
    pub take: Vec<String>,
    /// Fed to standard input while it runs, then what comes live, then end-of-file.
    pub stdin: Blob,
    /// Whether a terminal of its own takes the place of its three pipes.
    pub tty: bool,
    /// Whether another job of its slot follows at once.
    pub followed: bool,
    /// Where it may be run by an interpreter that was started before.
    pub ahead: Option<Ahead>,
    /// The limits.
    pub caps: Caps,
}

/// How an interpreter may be started before there is a program for it: as the job says, but without its
/// files, and with a FIFO in the place of one, which keeps it waiting until that is there.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// The file that it opens when it is ready for the program: a path in the jail, in /box or /program.
    pub awaited: PathBuf,
    /// The files of [`Job::program`], where it awaits one of them: they are written into its jail.
    pub program: Vec<JailFile>,
    /// Memory that it takes up while it waits.
    pub memory_bytes: u64,
    /// What must be the same beside command, environment, mounts and limits, such as the files of the
    /// tool chain.
    pub identity: String,
}

/// A file in /box.
#[derive(Debug, Clone)]
pub struct JailFile {
    /// Relative path with `/`; folders are made as needed.
    pub path: String,
    /// Its bytes.
    pub content: Blob,
}

/// The limits of a [`Job`]. All of them are enforced from outside of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Caps {
    /// User and system time of all processes.
    pub cpu_time: Duration,
    /// From exec to end.
    pub wall_time: Duration,
    /// Anonymous, tmpfs and kernel memory, in bytes; a language's overhead is already added.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u64,
    /// Bytes of each stream that are passed on.
    pub output_keep: u64,
    /// Bytes of one stream beyond which the job is killed.
    pub output_kill: u64,
    /// Bytes in /box, /tmp, /dev/shm (and /out) together.
    pub disk_bytes: u64,
    /// Inodes there.
    pub inodes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Stack of the main thread, in bytes.
    pub stack_bytes: u64,
}

/// One layer of a sandbox, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// `user_namespace`, `cgroup`, `seccomp` and so on.
    pub name: String,
    /// Whether it is in force.
    pub active: bool,
    /// How, or why not and what to do about it.
    pub detail: String,
}

/// Which of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// How its first process ended.
    pub end: End,
    /// The cap that we killed it for.
    pub killed_for: Option<Cap>,
    /// Processes that the kernel killed because the job's memory ran out.
    pub oom_kills: u64,
    /// The program killed the init of its own sandbox.
    pub destroyed_sandbox: bool,
    /// User and system time of all its processes.
    pub cpu_time: Duration,
    /// From exec to end.
    pub wall_time: Duration,
    /// Peak of its memory, in bytes.
    pub memory_peak_bytes: u64,
    /// What came on stdout.
    pub stdout: StreamSummary,
    /// What came on stderr.
    pub stderr: StreamSummary,
    /// Bytes in use in the work directory at the end.
    pub disk_used_bytes: u64,
    /// What of the work directory was used up at the end, if anything.
    pub disk_full: Option<Space>,
    /// The files of [`Job::take`].
    pub taken: Vec<Taken>,
}

/// A file of the work directory that was asked for, or that lies in a folder that was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Relative to /box.
    pub path: String,
    /// Its size, as far as it is known.
    pub bytes: u64,
    /// What it held, or why it was not taken, in words that follow the path.
    pub content: Result<Blob, String>,
}

/// What there is a limited amount of in a work directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Space {
    /// [`Caps::disk_bytes`].
    Bytes,
    /// [`Caps::inodes`].
    Inodes,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

/// A cap that can end a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cap {
    /// [`Caps::cpu_time`].
    Cpu,
    /// [`Caps::wall_time`].
    Wall,
    /// [`Caps::memory_bytes`].
    Memory,
    /// [`Caps::output_kill`].
    Output,
}

/// Why a job gave no result.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Its token was cancelled; nothing of it is left.
    #[error("cancelled")]
    Cancelled,
    /// The command is not there, or not executable, in the jail.
    #[error("cannot execute {0}")]
    Exec(String),
    /// The floor of the jail is missing on this machine.
    #[error("this machine cannot run a jail: {0}")]
    Floor(String),
    /// What the job left in /out was not taken.
    #[error("cannot take the compiled program: {0}")]
    Collect(String),
    /// Anything else that we could not do.
    #[error("{0}")]
    Broken(String),
}

impl Sandbox {
    /// Starts the launcher process and finds out what this machine can do.
    ///
    /// # Errors
    /// The floor of the jail is missing, with the reason and the remedy; with
    /// [`SandboxConfig::for_one_request`], some of it shows at the first job only.
    pub async fn start(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let trial = !config.for_one_request;
        engine::Engine::start(config, None, trial).await.map(|engine| Sandbox { engine })
    }

    /// The same; but where the floor is missing, jobs run without any jail: as plain processes of this
    /// process's user, who can do whatever that user can. For the programs of people who are trusted
    /// as much as whoever runs the daemon.
    ///
    /// # Errors
    /// Not even that can be done.
    pub async fn start_lifting_the_floor(config: SandboxConfig) -> Result<Sandbox, SandboxError> {
        let started = match engine::Engine::start(config.clone(), None, true).await {
            Err(SandboxError::Floor(why)) => engine::Engine::start(config, Some(why), false).await,
            started => started,
        };
        started.map(|engine| Sandbox { engine })
    }

    /// Why this machine has no floor, where jobs run without a jail.
    pub fn lifted(&self) -> Option<&str> {
        self.engine.lifted()
    }

    /// How many jobs were given to an interpreter that was started before them.
    pub fn handed_over(&self) -> u64 {
        self.engine.handed_over()
    }

    /// What the jail here is made of, and what is missing.
    pub fn layers(&self) -> Vec<Layer> {
        self.engine.layers()
    }

    /// Waits for a free slot.
    pub async fn slot(&self) -> Slot {
        self.engine.slot().await
    }

    /// Runs one job in a fresh jail of this slot. Output goes to `output` as it comes, in chunks of at most 64 KiB,
    /// up to `output_keep` of each stream; a slow receiver makes the program wait. What comes of `live` reaches it
    /// while it runs, until nobody is left to send; such a job is never given to an interpreter that was started
    /// before.
    ///
    /// When it returns, all processes of the jail are dead and its mounts and cgroups are gone.
    /// Dropping the future ends the program soon after; cancelling `cancel` and awaiting makes sure.
    ///
    /// # Errors
    /// [`SandboxError`]; never something the program did.
    pub async fn run(
        &self,
        slot: &Slot,
        job: Job,
        live: Option<mpsc::Receiver<Input>>,
        output: mpsc::Sender<(Stream, Bytes)>,
        cancel: &CancellationToken,
    ) -> Result<Measured, SandboxError> {
        self.engine.run(slot, job, live, output, cancel).await
    }
}
