//! A whole request: compile once, run each test in a fresh jail, judge.
//!
//! Every backend ends here: the local one calls it in the daemon, others in a process of their own.
//! It looks nothing up but tool chains on this machine, and it says everything as events.
//!
//! ```text
//!  execute ── Started
//!     │
//!  program ── compile in a jail ── Compiled ── compile_error? ──┐
//!     │                                                         │
//!  run (each test) ── Stdout, Stderr .. ── verdict ── checker   │
//!     │                └─ RunFinished                           │
//!  report ── Finished, once, last <─────────────────────────────┘
//! ```

mod ahead;
mod caches;
mod caps;
pub mod checker;
mod compile_cache;
mod custom_checker;
mod emitter;
mod folder;
mod jail;
mod program;
mod report;
mod run;
pub mod self_test;
pub mod verdict;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::caches::machine_cache_dir;
use self::{
    compile_cache::{Bounds, CompileCache},
    custom_checker::CustomCheckers,
    emitter::Emitter,
    folder::WorkDir,
    jail::Jail,
    program::Program,
    run::Runs,
};
use crate::{
    language::UnknownPlaceholder,
    protocol::{Event, EventKind, ExecutionRequest, ExecutionResult, Input, VERSION},
    sandbox::{JailFile, Sandbox, SandboxError, Slot},
    submission::{Fault, FaultKind, Report, SubmissionRequest, Verdict},
};

/// How often it is looked whether the disk has room: soon for whoever waits for it, and a look is one
/// system call.
const ROOM_LOOK: Duration = Duration::from_secs(5);

/// Where a runner keeps what.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Compiled programs, as long as they are needed.
    pub programs: PathBuf,
    /// What tool chains need made once. Other processes may use it too.
    pub caches: PathBuf,
    /// Programs that were compiled for an owner, and how many bytes of them are kept for the next time,
    /// where any are: with 0, what was kept is removed. Nobody else may use it.
    pub compiled: Option<(PathBuf, u64)>,
}

/// Runs execution requests in this machine's sandbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runner {
    sandbox: Sandbox,
    work: Arc<WorkDir>,
}

/// Why an attempt ends without a report.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Nobody wants the result any more; nothing more is said.
    Cancelled,
    /// Our own doing.
    Fault(Fault),
}

impl Stop {
    /// A failure of ours whose details are for the log alone.
    fn broken(detail: String) -> Stop {
        tracing::error!(detail, "the runner failed");
        Stop::Fault(Fault::new(FaultKind::Internal, "the runner failed"))
    }
}

impl From<SandboxError> for Stop {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Cancelled => Stop::Cancelled,
            SandboxError::Exec(command) => {
                tracing::error!(command, "a tool cannot be executed in the jail");
                Stop::Fault(Fault::new(
                    FaultKind::ToolChainMissing,
                    "a tool of the language cannot be executed here",
                ))
            }
            error @ SandboxError::Floor(_) => {
                tracing::error!(%error, "no jail can be made");
                Stop::Fault(Fault::new(FaultKind::Sandbox, "the sandbox could not be built"))
            }
            error @ (SandboxError::Collect(_) | SandboxError::Broken(_)) => {
                tracing::error!(%error, "the sandbox failed");
                Stop::Fault(Fault::new(FaultKind::Sandbox, "the sandbox failed"))
            }
        }
    }
}

impl From<UnknownPlaceholder> for Stop {
    /// The daemon checks definitions when it loads them; this one is from another version.
    fn from(error: UnknownPlaceholder) -> Self {
        Stop::broken(error.to_string())
    }
}

impl Runner {
    /// A runner that uses these folders. Removes what an earlier process left in that for programs. Where
    /// programs run without a jail none is kept for the next time: they could change it.
    ///
    /// # Errors
    /// One of the folders cannot be made or cleaned.
    pub fn new(sandbox: Sandbox, folders: Folders) -> std::io::Result<Runner> {
        let is_jailed = sandbox.lifted().is_none();
        let compiled = match folders.compiled {
            Some((folder, bytes)) => {
                CompileCache::open(folder, Bounds::of_bytes(if is_jailed { bytes } else { 0 }))?
            }
            None => CompileCache::off(),
        };
        let work = WorkDir::open(folders.programs, folders.caches, compiled)?;
        Ok(Runner { sandbox, work: Arc::new(work) })
    }

