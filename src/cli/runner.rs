//! `braindrill runner`: executes one request in this machine's sandbox and prints what happens, an
//! event a line. It is the task of a Nomad allocation, and of use by hand:
//!
//! ```text
//!  request (payload) ──> Runner::execute ──> events ──┬─> stdout
//!                                                     └─> $NOMAD_ALLOC_DIR/data/events.jsonl
//! ```
//!
//! Whatever goes wrong that the daemon should know ends in a `finished` with a fault; details are
//! on stderr, which stays in the cluster.

mod jail_uid;

use std::{
    fs::DirBuilder,
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::jail_uid::JailUid;
use crate::{
    backend::EVENT_CHANNEL,
    protocol::{
        Event, EventKind, ExecutionRequest, ExecutionResult, VERSION, lines,
        payload::{self, MAX_REQUEST_BYTES},
    },
    runner::Runner,
    sandbox::{Sandbox, SandboxConfig},
    submission::{Fault, FaultKind},
};

/// The file that Nomad writes the payload to, in the task's folder; the job file names it too.
const REQUEST: &str = "request";

/// Where the second copy of the events is, in the allocation's folder.
const COPY: &str = "data/events.jsonl";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The request: JSON, plain or compressed with zstd; - for standard input [default:
    /// $NOMAD_TASK_DIR/request]
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,

    /// A folder for compiled programs [default: $NOMAD_TASK_DIR/work, else one in the folder for
    /// temporary files]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// What Nomad tells a task by its environment; all of it absent by hand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Allocation {
    id: Option<String>,
    task_dir: Option<PathBuf>,
    alloc_dir: Option<PathBuf>,
}

impl Allocation {
    fn from_env() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Allocation {
            id: std::env::var("NOMAD_ALLOC_ID").ok(),
            task_dir: path("NOMAD_TASK_DIR"),
            alloc_dir: path("NOMAD_ALLOC_DIR"),
        }
    }

    /// The name of this process in cgroups: the beginning of the allocation's id, which is a
    /// random UUID; by hand, of our own number.
    fn instance(&self) -> String {
        let digits = |id: &String| id.get(..8).map(str::to_owned);
        let is_hex = |digits: &String| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let own = || format!("{:08x}", std::process::id());
        self.id.as_ref().and_then(digits).filter(is_hex).unwrap_or_else(own)
    }
}

