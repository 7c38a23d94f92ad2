//! `braindrill runner`: executes one request in this machine's sandbox and prints what happens, an
//! event a line. It is the task of a Nomad allocation, and of use by hand:
//!
//! ```text
//!  request (payload, or   ──> Runner::execute ──> events ──┬─> stdout
//!  fetched from the daemon)                                ├─> $NOMAD_ALLOC_DIR/data/events.jsonl
//!                                                          └─> a call to the daemon, after the last
//! ```
//!
//! Whatever goes wrong that the daemon should know ends in a `finished` with a fault; details are
//! on stderr, which stays in the cluster.

mod call;
mod fetch;
mod jail_uid;
mod output;

use std::{
    fs::DirBuilder,
    io::Read as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::{jail_uid::JailUid, output::EventOutput};
use crate::{
    backend::EVENT_CHANNEL,
    protocol::{
        Event, EventKind, ExecutionRequest, ExecutionResult, VERSION,
        payload::{self, MAX_REQUEST_BYTES},
    },
    runner::{Folders, Runner, machine_cache_dir},
    sandbox::{Sandbox, SandboxConfig},
    submission::{Fault, FaultKind},
};

/// The file that Nomad writes the payload to, in the task's folder; the job file names it too.
const REQUEST: &str = "request";

/// The address of the attempt on the daemon: to call at its end, and to fetch the request from when it was
/// too long for a payload. The meta key of the job files, as Nomad makes it a variable.
const REQUEST_URL: &str = "NOMAD_META_braindrill_request_url";

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

    /// Where `braindrill doctor --self-test` or a worker keeps what tool chains need made once, such as
    /// Go's compiled standard library [default: /var/cache/braindrill; other users than root: braindrill
    /// in the folder for their caches]
    #[arg(long, value_name = "DIR", env = "BRAINDRILL_CACHE_DIR")]
    cache_dir: Option<PathBuf>,

    /// Something around this process is the jail, such as a container without network: where none can
    /// be made inside of it, run the program as a plain process. It can then read and change whatever
    /// this process can, its own verdict too
    #[arg(long)]
    outer_jail: bool,
}

/// What Nomad tells a task by its environment; all of it absent by hand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Allocation {
    id: Option<String>,
    task_dir: Option<PathBuf>,
    alloc_dir: Option<PathBuf>,
    request_url: Option<String>,
}

