//! Attempts as dispatches of a parameterized batch job of Nomad.
//!
//! ```text
//!  start ── dispatch ──> child job ──> allocation ──> braindrill runner
//!    │                                                    │ event lines
//!    └─ Execution.events <── follow.rs <── its stdout ────┘
//!                               └── board.rs <── watcher.rs <── event stream, listings
//! ```
//!
//! A child outlives the daemon: what a daemon placed, its successor finds again by the saved
//! placement, or by the child's meta. Queue, cap, deadline and retry are the dispatcher's.
//!
//! A child that gave its result is kept in Nomad until [`Backend::release`], so that a daemon that
//! is killed before the result is on disk reads it once more.

mod board;
mod calls;
mod ending;
mod follow;
mod glances;
mod job;
mod last_reading;
mod log;
mod nodes;
mod pace;
mod place;
mod reach;
mod reader;
mod recovery;
mod release;
mod sentences;
mod strays;
mod watcher;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::future::BoxFuture;
use reqwest::Url;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::{
    calls::Of,
    follow::{FOLLOWED, Follower, Shared},
    nodes::Nodes,
    watcher::Watcher,
};
pub use self::{
    job::{Driver, JobFile, JobSettings, Registration, Standing, parsed, register},
    place::{MAX_PAYLOAD_BYTES, RequestUrls},
};
use super::{Backend, BackendError, EVENT_CHANNEL, Execution, StartError, Stray, Worker};
use crate::{
    error_chain::error_chain,
    nomad::{Allocation, Client, ClientSettings, NomadError, Problem, Servers, SettingsError},
    protocol::ExecutionRequest,
    submission::{Placement, SubmissionId},
};

/// The most executions at once that a daemon may be set to: what it holds of each is small, but
/// Nomad keeps every child in the memory of its servers.
pub const MAX_CAPACITY: usize = 256;

/// How long the start waits for Nomad. What could not be done by then is done when an attempt starts.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the backend is set up.
#[derive(Debug, Clone)]
pub struct NomadSettings {
    /// Where Nomad is.
    pub servers: Servers,
    /// As whom it is asked.
    pub client: ClientSettings,
    /// The agents of nodes that are known to answer, to read logs from; kept up to date by somebody
    /// else. May stay empty: servers are asked then.
    pub nodes: watch::Receiver<Vec<Url>>,
    /// The job that attempts are dispatched from; its name is not to change. What else does, as when it
    /// shows where Nomad is, is registered before the next attempt.
    pub job: watch::Receiver<JobSettings>,
    /// Executions at once, 1 to [`MAX_CAPACITY`]; values outside are brought inside.
    pub capacity: usize,
}

/// Runs attempts in a Nomad cluster.
///
/// One task watches all children, and each is followed by a task of its own; all are tracked here, and
/// [`NomadBackend::shut_down`] ends them.
#[derive(Debug)]
pub struct NomadBackend {
    client: Client,
    job: watch::Receiver<JobSettings>,
    capacity: usize,
    /// The job to whose registration this process has seen; held while it does, so that it does so once.
    registered: Mutex<Option<JobSettings>>,
    shared: Shared,
    /// Ends the followers and the watcher.
    detached: CancellationToken,
    tasks: TaskTracker,
}

/// Why there can be no backend.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nomad refuses the job, and will go on to.
    #[error(
        "the job {job} cannot be registered with Nomad. With ACLs, NOMAD_TOKEN has to have the policy in \
         nomad-jobs/acl-full.hcl, or --nomad-job names a job that somebody else registered"
    )]
    Register {
        /// The job's id.
        job: String,
        /// What it said.
        source: NomadError,
    },
}

