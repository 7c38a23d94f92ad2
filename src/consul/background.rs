//! What the tasks that go on by themselves share: who waits for them, what ends them, and what is
//! wrong now.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ConsulError, pace::Jitter};
use crate::error_chain::error_chain;

/// Where watches and registrations run. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Background {
    tasks: TaskTracker,
    stopping: CancellationToken,
    seed: Arc<str>,
    troubles: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Background {
    /// Tasks run on `tasks`, whose owner waits for them, until `stopping` is cancelled; then they
    /// end within 3 s. `seed` is anything that differs between processes: it spreads their calls.
    pub fn new(tasks: TaskTracker, stopping: CancellationToken, seed: &str) -> Self {
        Background { tasks, stopping, seed: seed.into(), troubles: Arc::default() }
    }

    /// What does not work now, one sentence each, as anybody may read it: `service nomad: Consul cannot
    /// be reached`.
    /// Nothing when all is well, and before anything was tried.
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.lock();
        troubles.iter().map(|(subject, reason)| format!("{subject}: {reason}")).collect()
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(super) fn jitter(&self, subject: &str) -> Jitter {
        Jitter::new(&self.seed, subject)
    }

    /// `subject` failed. Logged when it was well before, so that an absence is one line.
    pub(super) fn failed(&self, subject: &str, error: &ConsulError) {
        let reason = error_chain(error);
        tracing::debug!(consul.subject = subject, error = reason, "Consul gave no answer");
        let before = self.lock().insert(subject.to_owned(), error.public());
        if before.is_none() {
            tracing::warn!(
                consul.subject = subject,
                error = reason,
                "Consul gives no answer; what it said last holds until it does"
            );
        }
    }

    /// `subject` is well. Logged when it was not before.
    pub(super) fn succeeded(&self, subject: &str) {
        if self.lock().remove(subject).is_some() {
            tracing::info!(consul.subject = subject, "Consul answers again");
        }
    }

    /// `subject` is of no interest any more.
    pub(super) fn forget(&self, subject: &str) {
        self.lock().remove(subject);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
