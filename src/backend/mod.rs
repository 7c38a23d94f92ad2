//! Where attempts run: one trait, and a file for each kind of place.
//!
//! A backend knows nothing of the API or of SQLite. The dispatcher calls it; `cli/serve.rs` alone
//! names the concrete ones.

pub mod absent;
pub mod auto;
pub mod local;
pub mod nomad;
pub mod pool;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    protocol::{Event, ExecutionRequest, Input},
    submission::{Placement, SubmissionId},
};

pub use crate::sandbox::Layer;

/// Events of one execution that may wait for a reader. Small: output chunks are up to 64 KiB, so
/// this bounds an execution to about 1 MiB in flight; past it the program's pipes fill and it waits.
pub const EVENT_CHANNEL: usize = 16;

/// A place that can run attempts.
pub trait Backend: Send + Sync + 'static {
    /// `local`, `nomad`, `pool` or `auto`: for logs, metrics and messages.
    fn name(&self) -> &'static str;

    /// How many executions it wants at once at the most; the dispatcher never has more in flight.
    fn capacity(&self) -> usize;

    /// Begins one attempt. Returns when the attempt is placed, not when it is over.
    ///
    /// Cancel safety: dropping the future may leave something placed; the caller then calls
    /// [`Backend::recover`] and [`Backend::release`].
    ///
    /// # Errors
    /// [`StartError`] says whether the attempt counts.
    fn start(&self, request: Arc<ExecutionRequest>)
    -> BoxFuture<'_, Result<Execution, StartError>>;

    /// Finds an attempt that an earlier daemon process may have placed and takes it up again, from
    /// its first event. `placement` is what was saved, absent when the process ended before it
    /// could be.
    ///
    /// Returns `None` when nothing of it can ever give a result: the attempt was lost with the
    /// process, and may be made anew.
    ///
    /// # Errors
    /// The backend could not be asked; try again later.
    fn recover(
        &self,
        request: Arc<ExecutionRequest>,
        placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>>;

    /// Ends whatever of the placement still runs and removes what it left. Idempotent. When it
    /// returns, nothing is left.
    ///
    /// The caller calls it for every placement: after `finished` and [`Update::Lost`] too, but only
    /// once that is on disk. Until then a backend whose executions outlive the daemon keeps the
    /// result, so that [`Backend::recover`] can read it again.
    ///
    /// # Errors
    /// The backend could not be asked; try again later.
    fn release(&self, placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>>;

    /// Whether the place of an attempt that has ended may be given to another before the placement is
    /// released: nothing of the program runs or will run, and the backend does not count it any more.
    /// Does no more than that takes, which may be to ask once; [`Backend::release`] does the rest.
    fn vacate<'a>(&'a self, _placement: &'a Placement) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    /// Whether what is placed may still run when the machine of the daemon has fallen. A claim is on disk
    /// before anything of it is placed there, so that it is found again.
    fn outlasts_the_machine(&self) -> bool {
        true
    }

    /// Whether the place of an attempt is another's as soon as its runner has said its last word, before that is
    /// on disk: where a start waits for a slot instead of failing.
    fn is_free_when_finished(&self, _placement: &Placement) -> bool {
        false
    }

    /// Whether programs can be talked to here while they run. Where not, a start of one is
    /// [`StartError::Refused`].
    fn takes_input(&self) -> bool {
        true
    }

    /// A runner of this attempt says that it has said its last word: a hint to look now, which may be false.
    fn nudge(&self, _submission: SubmissionId, _attempt: u32) {}

    /// Whether an attempt could begin now, as far as can be told without one. Asked at the start, and
    /// while nothing waits that would show whether a backend that was away is back.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async { self.workers().await.map(drop) })
    }

    /// Why an attempt could not begin now, as a sentence, when the backend has noticed by itself: at any
    /// time, and at no cost.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns when there is room that there was not before, as of a worker that came: for attempts that
    /// were refused for want of it. At most one waits for it; what comes while nobody does is not lost.
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Placements of this daemon that the backend has and nobody here acts for: of a start that was
    /// carried out after it was given up. Those of attempts that are still to be recovered may be among
    /// them.
    ///
    /// # Errors
    /// The backend could not be asked; try again later.
    fn strays(&self) -> BoxFuture<'_, Result<Vec<Stray>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The places that code can run on now, for `GET /v1/workers`.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>>;
}

/// An attempt that is placed.
///
/// Dropping `events` tells the backend that nobody wants the result: it ends the program as soon
/// as it can. [`Backend::release`] then waits until that is so. The exception is a daemon that is
/// stopping: executions that can outlive it then run on, to be recovered by the next one. A backend
/// with such executions is told so when it is made.
#[derive(Debug)]
pub struct Execution {
    /// Where it is, as far as known now.
    pub placement: Placement,
    /// What happens, in the order of `seq`, from 0. Repeats are possible after a re-read; gaps
    /// are not. Ends after `finished`, or early when the attempt is lost.
    pub events: mpsc::Receiver<Update>,
    /// What reaches the program while it runs, where it is one that is talked to. Its input ends when this is
    /// dropped; whoever sends waits when the program does not read.
    pub input: Option<mpsc::Sender<Input>>,
}

/// Something new about an execution.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The runner said something.
    Event(Event),
    /// More is known of where it runs.
    Placement(Placement),
    /// It is placed but cannot begin, as a sentence: what it waits for.
    Waiting(String),
    /// Whether the backend can be asked how it is. While it cannot, time is not the attempt's fault.
    Reachable(bool),
    /// The attempt is lost, as a sentence: why. The last update.
    Lost(String),
}

impl From<Event> for Update {
    fn from(event: Event) -> Update {
        Update::Event(event)
    }
}

/// A placement that nobody acts for, as far as the backend knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Of which submission.
    pub submission: SubmissionId,
    /// Of which attempt.
    pub attempt: u32,
    /// Where it is.
    pub placement: Placement,
}

/// Why an attempt did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The backend is away or full: back to the queue with backoff, and nothing is counted.
    #[error("{0}")]
    Unavailable(String),
    /// There is no place for this one now, though there may be for others: back to the queue with backoff,
    /// and nothing is counted.
    #[error("{0}")]
    NoPlace(String),
    /// It may have been placed or not: `recover` tells. Nothing is counted.
    #[error("{0}")]
    Ambiguous(String),
    /// It can never be placed as it is: the submission ends as our fault.
    #[error("{0}")]
    Refused(String),
}

/// The backend could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// A place that code can run on.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Unique in its kind: `local`, or the node's id.
    pub id: String,
    /// `local`, `nomad` or `pool`.
    pub kind: &'static str,
    /// For people.
    pub name: String,
    /// Whether it takes work now.
    pub healthy: bool,
    /// Executions at once, where known.
    pub slots: Option<usize>,
    /// Executions now, where known.
    pub busy: Option<usize>,
    /// Ids of the languages that it has the tool chains of, where the backend knows.
    pub languages: Option<Vec<String>>,
    /// What the sandbox there is made of, where known.
    pub layers: Vec<Layer>,
}
