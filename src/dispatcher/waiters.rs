//! Step 10: who waits for a submission to finish.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::submission::SubmissionId;

/// Those who wait, by submission. Holds nothing for a submission that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    waiting: Mutex<HashMap<SubmissionId, Arc<Notify>>>,
}

/// A place among those who wait. Taken before looking at the submission, so that an end between
/// the look and the wait is not missed.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    id: SubmissionId,
    notify: Arc<Notify>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<SubmissionId, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes a place.
    pub(super) fn subscribe(&self, id: SubmissionId) -> Waiter<'_> {
        let notify = self.lock().entry(id).or_default().clone();
        Waiter { waiters: self, id, notify }
    }

    /// The submission has ended and its outcome can be read.
    pub(super) fn publish(&self, id: SubmissionId) {
        if let Some(notify) = self.lock().remove(&id) {
            notify.notify_waiters();
        }
    }
}

impl Waiter<'_> {
    /// A future that completes at the next [`Waiters::publish`] after this call, awaited or not.
    pub(super) fn finished(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // Two: this one and the table's.
        if let Some(notify) = waiting.get(&self.id)
            && Arc::ptr_eq(notify, &self.notify)
            && Arc::strong_count(notify) <= 2
        {
            waiting.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Timestamp;

    #[tokio::test]
    async fn an_end_before_the_wait_but_after_the_look_is_not_missed() {
        let (waiters, id) = (Waiters::default(), SubmissionId::new(Timestamp::from_millis(1)));
        let waiter = waiters.subscribe(id);
        let finished = waiter.finished();
        waiters.publish(id);
        finished.await;
    }

    #[test]
    fn nothing_is_kept_when_nobody_waits() {
        let (waiters, id) = (Waiters::default(), SubmissionId::new(Timestamp::from_millis(1)));
        let (first, second) = (waiters.subscribe(id), waiters.subscribe(id));
        drop(first);
        assert_eq!(waiters.lock().len(), 1);
        drop(second);
        assert!(waiters.lock().is_empty());
        let late = waiters.subscribe(id);
        waiters.publish(id);
        assert!(waiters.lock().is_empty());
        drop(late);
    }
}