    /// The sandbox it runs programs in.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Whether another compiled program of whatever size has room on the disk. An attempt that is
    /// begun without it is likely to be lost. Room for a custom checker is asked for when it is
    /// compiled: a submission with many must not keep out those without.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn check_room(&self) -> Result<(), String> {
        self.work.check_room()
    }

    /// Has kept programs give way while others fill the disk, also when nobody asks for a run: the
    /// database may need what they take up. Works until `stop`.
    pub async fn watch_room(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(ROOM_LOOK)).await.is_some() {
            // Whoever wants to run something is told.
            let _ = self.check_room();
        }
    }

    /// Executes one request in `slot` and says what happens. `Finished` comes exactly once and
    /// last, also after a fault of ours; after a cancel, or when nobody reads, nothing more comes.
    /// When this returns, nothing of the attempt is left on the machine. What comes of `live` reaches the
    /// program while it runs, where the request is for one that is talked to.
    pub async fn execute(
        &self,
        request: Arc<ExecutionRequest>,
        slot: &Slot,
        live: Option<mpsc::Receiver<Input>>,
        events: mpsc::Sender<Event>,
        cancel: CancellationToken,
    ) {
        // A child: a reader that goes away ends this attempt and not what its caller does else.
        let cancel = cancel.child_token();
        let mut emitter = Emitter::new(events, cancel.clone());
        let jail = Jail { sandbox: &self.sandbox, slot, cancel: &cancel };
        let result = match self.attempt(&request, jail, live, &mut emitter).await {
            Ok(report) => ExecutionResult::Report(report),
            Err(Stop::Fault(fault)) => ExecutionResult::Fault(fault),
            Err(Stop::Cancelled) => return,
        };
        // Whoever does not read this has gone, and wants no result.
        let _ = emitter.emit(EventKind::Finished { result }).await;
    }

    async fn attempt(
        &self,
        request: &ExecutionRequest,
        jail: Jail<'_>,
        live: Option<mpsc::Receiver<Input>>,
        emitter: &mut Emitter,
    ) -> Result<Report, Stop> {
        emitter.emit(EventKind::Started).await?;
        if request.v != VERSION {
            return Err(Stop::Fault(Fault::new(
                FaultKind::Internal,
                format!(
                    "the request is of version {}, this runner of version {VERSION}",
                    request.v
                ),
            )));
        }
        let source = program::Source {
            files: files(&request.request, &request.language.source_file),
            entrypoint: &request.request.entrypoint,
            compile_args: &request.request.compile_args,
            cache_owner: request.cache_owner.as_ref(),
        };
        let prepared = Program::prepare(&request.language, source, jail, &self.work).await?;
        if let Some(compile) = &prepared.compile {
            emitter.emit(EventKind::Compiled { compile: compile.clone() }).await?;
        }
        let Some(program) = prepared.program else {
            return Ok(report::of_failed_compile(prepared.compile));
        };
        let checkers =
            CustomCheckers::new(&request.checker_languages, request.cache_owner.as_ref());
        let (work, files) = (&*self.work, Vec::new());
        let mut runs = Runs { request, program, checkers, jail, work, live, files };
        let mut reports = Vec::new();
        let mut failed = false;
        for (index, input) in (0..).zip(&request.runs()) {
            let report = if failed && request.request.stop_on_failure {
                let report = run::skipped(input);
                emitter.emit(EventKind::RunFinished { run: index, report: report.clone() }).await?;
                report
            } else {
                runs.one(index, input, emitter).await?
            };
            failed |= report.verdict != Verdict::Accepted;
            reports.push(report);
        }
        Ok(Report { files: runs.files, ..report::of_runs(prepared.compile, reports) })
    }
}

/// The files of a submission as they go into the jail.
fn files(request: &SubmissionRequest, source_file: &str) -> Vec<JailFile> {
    match &request.source {
        Some(source) => {
            let path =
                if request.entrypoint.is_empty() { source_file } else { &request.entrypoint };
            vec![JailFile { path: path.to_owned(), content: source.as_str().into() }]
        }
        None => request
            .files
            .iter()
            .map(|file| JailFile { path: file.path.clone(), content: file.content.clone() })
            .collect(),
    }
}
