//! Attempts in the slots of warm workers, found through Consul or by their addresses.
//!
//! ```text
//!  start ── choice.rs: a worker ── WorkerClient::execute ──> Leased
//!                                       │ events
//!  Execution.events <── follower ───────┘   one task for each, in `leases.rs`
//!  release ── waits for the follower, or has the worker end the lease
//! ```
//!
//! A worker ends a run whose connection breaks. So an attempt is never taken up again: when the
//! connection is lost, by whatever, it is lost, and made anew elsewhere.

mod choice;
mod leases;
mod members;
mod room;
mod scale;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use reqwest::Url;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use self::{choice::Choice, leases::Leases, room::Room};
pub use self::{
    members::{Member, members_of, watch_addresses},
    scale::{Asking, Bounds, Demand, ScaleFigures, ScaleSettings, Scaler},
};
use super::{Backend, BackendError, EVENT_CHANNEL, Execution, StartError, Worker};
use crate::{
    error_chain::error_chain,
    protocol::{ExecutionRequest, Input},
    submission::Placement,
    worker::{CallError, Leased, RELEASE, RefusalKind, WorkerClient},
};

/// How long a worker that could not be reached is not tried: longer than a moment of load, and no longer
/// than Consul takes to notice.
const REST: Duration = Duration::from_secs(5);

/// Inputs of a run that may wait for the way to its worker.
const INPUTS: usize = 4;

/// How long nothing may be heard of a worker before its runs are over by themselves: it notices a broken
/// connection by its next heartbeat, or after 10 s in which nobody takes what it sends.
const GIVES_UP: Duration = Duration::from_secs(15);

/// Runs attempts on warm workers.
///
/// Each attempt is followed by a task of its own; [`PoolBackend::shut_down`] ends them, and with them
/// what they follow.
#[derive(Debug)]
pub struct PoolBackend {
    client: WorkerClient,
    members: watch::Receiver<Vec<Member>>,
    /// Executions at once, whatever the workers have.
    most: usize,
    leases: Arc<Leases>,
    resting: Arc<Resting>,
    room: Arc<Room>,
    /// What is being done about there being no worker, where somebody does something about it.
    remedy: watch::Sender<Option<String>>,
    /// Since when no process before this one listens to a run.
    begun: Instant,
    detached: CancellationToken,
    tasks: TaskTracker,
}

