//! Placements that could not be cleared, of which that has been said: it is tried again on and on, and
//! one line for each is enough.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard},
};

use crate::submission::SubmissionId;

/// Those that are left, each by its submission and attempt.
#[derive(Debug, Default)]
pub(super) struct Stuck(Mutex<HashSet<(SubmissionId, u32)>>);

impl Stuck {
    fn lock(&self) -> MutexGuard<'_, HashSet<(SubmissionId, u32)>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One could not be cleared. Whether that is news.
    pub(super) fn is_news(&self, id: SubmissionId, attempt: u32) -> bool {
        self.lock().insert((id, attempt))
    }

    /// One is cleared.
    pub(super) fn cleared(&self, id: SubmissionId, attempt: u32) {
        self.lock().remove(&(id, attempt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Timestamp;

    #[test]
    fn each_is_news_once_until_it_is_cleared() {
        let (stuck, id) = (Stuck::default(), SubmissionId::new(Timestamp::from_millis(1)));
        assert!(stuck.is_news(id, 1) && stuck.is_news(id, 2) && !stuck.is_news(id, 1));
        stuck.cleared(id, 1);
        assert!(stuck.is_news(id, 1) && !stuck.is_news(id, 2));
    }
}
