//! Owns a submission between queued and finished.
//!
//! ```text
//!   api ──> Handle ── insert ──> store                  step 2
//!             │ wake                                      
//!             v                                           
//!   Dispatcher::run: claim_next ──> attempt ──> follow   steps 4, 5, 8: a task an attempt
//!             │        ^ freed        │ start    │ events
//!             │        └──────────────┴──────────┴──> finish, waiters   steps 9, 10
//!             └─ reaper: leftovers and timeouts, on a timer
//! ```
//!
//! All that must survive is in the store; what is here can be lost at any instant.

mod attached;
mod attempt;
mod backoff;
mod budget;
mod core;
mod error;
mod figures;
mod follow;
mod handle;
mod live;
mod observer;
mod outcome;
mod parked;
mod reaper;
mod recovery;
mod settings;
mod stuck;
mod views;
mod waiters;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{backoff::Admission, core::Core};
use crate::{
    backend::{Backend, BackendError},
    language::Catalog,
    store::{Interrupted, Outlook, Store, StoreError, Trace},
    submission::{Clock, SubmissionId},
};

pub use attached::Attachment;
pub use error::{ReadError, SubmitError};
pub use handle::Handle;
pub use observer::{NoObserver, Observer};
pub use settings::{InFlightCap, Settings};
pub use views::{
    Filter, MinuteStats, Page, PartStatus, Readiness, Stats, StreamView, Submitted, Summary, View,
};

/// How long the loop sleeps at the most when nothing wakes it: a claim that failed is tried again
/// by then, and a capacity that grew is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// What a dispatcher works with.
pub struct Parts {
    /// Where submissions are kept.
    pub store: Store,
    /// Where attempts run.
    pub backend: Arc<dyn Backend>,
    /// What the languages are.
    pub catalog: Catalog,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The numbers.
    pub settings: Settings,
    /// Who is told of what happens.
    pub observer: Arc<dyn Observer>,
    /// Cancelled when nothing new is to be taken; what runs may go on to its end.
    pub soft: CancellationToken,
    /// Cancelled when everything is to end now. What is unfinished is found again at the next start.
    pub hard: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The part that runs. Submissions can be sent through the [`Handle`] before it does.
pub struct Dispatcher {
    core: Arc<Core>,
    interrupted: Vec<Interrupted>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher")
            .field("interrupted", &self.interrupted.len())
            .finish_non_exhaustive()
    }
}

/// Why a dispatcher ended before it was told to. The process must end too: the next one finds
/// everything as it was.
#[derive(Debug, thiserror::Error)]
pub enum DispatcherError {
    /// A task of its own panicked.
    #[error("an attempt's task broke")]
    Broken(#[source] tokio::task::JoinError),
    /// The store has ended.
    #[error("the store ended under the dispatcher")]
    StoreEnded,
}

impl Dispatcher {
    /// Reads what an earlier process left unfinished and makes the two halves: the handle for the
    /// API, and the part to be run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(parts: Parts) -> Result<(Handle, Dispatcher), StoreError> {
        let Parts { store, backend, catalog, clock, settings, observer, soft, hard } = parts;
        let interrupted = store.interrupted().await?;
        let core = Arc::new(Core {
            store,
            backend,
            catalog,
            clock,
            settings,
            observer,
            live: Arc::default(),
            waiters: Default::default(),
            attached: Default::default(),
            breaker: Default::default(),
            figures: figures::Figures::new(),
            parked: Default::default(),
            stuck: Default::default(),
            soft,
            hard,
        });
        // Before anybody asks how it is: what cannot run anything says so from the start.
        let _ = tokio::time::timeout(FIRST_CHECK, check_backend(&core)).await;
        let handle = Handle::new(core.clone());
        Ok((handle, Dispatcher { core, interrupted }))
    }

    /// Dispatches until the soft token is cancelled, then until what runs has ended or the hard
    /// token is cancelled.
    ///
    /// # Errors
    /// See [`DispatcherError`].
    pub async fn run(self) -> Result<(), DispatcherError> {
        let Dispatcher { core, interrupted } = self;
        let mut attempts = JoinSet::new();
        for interrupted in interrupted {
            let (permit, busy) = core.live.register(&interrupted.claimed.claim);
            attempts.spawn(recovery::resume(core.clone(), interrupted, permit, busy));
        }
        tokio::select! {
            ended = dispatch(&core, &mut attempts) => ended,
            _ = reaper::run(&core) => Ok(()),
            () = core.store.closed() => Err(DispatcherError::StoreEnded),
        }?;
        // Tasks that wait for something else than the hard token are few and short.
        while let Some(joined) = attempts.join_next().await {
            joined.map_err(DispatcherError::Broken)?;
        }
        Ok(())
    }
}

