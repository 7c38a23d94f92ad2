//! How many requests are under way at once.
//!
//! Nomad grants an address 100 connections at once (`http_max_conns_per_client`). One more is reset
//! by 1.1 and answered 429 since 1.3.4; and a blocking query keeps its place on the server until its
//! wait is over, even when its connection is closed.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most requests under way of a daemon: two daemons on one machine, with the connections that each
/// keeps for later, stay below Nomad's 100.
pub(super) const MOST: usize = 40;

/// Most that wait for news: blocking queries, which are short, and the event stream, which then has
/// its place before long.
const MOST_WAITS: usize = 12;

/// Most that read logs, followed ones and short reads alike. With [`MOST_WAITS`] it leaves 8 of
/// [`MOST`] to calls that are answered at once, so that a dispatch never stands in line behind a log.
const MOST_READS: usize = 20;

/// Most idle connections that are kept for later requests to the same agent.
pub(super) const MOST_IDLE: usize = 8;

/// What a request has its connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An answer at once.
    Call,
    /// News, whenever they come: a blocking query or an event stream.
    Wait,
    /// A log or file, which goes on as long as somebody reads it.
    Read,
}

/// Places for requests, shared by all clients of a daemon.
#[derive(Debug)]
pub(super) struct Budget {
    all: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// A place for one request; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_purpose: Option<OwnedSemaphorePermit>,
}

impl Default for Budget {
    fn default() -> Self {
        let places = |number| Arc::new(Semaphore::new(number));
        Budget { all: places(MOST), waits: places(MOST_WAITS), reads: places(MOST_READS) }
    }
}

impl Budget {
    /// Waits in line for a place.
    pub(super) async fn take(&self, purpose: Purpose) -> Permit {
        let of_purpose = match purpose {
            Purpose::Call => None,
            Purpose::Wait => Some(place(&self.waits).await),
            Purpose::Read => Some(place(&self.reads).await),
        };
        Permit { _of_all: place(&self.all).await, _of_purpose: of_purpose }
    }
}

async fn place(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("it is never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn take_all(budget: &Budget, purpose: Purpose) -> Vec<Permit> {
        std::iter::from_fn(|| budget.take(purpose).now_or_never()).collect()
    }

    #[test]
    fn what_lasts_leaves_places_to_calls() {
        let budget = Budget::default();
        let reads = take_all(&budget, Purpose::Read);
        let waits = take_all(&budget, Purpose::Wait);
        let calls = take_all(&budget, Purpose::Call);
        assert_eq!((reads.len(), waits.len(), calls.len()), (20, 12, 8));
        drop(reads);
        assert_eq!(take_all(&budget, Purpose::Call).len(), 20);
    }

    #[test]
    fn calls_alone_may_take_every_place() {
        let budget = Budget::default();
        let calls = take_all(&budget, Purpose::Call);
        assert_eq!(calls.len(), MOST);
        assert!(budget.take(Purpose::Wait).now_or_never().is_none());
    }
}