impl PoolBackend {
    /// A backend on these workers, whoever keeps the list up to date; `most` executions at once, else as
    /// many as they have slots.
    pub fn new(
        client: WorkerClient,
        members: watch::Receiver<Vec<Member>>,
        most: Option<usize>,
    ) -> PoolBackend {
        let backend = PoolBackend {
            client,
            members,
            most: most.unwrap_or(usize::MAX),
            leases: Arc::default(),
            resting: Arc::default(),
            room: Arc::default(),
            remedy: watch::Sender::new(None),
            begun: Instant::now(),
            detached: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (room, client) = (backend.room.clone(), backend.client.clone());
        let (members, detached) = (backend.members.clone(), backend.detached.clone());
        backend.tasks.spawn(async move {
            let _ = detached.run_until_cancelled(room.watch(&client, members)).await;
        });
        backend
    }

    /// Ends what runs, and waits until nobody follows it any more.
    pub async fn shut_down(&self) {
        self.detached.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Places an attempt on the better of two workers drawn at random, or on another when they do not
    /// take it.
    async fn place(&self, request: Arc<ExecutionRequest>) -> Result<Execution, StartError> {
        let members = self.room.of(&self.members.borrow());
        let language = request.language.id.as_str();
        let mut choice = Choice::new(&members, language, &self.resting.all());
        while let Some(member) = choice.next(&self.leases, draw(&request)) {
            match self.client.execute(&member.url, &request).await {
                Ok(leased) => {
                    let is_interactive = request.request.interactive.is_some();
                    return Ok(self.follow(member, leased, is_interactive));
                }
                Err(error) => {
                    let reason = error_chain(&error);
                    debug!(worker.id = member.id, reason, "a worker did not take an attempt");
                    match error {
                        // No other takes it either, and nothing is wrong with this one.
                        CallError::Refused(RefusalKind::Malformed, reason) => {
                            let reason = format!("workers cannot take the request: {reason}");
                            return Err(StartError::Refused(reason));
                        }
                        CallError::Refused(RefusalKind::Busy, _) => {
                            self.room.is_full(&member.id, self.leases.load(&member.id));
                        }
                        CallError::Refused(RefusalKind::NoRoom, _) => {}
                        _ => self.resting.add(&member.id),
                    }
                    choice.note(&error);
                }
            }
        }
        Err(match choice.failure() {
            StartError::Unavailable(reason) => StartError::Unavailable(self.with_remedy(reason)),
            other => other,
        })
    }

    /// Why there is nobody, and what is done about it.
    fn with_remedy(&self, reason: String) -> String {
        match &*self.remedy.borrow() {
            Some(remedy) => format!("{reason}: {remedy}"),
            None => reason,
        }
    }

    fn follow(&self, member: &Member, leased: Leased, is_interactive: bool) -> Execution {
        let placement = Placement::Pool {
            worker_id: member.id.clone(),
            address: member.url.to_string(),
            lease: leased.lease.clone(),
        };
        let held = self.leases.hold(&member.id, &leased.lease);
        let input = is_interactive.then(|| self.pass_input_on(member, &leased.lease));
        let (updates, events) = mpsc::channel(EVENT_CHANNEL);
        let (detached, resting) = (self.detached.clone(), self.resting.clone());
        let worker = member.id.clone();
        self.tasks.spawn(async move {
            let followed = leases::follow(leased, updates, &held);
            if let Some(Err(_)) = detached.run_until_cancelled(followed).await {
                resting.add(&worker);
            }
        });
        Execution { placement, events, input }
    }

    /// Where input for the program of a lease is taken.
    fn pass_input_on(&self, member: &Member, lease: &str) -> mpsc::Sender<Input> {
        let (sender, input) = mpsc::channel(INPUTS);
        let (client, detached) = (self.client.clone(), self.detached.clone());
        let (url, lease) = (member.url.clone(), lease.to_owned());
        self.tasks.spawn(async move {
            let sent = client.send_input(&url, &lease, input);
            if let Some(Err(error)) = detached.run_until_cancelled(sent).await {
                debug!(reason = error_chain(&error), "a run is ended that cannot be talked to");
                // What follows it finds that it is lost. One that cannot be ended has a broken connection.
                let _ = client.end(&url, &lease).await;
            }
        });
        sender
    }

    /// Has the worker end a lease that nobody here has seen the end of.
    async fn end(&self, address: &str, lease: &str) -> Result<(), BackendError> {
        let Ok(base) = Url::parse(address) else { return Ok(()) };
        let Err(error) = self.client.end(&base, lease).await else { return Ok(()) };
        let since = self.leases.broken_since(lease).unwrap_or(self.begun);
        if since.elapsed() > GIVES_UP {
            // By now it has noticed that nobody listens, or is no more.
            return Ok(());
        }
        debug!(reason = error_chain(&error), "a worker could not be asked to end a run yet");
        Err(BackendError(
            "its worker cannot be asked whether something of it still runs".to_owned(),
        ))
    }
}

/// Until when a worker is not tried, by its id.
#[derive(Debug, Default)]
struct Resting(Mutex<HashMap<String, Instant>>);

impl Resting {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, worker: &str) {
        self.lock().insert(worker.to_owned(), Instant::now() + REST);
    }

    fn all(&self) -> Vec<String> {
        let (mut resting, now) = (self.lock(), Instant::now());
        resting.retain(|_, until| *until > now);
        resting.keys().cloned().collect()
    }
}

/// Numbers that differ between attempts, to draw workers by.
fn draw(request: &ExecutionRequest) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(request.submission.as_uuid().as_bytes()).update(&request.attempt.to_le_bytes());
    let hash = hasher.finalize();
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

impl Backend for PoolBackend {
    fn name(&self) -> &'static str {
        "pool"
    }

    /// As many slots as the workers have that are known now, less those that others hold; one where there
    /// is none at all, so that whoever waits is told what for.
    fn capacity(&self) -> usize {
        let (slots, shared) = self.room.count(&self.members.borrow());
        slots.max(usize::from(!shared)).min(self.most.max(1))
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        Box::pin(self.place(request))
    }

    /// What an earlier process ran ends with its connections, and is not taken up again.
    fn recover(
        &self,
        _request: Arc<ExecutionRequest>,
        placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        Box::pin(async move {
            if let Some(Placement::Pool { address, lease, .. }) = placement {
                // Whose machine lost its power has closed nothing.
                self.end(&address, &lease).await?;
            }
            Ok(None)
        })
    }

    fn release(&self, placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        let placement = placement.clone();
        Box::pin(async move {
            let Placement::Pool { address, lease, .. } = placement else { return Ok(()) };
            if !self.leases.is_over(&lease).await {
                self.end(&address, &lease).await?;
            }
            self.leases.forget(&lease);
            Ok(())
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        let usable = self.trouble().map_or(Ok(()), |reason| Err(BackendError(reason)));
        Box::pin(async move { usable })
    }

    fn trouble(&self) -> Option<String> {
        choice::nobody(&self.members.borrow()).map(|reason| self.with_remedy(reason))
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.room.made())
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        Box::pin(async move {
            let members = self.members.borrow().clone();
            Ok(join_all(members.iter().map(|member| self.ask(member))).await)
        })
    }
}

impl PoolBackend {
    /// How a worker is, asked of itself.
    async fn ask(&self, member: &Member) -> Worker {
        let facts = self.client.facts(&member.url).await.ok();
        let is_usable = |facts: &crate::worker::Facts| !facts.draining && facts.release == RELEASE;
        Worker {
            id: member.id.clone(),
            kind: "pool",
            name: member.name.clone(),
            healthy: facts.as_ref().is_some_and(is_usable),
            slots: Some(member.slots),
            busy: facts.as_ref().map(|facts| facts.busy),
            languages: Some(member.languages.clone()),
            layers: facts.map(|facts| facts.layers).unwrap_or_default(),
        }
    }
}