impl Allocation {
    fn from_env() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Allocation {
            id: std::env::var("NOMAD_ALLOC_ID").ok(),
            task_dir: path("NOMAD_TASK_DIR"),
            alloc_dir: path("NOMAD_ALLOC_DIR"),
            request_url: std::env::var(REQUEST_URL).ok().filter(|url| !url.is_empty()),
        }
    }

    /// The request file, unless there is none and the request is to be fetched.
    fn request_file(&self, named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        match (named, &self.task_dir) {
            (Some(path), _) => Ok(Some(path.to_owned())),
            (None, Some(dir)) => {
                let path = dir.join(REQUEST);
                // Without a payload Nomad makes an empty file of it (1.1).
                let is_there = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
                Ok((is_there || self.request_url.is_none()).then_some(path))
            }
            (None, None) => anyhow::bail!("name a file by --request, or run as a task of Nomad"),
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
/// The request could not be had at all, or stdout is gone. Nothing was written then: the daemon sees a
/// lost attempt.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let allocation = Allocation::from_env();
    let cancel = CancellationToken::new();
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [interrupt, terminate] = signals;
    let mut signals = (interrupt?, terminate?);
    if args.outer_jail {
        // Else a program of the same user could write to our stdout by way of /proc/PID/fd.
        nix::sys::prctl::set_dumpable(false).context("cannot protect this process")?;
    }
    let bytes = tokio::select! {
        bytes = obtain(&args, &allocation) => bytes?,
        never = cancel_on(&mut signals, &cancel) => match never {},
        () = cancel.cancelled() => return Ok(ExitCode::FAILURE),
    };
    let in_task = allocation.task_dir.as_ref().map(|dir| dir.join("work"));
    let (work_dir, _own) = match args.work_dir.or(in_task) {
        Some(dir) => (dir, None),
        None => OwnFolder::create().map(|own| (own.0.clone(), Some(own)))?,
    };
    // Before anything is built: a second runner in an allocation would take the jail of the first for
    // one that was left behind.
    let output =
        EventOutput::open(allocation.alloc_dir.as_deref(), allocation.request_url.clone())?;
    let place = Place {
        instance: allocation.instance(),
        cache_dir: machine_cache_dir(args.cache_dir, &work_dir),
        work_dir,
        outer_jail: args.outer_jail,
    };
    let finished = tokio::select! {
        finished = execute(&bytes, &place, output, &cancel) => finished?,
        never = cancel_on(&mut signals, &cancel) => match never {},
    };
    Ok(if finished { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The request's bytes, from its file or from the daemon.
async fn obtain(args: &Args, allocation: &Allocation) -> anyhow::Result<Vec<u8>> {
    let Some(path) = allocation.request_file(args.request.as_deref())? else {
        let url = allocation.request_url.as_deref().expect("there is no file only where it is set");
        return Ok(fetch::fetch(url, fetch::PATIENCE).await?);
    };
    let bytes = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if args.outer_jail && args.request.is_none() {
        // It holds the expected outputs, and where there is no jail the program could read it.
        std::fs::remove_file(&path).context("cannot remove the request before running it")?;
    }
    Ok(bytes)
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
    (interrupt, terminate): &mut (Signal, Signal),
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

/// Where and how a request is executed.
pub(super) struct Place {
    pub(super) instance: String,
    pub(super) work_dir: PathBuf,
    pub(super) cache_dir: PathBuf,
    pub(super) outer_jail: bool,
}

/// Executes the request and writes its events; says whether `finished` was among them.
async fn execute(
    request: &[u8],
    place: &Place,
    mut output: EventOutput,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let prepared = match payload::decode(request) {
        Ok(request) => prepare(place).await.map(|ready| (request, ready)),
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
pub(super) struct Ready {
    pub(super) runner: Runner,
    _uid: Option<JailUid>,
}

pub(super) async fn prepare(place: &Place) -> Result<Ready, Fault> {
    let sandbox_fault = || Fault::new(FaultKind::Sandbox, "the sandbox could not be built");
    let uid = JailUid::claim();
    let executable = std::env::current_exe().map_err(|problem| {
        error!(%problem, "the path of this executable is not known");
        sandbox_fault()
    })?;
    let config = SandboxConfig {
        instance: place.instance.clone(),
        slots: 1,
        first_uid: uid.as_ref().map_or(SandboxConfig::FIRST_UID, JailUid::uid),
        executable,
        for_one_request: true,
        prepared_bytes: 0,
        without: crate::sandbox::Without::default(),
    };
    let sandbox = if place.outer_jail {
        Sandbox::start_lifting_the_floor(config).await
    } else {
        Sandbox::start(config).await
    };
    let sandbox = sandbox.map_err(|problem| {
        error!(%problem, "the sandbox could not be built");
        sandbox_fault()
    })?;
    report_layers(&sandbox);
    let (programs, caches) = (place.work_dir.clone(), place.cache_dir.clone());
    let runner = Runner::new(sandbox, Folders { programs, caches, compiled: None });
    let runner = runner.map_err(|problem| {
        error!(%problem, "the folder for compiled programs cannot be used");
        sandbox_fault()
    })?;
    Ok(Ready { runner, _uid: uid })
}

/// Says what the program is run without.
fn report_layers(sandbox: &Sandbox) {
    let missing = || sandbox.layers().into_iter().filter(|layer| !layer.active);
    if let Some(why) = sandbox.lifted() {
        let layers: Vec<_> = missing().map(|layer| layer.name).collect();
        warn!(layers = layers.join(" "), "no jail of our own inside of the outer one: {why}");
        return;
    }
    for layer in missing() {
        warn!(layer = layer.name.as_str(), "a layer of the sandbox is missing: {}", layer.detail);
    }
}

async fn execute_in(
    ready: &Ready,
    request: ExecutionRequest,
    output: &mut EventOutput,
    cancel: &CancellationToken,
) -> anyhow::Result<bool> {
    let slot = ready.runner.sandbox().slot().await;
    let (sender, mut events) = mpsc::channel(EVENT_CHANNEL);
    let run = ready.runner.execute(Arc::new(request), &slot, None, sender, cancel.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_fetched_only_where_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(REQUEST);
        let allocation = |url: Option<&str>| Allocation {
            task_dir: Some(dir.path().to_owned()),
            request_url: url.map(str::to_owned),
            ..Allocation::default()
        };
        let (with, without) = (allocation(Some("http://daemon/")), allocation(None));
        assert_eq!(with.request_file(None).unwrap(), None);
        assert_eq!(with.request_file(Some(Path::new("-"))).unwrap(), Some("-".into()));
        assert_eq!(without.request_file(None).unwrap(), Some(file.clone()), "to be missed by name");
        std::fs::write(&file, "").unwrap();
        assert_eq!(with.request_file(None).unwrap(), None, "it is empty");
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(with.request_file(None).unwrap(), Some(file));
        assert!(Allocation::default().request_file(None).is_err());
    }

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