/// Runs the subcommand. Exits with 0 when `finished` was written, whatever it says; with 1 when
/// it was interrupted or its output could not be written.
///
/// # Errors
/// The request could not be read at all, or stdout is gone.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let allocation = Allocation::from_env();
    let cancel = CancellationToken::new();
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] = signals;
    let signals = (interrupt?, terminate?);
    let request = match (&args.request, &allocation.task_dir) {
        (Some(path), _) => path.clone(),
        (None, Some(dir)) => dir.join(REQUEST),
        (None, None) => anyhow::bail!("name a file by --request, or run as a task of Nomad"),
    };
    let bytes = read(&request).with_context(|| format!("cannot read {}", request.display()))?;
    let in_task = allocation.task_dir.as_ref().map(|dir| dir.join("work"));
    let (work_dir, _own) = match args.work_dir.or(in_task) {
        Some(dir) => (dir, None),
        None => OwnFolder::create().map(|own| (own.0.clone(), Some(own)))?,
    };
    let output = EventOutput::open(allocation.alloc_dir.as_deref()).await;
    let output = output.context("there is no standard output")?;
    let finished = tokio::select! {
        finished = execute(&bytes, &allocation, work_dir, output, &cancel) => finished?,
        never = cancel_on(signals, &cancel) => match never {},
    };
    Ok(if finished { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder among the temporary files that goes when this is dropped.
struct OwnFolder(PathBuf);

impl OwnFolder {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("braindrill-runner-{}", std::process::id()));
        // Fails where there is anything of this name, a link included.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(OwnFolder(path))
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        if let Err(problem) = std::fs::remove_dir_all(&self.0) {
            warn!(%problem, folder = %self.0.display(), "a temporary folder stays behind");
        }
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader: Box<dyn std::io::Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(path)?),
    };
    reader.by_ref().take(MAX_REQUEST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Cancels at the first signal, and stays.
async fn cancel_on(
    (mut interrupt, mut terminate): (Signal, Signal),
    cancel: &CancellationToken,
) -> std::convert::Infallible {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("interrupted: ending the program");
    cancel.cancel();
    std::future::pending().await
}

/// Executes the request and writes its events; says whether `finished` was among them.
async fn execute(
    request: &[u8],
    allocation: &Allocation,
    work_dir: PathBuf,
    mut output: EventOutput,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let prepared = match payload::decode(request) {
        Ok(request) => prepare(allocation, work_dir).await.map(|ready| (request, ready)),
        Err(problem) => {
            error!(reason = %anyhow::Error::from(problem), "the request cannot be understood");
            Err(Fault::new(FaultKind::Internal, "its runner could not understand the request"))
        }
    };
    match prepared {
        Ok((request, ready)) => execute_in(&ready, request, &mut output, cancel).await,
        Err(fault) => {
            let events =
                [EventKind::Started, EventKind::Finished { result: ExecutionResult::Fault(fault) }];
            for (seq, kind) in (0..).zip(events) {
                output.write(&Event { v: VERSION, seq, kind }).await?;
            }
            Ok(true)
        }
    }
}

/// A sandbox with one slot, and what it rests on.
struct Ready {
    runner: Runner,
    _uid: Option<JailUid>,
}

async fn prepare(allocation: &Allocation, work_dir: PathBuf) -> Result<Ready, Fault> {
    let sandbox_fault = || Fault::new(FaultKind::Sandbox, "the sandbox could not be built");
    let uid = JailUid::claim();
    let executable = std::env::current_exe().map_err(|problem| {
        error!(%problem, "the path of this executable is not known");
        sandbox_fault()
    })?;
    let config = SandboxConfig {
        instance: allocation.instance(),
        slots: 1,
        first_uid: uid.as_ref().map_or(SandboxConfig::FIRST_UID, JailUid::uid),
        executable,
        without: crate::sandbox::Without::default(),
    };
    let sandbox = Sandbox::start(config).await.map_err(|problem| {
        error!(%problem, "the sandbox could not be built");
        sandbox_fault()
    })?;
    let runner = Runner::new(sandbox, work_dir).map_err(|problem| {
        error!(%problem, "the folder for compiled programs cannot be used");
        sandbox_fault()
    })?;
    Ok(Ready { runner, _uid: uid })
}

async fn execute_in(
    ready: &Ready,
    request: ExecutionRequest,
    output: &mut EventOutput,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let slot = ready.runner.sandbox().slot().await;
    let (sender, mut events) = mpsc::channel(EVENT_CHANNEL);
    let run = ready.runner.execute(Arc::new(request), &slot, sender, cancel.clone());
    let write = async {
        let mut finished = false;
        while let Some(event) = events.recv().await {
            if let Err(problem) = output.write(&event).await {
                // Nobody reads any more: this ends the run.
                cancel.cancel();
                return Err(problem);
            }
            finished |= matches!(event.kind, EventKind::Finished { .. });
        }
        anyhow::Ok(finished)
    };
    let ((), finished) = tokio::join!(run, write);
    finished
}

/// Stdout, and the second copy where there is a place for one.
struct EventOutput {
    stdout: File,
    copy: Option<File>,
}

impl EventOutput {
    async fn open(alloc_dir: Option<&Path>) -> std::io::Result<Self> {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
        let copy = match alloc_dir.map(|dir| dir.join(COPY)) {
            Some(path) => match File::create(&path).await {
                Ok(file) => Some(file),
                Err(problem) => {
                    warn!(%problem, "there will be no second copy of the events");
                    None
                }
            },
            None => None,
        };
        Ok(EventOutput { stdout: File::from_std(stdout.into()), copy })
    }

    /// Writes one event, and does not return before it is out of our hands. The copy first: who
    /// sees an event on stdout finds it there too.
    async fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let line = lines::encode(event);
        if let Some(copy) = &mut self.copy
            && let Err(problem) = write_through(copy, &line).await
        {
            warn!(%problem, "the second copy of the events ends here");
            self.copy = None;
        }
        write_through(&mut self.stdout, &line).await.context("cannot write to standard output")
    }
}

async fn write_through(file: &mut File, line: &[u8]) -> std::io::Result<()> {
    file.write_all(line).await?;
    file.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_names_the_instance() {
        let with = |id: &str| Allocation { id: Some(id.to_owned()), ..Allocation::default() };
        assert_eq!(with("99d70941-a807-193f-aea6-3fa5be23f11e").instance(), "99d70941");
        for id in ["short", "../../etc-a807", "päth/../.."] {
            let instance = with(id).instance();
            assert!(instance.bytes().all(|byte| byte.is_ascii_hexdigit()), "{instance}");
            assert_eq!(instance.len(), 8);
        }
    }
}
