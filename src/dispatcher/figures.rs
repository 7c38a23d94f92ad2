//! Rates and latencies of the engine since its start, in memory.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use hdrhistogram::Histogram;

use crate::submission::Timestamp;

const SECONDS: usize = 60;
const MINUTES: usize = 60;

/// The longest latency told apart: a day. Longer ones count as that.
const LONGEST_MS: u64 = 86_400_000;

/// Counts of the last minute and latencies of the last hour. Constant in size.
#[derive(Debug)]
pub(super) struct Figures {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    accepted: LastMinute,
    finished: LastMinute,
    /// One histogram a minute, the latest at the back.
    latencies: VecDeque<(i64, Histogram<u64>)>,
}

#[derive(Debug)]
struct LastMinute {
    /// Each second's count, with the second it belongs to.
    seconds: [(i64, u64); SECONDS],
}

impl LastMinute {
    const EMPTY: LastMinute = LastMinute { seconds: [(i64::MIN, 0); SECONDS] };

    fn add(&mut self, now: Timestamp) {
        let second = now.as_millis().div_euclid(1000);
        let slot = &mut self.seconds[second.rem_euclid(SECONDS as i64) as usize];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 += 1;
    }

    fn sum(&self, now: Timestamp) -> u64 {
        let second = now.as_millis().div_euclid(1000);
        self.seconds
            .iter()
            .filter(|(at, _)| *at > second - SECONDS as i64 && *at <= second)
            .map(|(_, count)| count)
            .sum()
    }
}

/// What the figures are at one instant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    pub(super) accepted_last_minute: u64,
    pub(super) finished_last_minute: u64,
    pub(super) latency: Option<[Duration; 3]>,
}

impl Figures {
    pub(super) fn new() -> Figures {
        Figures {
            inner: Mutex::new(Inner {
                accepted: LastMinute::EMPTY,
                finished: LastMinute::EMPTY,
                latencies: VecDeque::new(),
            }),
        }
    }

    pub(super) fn accepted(&self, now: Timestamp) {
        self.with(|inner| inner.accepted.add(now));
    }

    pub(super) fn finished(&self, latency: Duration, now: Timestamp) {
        let minute = now.as_millis().div_euclid(60_000);
        self.with(|inner| {
            inner.finished.add(now);
            let current = inner.latencies.back().is_some_and(|(at, _)| *at >= minute);
            if !current {
                let histogram = Histogram::new_with_bounds(1, LONGEST_MS, 2)
                    .expect("these bounds are ones that the histogram allows");
                inner.latencies.push_back((minute, histogram));
                while inner.latencies.len() > MINUTES {
                    inner.latencies.pop_front();
                }
            }
            if let Some((_, histogram)) = inner.latencies.back_mut() {
                histogram.saturating_record(latency.as_millis().min(u128::from(LONGEST_MS)) as u64);
            }
        });
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let minute = now.as_millis().div_euclid(60_000);
        self.with(|inner| {
            let mut all: Histogram<u64> = Histogram::new_with_bounds(1, LONGEST_MS, 2)
                .expect("these bounds are ones that the histogram allows");
            for (at, histogram) in &inner.latencies {
                if *at > minute - MINUTES as i64 {
                    all.add(histogram).expect("all have the same bounds");
                }
            }
            let quantile = |q| Duration::from_millis(all.value_at_quantile(q));
            Snapshot {
                accepted_last_minute: inner.accepted.sum(now),
                finished_last_minute: inner.finished.sum(now),
                latency: (!all.is_empty())
                    .then(|| [quantile(0.50), quantile(0.90), quantile(0.99)]),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let figures = Figures::new();
        for second in 0..120 {
            figures.accepted(at(second));
        }
        figures.finished(Duration::from_millis(1), at(30));
        let snapshot = figures.snapshot(at(119));
        assert_eq!((snapshot.accepted_last_minute, snapshot.finished_last_minute), (60, 0));
        assert_eq!(figures.snapshot(at(149)).accepted_last_minute, 30);
        assert_eq!(figures.snapshot(at(10_000)).accepted_last_minute, 0);
    }

    #[test]
    fn latencies_are_those_of_the_last_hour() {
        let figures = Figures::new();
        figures.finished(Duration::from_secs(1000), at(0));
        for second in 1..=100 {
            let minute = at(60 * 60 + second / 60);
            figures.finished(Duration::from_millis(second as u64), minute);
        }
        let [p50, p90, p99] = figures.snapshot(at(60 * 60 + 100)).latency.unwrap();
        let near = |value: Duration, millis: u64| value.as_millis().abs_diff(millis.into()) <= 1;
        assert!(near(p50, 50) && near(p90, 90) && near(p99, 99), "{p50:?} {p90:?} {p99:?}");
        assert_eq!(figures.snapshot(at(60 * 60 * 3)).latency, None);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_latency() {
        let figures = Figures::new();
        figures.finished(Duration::from_millis(5), at(1000));
        figures.finished(Duration::from_millis(5), at(10));
        assert_eq!(figures.snapshot(at(1000)).finished_last_minute, 1);
        assert!(figures.snapshot(at(1000)).latency.is_some());
    }
}
