//! Runners that call the daemon to say that they have said their last word. A call is a hint to look now
//! and no more: what counts is what is read from the node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::submission::SubmissionId;

/// A submission and one of its attempts.
pub(super) type Of = (SubmissionId, u32);

/// Whom a call is for, by the attempt that it is about.
#[derive(Debug, Default)]
pub(super) struct Calls {
    bells: Mutex<HashMap<Of, Arc<Notify>>>,
}

/// The bell of one follower; nobody rings it after it is dropped.
#[derive(Debug)]
pub(super) struct Bell {
    of: Of,
    rung: Arc<Notify>,
    calls: Arc<Calls>,
}

impl Calls {
    /// Calls about this attempt are for the caller from now on.
    pub(super) fn answer(self: &Arc<Self>, of: Of) -> Bell {
        let rung = Arc::new(Notify::new());
        self.bells().insert(of, rung.clone());
        Bell { of, rung, calls: self.clone() }
    }

    /// Passes a call on; it is lost when nobody follows the attempt.
    pub(super) fn ring(&self, of: Of) {
        if let Some(bell) = self.bells().get(&of) {
            bell.notify_one();
        }
    }

    fn bells(&self) -> MutexGuard<'_, HashMap<Of, Arc<Notify>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    /// Waits for a call, or returns at once when one came before.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut bells = self.calls.bells();
        // Another may answer by now.
        if bells.get(&self.of).is_some_and(|bell| Arc::ptr_eq(bell, &self.rung)) {
            bells.remove(&self.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_rung(bell: &Bell) -> bool {
        tokio::time::timeout(Duration::from_millis(5), bell.rung()).await.is_ok()
    }

    #[tokio::test]
    async fn a_call_is_for_whoever_answers_last_and_lost_when_nobody_does() {
        let id: SubmissionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let calls = Arc::new(Calls::default());
        calls.ring((id, 1));
        let first = calls.answer((id, 1));
        assert!(!is_rung(&first).await);
        calls.ring((id, 2));
        calls.ring((id, 1));
        calls.ring((id, 1));
        assert!(is_rung(&first).await && !is_rung(&first).await);
        let second = calls.answer((id, 1));
        drop(first);
        calls.ring((id, 1));
        assert!(is_rung(&second).await);
        drop(second);
        assert!(calls.bells().is_empty());
    }
}
