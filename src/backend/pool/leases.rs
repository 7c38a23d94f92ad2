//! The leases that this daemon has, and following one to its end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::Update,
    error_chain::error_chain,
    protocol::EventKind,
    worker::{Leased, RunError},
};

/// How long a worker may take to clear up after the last event of a run.
const END_TIME: Duration = Duration::from_secs(10);

/// The leases that were taken and not released.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    worker: String,
    end: End,
    /// Cancelled when nobody follows it any more.
    unfollowed: CancellationToken,
}

/// What is known of the end of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is followed.
    Open,
    /// Its worker has said that nothing of it is left.
    Over,
    /// It was left, or lost, at this time.
    Broken(Instant),
}

/// A lease that is followed, until dropped.
#[derive(Debug)]
pub(super) struct Held {
    leases: Arc<Leases>,
    lease: String,
}

impl Leases {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a lease that somebody follows from now on.
    pub(super) fn hold(self: &Arc<Self>, worker: &str, lease: &str) -> Held {
        let entry = Entry {
            worker: worker.to_owned(),
            end: End::Open,
            unfollowed: CancellationToken::new(),
        };
        self.held().insert(lease.to_owned(), entry);
        Held { leases: self.clone(), lease: lease.to_owned() }
    }

    /// How many runs of ours a worker has, as far as is known.
    pub(super) fn load(&self, worker: &str) -> usize {
        let held = self.held();
        held.values().filter(|entry| entry.worker == worker && entry.end == End::Open).count()
    }

    /// Whether the worker has said that nothing is left of a lease; waits until nobody follows it. False
    /// for one that is not known.
    pub(super) async fn is_over(&self, lease: &str) -> bool {
        let Some(entry) = self.held().get(lease).cloned() else { return false };
        entry.unfollowed.cancelled().await;
        self.held().get(lease).is_some_and(|entry| entry.end == End::Over)
    }

    /// Since when nobody listens to a lease, where that is known.
    pub(super) fn broken_since(&self, lease: &str) -> Option<Instant> {
        match self.held().get(lease)?.end {
            End::Broken(since) => Some(since),
            End::Open | End::Over => None,
        }
    }

    /// Takes note that nothing is left of a lease.
    pub(super) fn forget(&self, lease: &str) {
        self.held().remove(lease);
    }

    fn ended(&self, lease: &str, end: End) {
        if let Some(entry) = self.held().get_mut(lease) {
            entry.end = end;
        }
    }
}

impl Held {
    /// Takes note that the worker has said that nothing of it is left.
    fn over(&self) {
        self.leases.ended(&self.lease, End::Over);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        if let Some(entry) = held.get_mut(&self.lease) {
            if entry.end == End::Open {
                entry.end = End::Broken(Instant::now());
            }
            entry.unfollowed.cancel();
        }
    }
}

/// Passes on what is said until the run is over, or nobody listens: then the connection ends, and with
/// it the run.
///
/// # Errors
/// The worker was lost.
pub(super) async fn follow(
    mut leased: Leased,
    updates: mpsc::Sender<Update>,
    held: &Held,
) -> Result<(), RunError> {
    let (mut finished, mut patience) = (false, Instant::now());
    loop {
        let next = tokio::select! {
            // Whoever has the last event may go, and nothing is left to be told.
            () = updates.closed(), if !finished => return Ok(()),
            () = tokio::time::sleep_until(patience), if finished => return Err(RunError::Silent),
            next = leased.next() => next,
        };
        match next {
            Ok(Some(event)) => {
                if !finished && matches!(event.kind, EventKind::Finished { .. }) {
                    (finished, patience) = (true, Instant::now() + END_TIME);
                }
                if updates.send(Update::Event(event)).await.is_err() && !finished {
                    return Ok(());
                }
            }
            Ok(None) => {
                held.over();
                if !finished {
                    let reason = "its worker ended the run without a result".to_owned();
                    let _ = updates.send(Update::Lost(reason)).await;
                    return Err(RunError::Broken(None));
                }
                return Ok(());
            }
            Err(error) => {
                if !finished {
                    tracing::debug!(reason = error_chain(&error), "a run was lost");
                    let _ = updates.send(Update::Lost(error.to_string())).await;
                }
                return Err(error);
            }
        }
    }
}
