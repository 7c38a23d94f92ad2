//! The attempts that this process acts for, and how to stop them.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{store::Claim, submission::SubmissionId};

/// All attempts of this process.
#[derive(Debug, Default)]
pub(super) struct Live {
    table: Mutex<Table>,
    /// Room has been made, or there is news.
    pub(super) freed: Notify,
    /// Whether there may be more to claim than was seen at the last look.
    news: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    in_flight: usize,
    tokens: HashMap<SubmissionId, (u32, CancellationToken)>,
    /// Attempts whose task still acts, if only to clear up.
    busy: HashSet<(SubmissionId, u32)>,
    claiming: bool,
    /// Cancelled between their claim and their registration.
    cancelled_early: HashSet<SubmissionId>,
}

/// One attempt's place in flight, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    live: Arc<Live>,
    id: SubmissionId,
    attempt: u32,
    token: CancellationToken,
    is_given_back: AtomicBool,
}

/// Keeps the reaper away from an attempt's placement, until dropped.
#[derive(Debug)]
pub(super) struct Busy {
    live: Arc<Live>,
    key: (SubmissionId, u32),
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Something may be there to be claimed that was not there before.
    pub(super) fn wake(&self) {
        self.news.store(true, Ordering::Release);
        self.freed.notify_one();
    }

    /// Whether there has been news since this was asked last.
    pub(super) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// A claim is about to be asked for: cancels that meet no attempt are kept for its result.
    pub(super) fn begin_claim(&self) {
        self.lock().claiming = true;
    }

    /// All that were claimed are registered.
    pub(super) fn end_claim(&self) {
        let mut table = self.lock();
        table.claiming = false;
        table.cancelled_early.clear();
    }

    /// Takes an attempt up.
    pub(super) fn register(self: &Arc<Self>, claim: &Claim) -> (Permit, Busy) {
        let token = CancellationToken::new();
        let (id, attempt) = (claim.id, claim.attempt);
        let mut table = self.lock();
        if table.cancelled_early.remove(&id) {
            token.cancel();
        }
        table.in_flight += 1;
        table.tokens.insert(id, (attempt, token.clone()));
        table.busy.insert((id, attempt));
        let is_given_back = AtomicBool::new(false);
        let permit = Permit { live: self.clone(), id, attempt, token, is_given_back };
        (permit, Busy { live: self.clone(), key: (id, attempt) })
    }

    /// Stops whatever this process does for a submission, once its end is on disk.
    pub(super) fn cancel(&self, id: SubmissionId) {
        let mut table = self.lock();
        if let Some((_, token)) = table.tokens.get(&id) {
            token.cancel();
        } else if table.claiming {
            table.cancelled_early.insert(id);
        }
    }

    /// How many attempts are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Whether a task still acts for this attempt.
    pub(super) fn is_busy(&self, id: SubmissionId, attempt: u32) -> bool {
        self.lock().busy.contains(&(id, attempt))
    }
}

impl Permit {
    /// Cancelled when the submission has been ended by its user.
    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.token
    }

    /// Gives the place back before the attempt has ended: what ran in it has.
    pub(super) fn give_place_back(&self) {
        if !self.is_given_back.swap(true, Ordering::AcqRel) {
            self.live.lock().in_flight -= 1;
            self.live.freed.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_place_back();
        let mut table = self.live.lock();
        // A later attempt may have taken the entry over.
        if table.tokens.get(&self.id).is_some_and(|(attempt, _)| *attempt == self.attempt) {
            table.tokens.remove(&self.id);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.live.lock().busy.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Claim;

    #[test]
    fn a_cancel_between_claim_and_registration_reaches_the_attempt() {
        let live = Arc::new(Live::default());
        let (first, second) = (Claim::example(1), Claim::example(1));
        live.begin_claim();
        live.cancel(first.id);
        let (permit, _busy) = live.register(&first);
        let (other, _other_busy) = live.register(&second);
        live.end_claim();
        assert!(permit.cancelled().is_cancelled() && !other.cancelled().is_cancelled());
    }

    #[test]
    fn a_cancel_that_meets_nothing_is_not_kept() {
        let live = Arc::new(Live::default());
        let claim = Claim::example(1);
        live.cancel(claim.id);
        let (permit, _busy) = live.register(&claim);
        assert!(!permit.cancelled().is_cancelled());
    }

    #[test]
    fn a_place_is_given_back_once_and_its_attempt_can_still_be_cancelled() {
        let live = Arc::new(Live::default());
        let claim = Claim::example(1);
        let (permit, _busy) = live.register(&claim);
        permit.give_place_back();
        permit.give_place_back();
        assert_eq!(live.in_flight(), 0);
        live.cancel(claim.id);
        assert!(permit.cancelled().is_cancelled());
        drop(permit);
        assert_eq!(live.in_flight(), 0);
    }

    #[test]
    fn the_end_of_an_attempt_does_not_unregister_the_next() {
        let live = Arc::new(Live::default());
        let claim = Claim::example(1);
        let mut next = claim.clone();
        next.attempt = 2;
        let (first, first_busy) = live.register(&claim);
        let (second, _second_busy) = live.register(&next);
        assert_eq!(live.in_flight(), 2);
        drop(first);
        assert_eq!(live.in_flight(), 1);
        assert!(live.is_busy(claim.id, 1), "its task still clears up");
        drop(first_busy);
        assert!(!live.is_busy(claim.id, 1) && live.is_busy(claim.id, 2));
        live.cancel(claim.id);
        assert!(second.cancelled().is_cancelled());
    }
}