impl NomadBackend {
    /// A backend on the cluster of these settings, with its job registered. When Nomad is away, or
    /// has no leader, that is said in the log and done when the first attempt starts.
    ///
    /// `stopping` says that this daemon is about to end: from then on, dropping the events of an
    /// execution leaves its child alone, for the next daemon to recover.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(
        settings: NomadSettings,
        stopping: CancellationToken,
    ) -> Result<NomadBackend, ConnectError> {
        let client = Client::new(&settings.client, settings.servers)?;
        let shared = Shared {
            client: client.clone(),
            board: Arc::default(),
            nodes: Arc::new(Nodes::new(client.clone(), settings.nodes)),
            live: Arc::new(Semaphore::new(FOLLOWED)),
            may_purge: Arc::new(AtomicBool::new(true)),
            may_read_files: Arc::new(AtomicBool::new(true)),
            calls: Arc::default(),
            lately: Arc::default(),
            stopping: stopping.child_token(),
        };
        let backend = NomadBackend {
            client,
            job: settings.job,
            capacity: settings.capacity.clamp(1, MAX_CAPACITY),
            registered: Mutex::new(None),
            shared,
            detached: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        backend.watch();
        let job = backend.job();
        match tokio::time::timeout(PATIENCE, backend.ensure_registered(&job)).await {
            Ok(Ok(())) => Ok(backend),
            Ok(Err(source)) if is_permanent(&source) => {
                Err(ConnectError::Register { job: job.name, source })
            }
            Ok(Err(error)) => {
                let reason = error_chain(&error);
                warn!(reason, "Nomad is away: submissions wait until it is back");
                Ok(backend)
            }
            Err(_elapsed) => {
                warn!("Nomad gives no answer: submissions wait until it does");
                Ok(backend)
            }
        }
    }

    /// Stops following, and waits until that is so. Children run on, for the next daemon to recover.
    pub async fn shut_down(&self) {
        self.shared.stopping.cancel();
        self.detached.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts the task that watches all children.
    fn watch(&self) {
        let prefixes = self.job().child_prefixes();
        let watcher = Watcher::new(self.client.clone(), prefixes, self.shared.board.clone());
        let detached = self.detached.clone();
        self.tasks.spawn(async move {
            let _ = detached.run_until_cancelled(watcher.run()).await;
        });
    }

    /// The job as it is wanted now.
    fn job(&self) -> JobSettings {
        self.job.borrow().clone()
    }

    async fn ensure_registered(&self, job: &JobSettings) -> Result<(), NomadError> {
        let mut registered = self.registered.lock().await;
        if registered.as_ref() != Some(job) {
            job::ensure(&self.client, job).await?;
            *registered = Some(job.clone());
        }
        Ok(())
    }

    /// Starts the task that follows a child, of which an allocation may be known already.
    fn follow(
        &self,
        attempt: Of,
        job_id: String,
        evaluation_id: String,
        known: Option<Allocation>,
    ) -> Execution {
        let at = known.as_ref().map(|each| (each.id.clone(), each.node_id.clone()));
        let (allocation_id, node_id) = at.clone().unzip();
        let placement = Placement::Nomad {
            job_id: job_id.clone(),
            evaluation_id: evaluation_id.clone(),
            allocation_id,
            node_id,
        };
        let child = self.shared.board.add(&job_id, known);
        let (updates, events) = mpsc::channel(EVENT_CHANNEL);
        let of = (job_id, evaluation_id);
        let bell = self.shared.calls.answer(attempt);
        let follower = Follower::new(self.shared.clone(), of, child, at, bell, updates);
        let detached = self.detached.clone();
        self.tasks.spawn(async move {
            // Once told to stop, it has no word left to say.
            let _ = detached.run_until_cancelled(follower.run()).await;
        });
        Execution { placement, events, input: None }
    }
}

impl Backend for NomadBackend {
    fn name(&self) -> &'static str {
        "nomad"
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        Box::pin(async move {
            if request.request.interactive.is_some() {
                let reason = "a program on a Nomad node cannot be talked to while it runs";
                return Err(StartError::Refused(reason.to_owned()));
            }
            self.place(&request).await
        })
    }

    fn recover(
        &self,
        request: Arc<ExecutionRequest>,
        placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        Box::pin(async move { self.find_again(&request, placement).await.map_err(backend_error) })
    }

    fn release(&self, placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        let placement = placement.clone();
        Box::pin(async move {
            let Placement::Nomad { job_id, .. } = placement else { return Ok(()) };
            self.let_go(&job_id).await
        })
    }

    fn vacate<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Placement::Nomad { job_id, .. } = placement else { return false };
            self.give_up_place(job_id).await
        })
    }

    /// An allocation has no standard input.
    fn takes_input(&self) -> bool {
        false
    }

    fn nudge(&self, submission: SubmissionId, attempt: u32) {
        self.shared.calls.ring((submission, attempt));
    }

    fn trouble(&self) -> Option<String> {
        self.shared.board.reach().borrow().as_ref().map(|_| "Nomad cannot be asked".to_owned())
    }

    fn strays(&self) -> BoxFuture<'_, Result<Vec<Stray>, BackendError>> {
        Box::pin(async move { self.find_strays().await.map_err(backend_error) })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        Box::pin(async move {
            let nodes = self.client.nodes().await.map_err(backend_error)?;
            let busy = self.shared.board.by_node();
            let driver = self.job().driver;
            let worker = |node: crate::nomad::Node| Worker {
                healthy: node.takes(driver.name()),
                busy: Some(busy.get(&node.id).copied().unwrap_or_default()),
                id: node.id,
                kind: "nomad",
                name: node.name,
                slots: None,
                languages: None,
                layers: Vec::new(),
            };
            Ok(nodes.into_iter().map(worker).collect())
        })
    }
}

/// Whether asking again later is of no use.
fn is_permanent(error: &NomadError) -> bool {
    matches!(
        error.problem(),
        Some(Problem::Forbidden | Problem::JobInvalid | Problem::Malformed | Problem::JobUnfit)
    ) || matches!(error, NomadError::Undecodable(_))
}

/// Whoever gets it says so in the log, without the details.
fn backend_error(error: NomadError) -> BackendError {
    debug!(reason = error_chain(&error), "Nomad gave no answer that can be used");
    BackendError(error.public())
}
