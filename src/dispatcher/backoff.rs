//! How long to wait before asking again, and whether the backend is there.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::Settings;
use crate::submission::SubmissionId;

/// The wait after `tries` earlier ones in a row: doubled each time up to the longest, give or take
/// a quarter. The same arguments give the same wait, and different submissions different ones, so
/// that they do not all come back at once.
pub(super) fn wait(settings: &Settings, id: SubmissionId, tries: u32) -> Duration {
    let doubled = settings.backoff_first.saturating_mul(1 << tries.min(20));
    let wait = doubled.min(settings.backoff_longest);
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_uuid().as_bytes()).update(&tries.to_le_bytes());
    let spread = f64::from(hasher.finalize().as_bytes()[0]) / 255.0;
    wait.mul_f64(0.75 + spread / 2.0)
}

/// Whether the backend takes work. While it does not, nothing is claimed but one submission at a
/// time to try it with, so that its absence does not send the whole queue into backoff.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    away: Mutex<Option<Away>>,
}

#[derive(Debug, Clone)]
struct Away {
    failures: u32,
    until: Instant,
    reason: String,
}

/// How much may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// As much as there is room for.
    Open,
    /// One, to try.
    Probe,
    /// Nothing until then.
    Closed(Instant),
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A start found the backend away, for this reason.
    pub(super) fn failed(&self, settings: &Settings, id: SubmissionId, reason: &str, now: Instant) {
        let mut away = self.lock();
        let failures = away.as_ref().map_or(0, |away| away.failures);
        // Several that started together fail together: that is one failure.
        if away.as_ref().is_some_and(|away| now < away.until) {
            return;
        }
        let until = now + wait(settings, id, failures);
        *away = Some(Away { failures: failures + 1, until, reason: reason.to_owned() });
    }

    /// A start succeeded. Returns whether the backend was away before.
    pub(super) fn succeeded(&self) -> bool {
        self.lock().take().is_some()
    }

    /// It may be there again: has it be tried at once.
    pub(super) fn hasten(&self, now: Instant) {
        if let Some(away) = &mut *self.lock() {
            away.until = away.until.min(now);
        }
    }

    /// Why nothing is claimed, if so.
    pub(super) fn reason(&self) -> Option<String> {
        self.lock().as_ref().map(|away| away.reason.clone())
    }

    pub(super) fn admission(&self, now: Instant) -> Admission {
        match &*self.lock() {
            None => Admission::Open,
            Some(away) if now >= away.until => Admission::Probe,
            Some(away) => Admission::Closed(away.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Timestamp;

    fn id(millis: i64) -> SubmissionId {
        SubmissionId::new(Timestamp::from_millis(millis))
    }

    #[test]
    fn waits_double_up_to_the_longest_within_a_quarter() {
        let settings = Settings::default();
        let id = id(1);
        for tries in 0..40 {
            let plain = settings.backoff_first * 2u32.pow(tries.min(20));
            let plain = plain.min(settings.backoff_longest);
            let wait = wait(&settings, id, tries);
            assert!(
                wait >= plain.mul_f64(0.75) && wait <= plain.mul_f64(1.25),
                "{tries}: {wait:?}"
            );
        }
    }

    #[test]
    fn submissions_do_not_all_come_back_at_once() {
        let settings = Settings::default();
        let waits: std::collections::BTreeSet<_> =
            (0..50).map(|number| wait(&settings, id(number), 3)).collect();
        assert!(waits.len() > 20, "{} different waits", waits.len());
    }

    #[test]
    fn an_absent_backend_is_tried_with_one_at_a_time_until_it_is_back() {
        let (settings, breaker, now) = (Settings::default(), Breaker::default(), Instant::now());
        assert_eq!(breaker.admission(now), Admission::Open);
        breaker.failed(&settings, id(1), "away", now);
        let Admission::Closed(until) = breaker.admission(now) else { panic!("not closed") };
        // One that started together with the first fails with it.
        breaker.failed(&settings, id(2), "away", now);
        assert_eq!(breaker.admission(now), Admission::Closed(until));
        assert_eq!(breaker.admission(until), Admission::Probe);
        breaker.failed(&settings, id(1), "still away", until);
        let Admission::Closed(later) = breaker.admission(until) else { panic!("not closed") };
        assert!(later - until > until - now, "the second wait is the longer");
        assert_eq!(breaker.reason().as_deref(), Some("still away"));
        breaker.hasten(until);
        assert_eq!(breaker.admission(until), Admission::Probe, "there is news of it");
        assert!(breaker.succeeded() && !breaker.succeeded());
        assert_eq!(breaker.admission(now), Admission::Open);
    }
}