/// Claims and starts until told to stop, then waits for what runs.
async fn dispatch(core: &Arc<Core>, attempts: &mut JoinSet<()>) -> Result<(), DispatcherError> {
    let mut seen_in_flight = usize::MAX;
    let mut cap = core.settings.max_in_flight.changes();
    let mut look_at = Instant::now();
    while !core.soft.is_cancelled() {
        // Subscribed before looking: what comes in between wakes the wait below.
        let freed = core.live.freed.notified();
        let pause = claim(core, attempts, &mut look_at).await;
        let in_flight = core.live.in_flight();
        if in_flight != seen_in_flight {
            core.observer.in_flight(in_flight);
            seen_in_flight = in_flight;
        }
        if pause.is_zero() {
            continue;
        }
        tokio::select! {
            () = freed => {}
            _ = cap.changed() => {}
            () = core.backend.room() => core.rouse().await,
            () = tokio::time::sleep(pause) => {}
            () = core.soft.cancelled() => {}
            Some(joined) = attempts.join_next() => joined.map_err(DispatcherError::Broken)?,
        }
    }
    while let Some(joined) = attempts.join_next().await {
        joined.map_err(DispatcherError::Broken)?;
        core.observer.in_flight(core.live.in_flight());
    }
    Ok(())
}

/// Claims what there is room for and begins it. Returns how long there will be nothing to claim
/// unless somebody says so; until `look_at` that is known from before, and nothing is looked for.
async fn claim(core: &Arc<Core>, attempts: &mut JoinSet<()>, look_at: &mut Instant) -> Duration {
    let most = core.backend.capacity().min(core.settings.max_in_flight.get());
    let room = most.saturating_sub(core.live.in_flight());
    let room = match core.breaker.admission(Instant::now()) {
        Admission::Open => room.min(CLAIMS),
        Admission::Probe => room.min(1),
        Admission::Closed(until) => return until.saturating_duration_since(Instant::now()),
    };
    if room == 0 {
        return LONGEST_SLEEP;
    }
    // News is taken first, so that what comes during the look is looked for again.
    let is_news = core.live.take_news() || core.breaker.reason().is_some();
    let left = look_at.saturating_duration_since(Instant::now());
    if !is_news && !left.is_zero() {
        return left;
    }
    match claim_some(core, attempts, room).await {
        Ok(pause) => {
            let pause = pause.min(LONGEST_SLEEP);
            *look_at = Instant::now() + pause;
            pause
        }
        Err(error) => {
            tracing::warn!(%error, "nothing could be claimed; trying again soon");
            *look_at = Instant::now();
            LONGEST_SLEEP
        }
    }
}

async fn claim_some(
    core: &Arc<Core>,
    attempts: &mut JoinSet<()>,
    room: usize,
) -> Result<Duration, StoreError> {
    // A look costs the writer nothing, and says how many there are to be claimed.
    let Outlook { ready, next } = core.store.outlook().await?;
    let now = core.now();
    let until_next = next.map_or(LONGEST_SLEEP, |next| next.since(now));
    // Of those whose backoff is over it is not known how many there are.
    let is_known = next.is_none_or(|next| next > now);
    if ready == 0 && next.is_none() && core.breaker.reason().is_some() {
        // Nothing waits that would show whether the backend is back.
        tokio::select! {
            () = check_backend(core) => {}
            () = core.soft.cancelled() => {}
        }
    }
    if ready == 0 && is_known {
        return Ok(until_next);
    }
    let most = if is_known { room.min(usize::try_from(ready).unwrap_or(room)) } else { room };
    let trace = if core.backend.outlasts_the_machine() { Trace::Outlasting } else { Trace::None };
    core.live.begin_claim();
    let claimed = core.store.claim(most, now, trace).await;
    let claimed = claimed.inspect_err(|_| core.live.end_claim())?;
    let all = is_known && claimed.len() as u64 == ready;
    for claimed in claimed {
        let (permit, busy) = core.live.register(&claimed.claim);
        attempts.spawn(attempt::attempt(core.clone(), claimed, permit, busy));
    }
    core.live.end_claim();
    Ok(match core.breaker.reason() {
        // With a backend that was away, one at a time: the wait is for what becomes of it.
        Some(_) => LONGEST_SLEEP,
        None if all => until_next,
        None => Duration::ZERO,
    })
}

/// Asks the backend whether it would take work, and remembers the answer.
async fn check_backend(core: &Core) {
    match core.backend.check().await {
        Ok(()) => core.backend_takes_work(),
        Err(BackendError(reason)) => core.backend_away(SubmissionId::new(core.now()), &reason),
    }
}

/// How long the first question to the backend may hold up the start.
const FIRST_CHECK: Duration = Duration::from_secs(2);

/// Claimed at once at the most, so that one burst does not hold the writer for long.
const CLAIMS: usize = 64;
