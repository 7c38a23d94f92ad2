//! What the engine tells whoever counts. `metrics.rs` implements it; nothing here knows how.

use std::time::Duration;

use crate::submission::Verdict;

/// Told of what happens. Methods are called from the engine's own tasks: they return at once.
pub trait Observer: Send + Sync + 'static {
    /// A submission was stored.
    fn accepted(&self, language: &str) {
        let _ = language;
    }

    /// An attempt was placed, so long after the submission was accepted.
    fn started(&self, language: &str, waited: Duration) {
        let _ = (language, waited);
    }

    /// A program of a submission was compiled, or had been before.
    fn compiled(&self, cached: bool) {
        let _ = cached;
    }

    /// A submission ended, so long after it was accepted.
    fn finished(&self, verdict: Verdict, latency: Duration) {
        let _ = (verdict, latency);
    }

    /// An attempt was lost.
    fn attempt_lost(&self) {}

    /// The backend took no attempt.
    fn backend_unavailable(&self) {}

    /// So many submissions wait.
    fn queue_depth(&self, waiting: u64) {
        let _ = waiting;
    }

    /// So many attempts are in flight.
    fn in_flight(&self, attempts: usize) {
        let _ = attempts;
    }
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
