//! When to ask again, and with which index: decided here, without a clock or a socket.

use std::time::Duration;

/// The longest that a blocking query is asked to wait. Short against Consul's own 5 min, so that an
/// index that went back behind a load balancer, where no error shows it, is noticed within a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// By how much waits differ, so that the queries of a cluster's daemons do not all end at once.
const WAIT_SPREAD: Duration = Duration::from_secs(10);

/// The least time between the starts of two queries. A query that was held longer than this is
/// followed at once, so a change is seen as it comes; an index that moves all the time costs four
/// queries a second.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// The first wait after a failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// The longest wait after failures: how late we notice at worst that Consul is back.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Spreads waits. The same seed and the same count give the same, and different ones differ.
#[derive(Debug, Clone)]
pub(super) struct Jitter(blake3::Hash);

impl Jitter {
    /// `seed` is what differs between processes, `subject` between the tasks of one.
    pub(super) fn new(seed: &str, subject: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(seed.as_bytes()).update(b"\0").update(subject.as_bytes());
        Jitter(hasher.finalize())
    }

    /// From 0 to 1.
    fn fraction(&self, count: u64) -> f64 {
        let hash = blake3::keyed_hash(self.0.as_bytes(), &count.to_le_bytes());
        f64::from(hash.as_bytes()[0]) / 255.0
    }

    /// How long the blocking query of this number is to wait.
    pub(super) fn wait(&self, count: u64) -> Duration {
        LONGEST_WAIT - WAIT_SPREAD.mul_f64(self.fraction(count))
    }

    /// How long to wait after that many earlier failures in a row: doubled each time up to the
    /// longest, give or take a quarter.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.min(16));
        doubled.min(LONGEST_BACKOFF).mul_f64(0.75 + self.fraction(failures.into()) / 2.0)
    }
}

/// The index to ask with next, 0 for an answer at once, after `last` was answered with `answered`.
///
/// An index that went back was counted by another: a server's data was restored, or an agent in dev
/// mode started anew. To wait beyond the old one would miss all changes until the new one comes by
/// it. And 0 is never waited beyond, since with it Consul answers at once, which would be a hot loop.
pub(super) fn next_index(last: u64, answered: u64) -> u64 {
    if answered < last { 0 } else { answered.max(1) }
}

/// How long to wait before the next query when the last one took this long.
pub(super) fn pause(took: Duration) -> Duration {
    MIN_INTERVAL.saturating_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_follows_the_answer_and_starts_over_when_it_goes_back() {
        for (last, answered, next) in
            [(0, 24, 24), (24, 24, 24), (24, 100, 100), (99_999_999, 24, 0), (24, 0, 0), (0, 0, 1)]
        {
            assert_eq!(next_index(last, answered), next, "{last} then {answered}");
        }
    }

    #[test]
    fn a_held_query_is_followed_at_once_and_a_short_one_is_not() {
        assert_eq!(pause(Duration::from_secs(3)), Duration::ZERO);
        assert_eq!(pause(Duration::from_millis(50)), Duration::from_millis(200));
    }

    #[test]
    fn waits_stay_under_a_minute_with_what_consul_adds() {
        let jitter = Jitter::new("one", "service nomad");
        for count in 0..100 {
            let wait = jitter.wait(count);
            assert!(wait + wait / 16 < Duration::from_secs(60) && wait >= Duration::from_secs(40));
        }
    }

    #[test]
    fn backoff_doubles_up_to_the_longest_within_a_quarter() {
        let jitter = Jitter::new("one", "service nomad");
        for failures in 0..40 {
            let plain = (FIRST_BACKOFF * 2u32.pow(failures.min(16))).min(LONGEST_BACKOFF);
            let wait = jitter.backoff(failures);
            assert!(wait >= plain.mul_f64(0.75) && wait <= plain.mul_f64(1.25), "{failures}");
        }
    }

    #[test]
    fn processes_and_subjects_do_not_all_come_back_at_once() {
        let waits: std::collections::BTreeSet<_> = (0..50)
            .flat_map(|n| [Jitter::new(&n.to_string(), "a"), Jitter::new("one", &n.to_string())])
            .map(|jitter| jitter.backoff(3))
            .collect();
        assert!(waits.len() > 60, "{} different waits", waits.len());
    }
}
