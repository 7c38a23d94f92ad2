//! Rates and latencies of the engine since its start, in memory.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use hdrhistogram::Histogram;

use super::views::MinuteStats;
use crate::submission::{Timestamp, Verdict};

const SECONDS: usize = 60;
const MINUTES: usize = 60;

/// The longest latency told apart: a day. Longer ones count as that.
const LONGEST_MS: u64 = 86_400_000;

/// Counts of the last minute, and what happened in each minute of the last hour. Constant in size.
#[derive(Debug)]
pub(super) struct Figures {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    accepted: LastMinute,
    finished: LastMinute,
    /// One a minute in which anything happened, the latest at the back.
    minutes: VecDeque<Minute>,
}

#[derive(Debug)]
struct Minute {
    /// Since 1970.
    number: i64,
    accepted: u64,
    verdicts: BTreeMap<Verdict, u64>,
    most_queued: u64,
    most_running: u64,
    /// Of those that ended in it; 21 KB, and most minutes of most daemons have none.
    latency: Option<Histogram<u64>>,
}

impl Minute {
    fn new(number: i64) -> Minute {
        Minute {
            number,
            accepted: 0,
            verdicts: BTreeMap::new(),
            most_queued: 0,
            most_running: 0,
            latency: None,
        }
    }

    fn show(&self) -> MinuteStats {
        MinuteStats {
            at: Timestamp::from_millis(self.number * 60_000),
            accepted: self.accepted,
            finished: self.verdicts.values().sum(),
            verdicts: self.verdicts.clone(),
            most_queued: self.most_queued,
            most_running: self.most_running,
            latency: self.latency.as_ref().and_then(quantiles),
        }
    }
}

fn no_latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_MS, 2)
        .expect("these bounds are ones that the histogram allows")
}

/// p50, p90, p99.
fn quantiles(all: &Histogram<u64>) -> Option<[Duration; 3]> {
    let quantile = |q| Duration::from_millis(all.value_at_quantile(q));
    (!all.is_empty()).then(|| [quantile(0.50), quantile(0.90), quantile(0.99)])
}

fn minute_of(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(60_000)
}

impl Inner {
    fn last_hour(&self, now: Timestamp) -> impl Iterator<Item = &Minute> {
        let now = minute_of(now);
        let shown = now - MINUTES as i64 + 1..=now + MINUTES as i64;
        self.minutes.iter().filter(move |minute| shown.contains(&minute.number))
    }

    /// The minute that it is now. A clock that went back is still in the latest.
    fn minute(&mut self, now: Timestamp) -> &mut Minute {
        let number = minute_of(now);
        // The clock was wrong by more than is shown.
        while self.minutes.back().is_some_and(|latest| latest.number > number + MINUTES as i64) {
            self.minutes.pop_back();
        }
        if self.minutes.back().is_none_or(|latest| latest.number < number) {
            self.minutes.push_back(Minute::new(number));
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
        self.minutes.back_mut().expect("one was pushed where there was none")
    }
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
                minutes: VecDeque::new(),
            }),
        }
    }

    pub(super) fn accepted(&self, now: Timestamp) {
        self.with(|inner| {
            inner.accepted.add(now);
            inner.minute(now).accepted += 1;
        });
    }

    pub(super) fn finished(&self, verdict: Verdict, latency: Duration, now: Timestamp) {
        self.with(|inner| {
            inner.finished.add(now);
            let minute = inner.minute(now);
            *minute.verdicts.entry(verdict).or_default() += 1;
            let millis = latency.as_millis().min(u128::from(LONGEST_MS)) as u64;
            minute.latency.get_or_insert_with(no_latencies).saturating_record(millis);
        });
    }

    /// How many wait and run, seen now and then.
    pub(super) fn seen(&self, queued: u64, running: u64, now: Timestamp) {
        self.with(|inner| {
            let minute = inner.minute(now);
            minute.most_queued = minute.most_queued.max(queued);
            minute.most_running = minute.most_running.max(running);
        });
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        self.with(|inner| {
            let mut all = no_latencies();
            for latency in inner.last_hour(now).filter_map(|minute| minute.latency.as_ref()) {
                all.add(latency).expect("all have the same bounds");
            }
            Snapshot {
                accepted_last_minute: inner.accepted.sum(now),
                finished_last_minute: inner.finished.sum(now),
                latency: quantiles(&all),
            }
        })
    }

    /// The minutes of the last hour since the start, oldest first, this one included; none is left out.
    pub(super) fn history(&self, now: Timestamp) -> Vec<MinuteStats> {
        self.with(|inner| {
            let known: BTreeMap<_, _> =
                inner.last_hour(now).map(|minute| (minute.number, minute)).collect();
            let Some(first) = known.keys().next().copied() else { return Vec::new() };
            let last = known.keys().next_back().copied().unwrap_or(first).max(minute_of(now));
            let show = |number| match known.get(&number) {
                Some(minute) => minute.show(),
                None => Minute::new(number).show(),
            };
            (first.max(last - MINUTES as i64 + 1)..=last).map(show).collect()
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
        figures.finished(Verdict::Accepted, Duration::from_millis(1), at(30));
        let snapshot = figures.snapshot(at(119));
        assert_eq!((snapshot.accepted_last_minute, snapshot.finished_last_minute), (60, 0));
        assert_eq!(figures.snapshot(at(149)).accepted_last_minute, 30);
        assert_eq!(figures.snapshot(at(10_000)).accepted_last_minute, 0);
    }

    #[test]
    fn latencies_are_those_of_the_last_hour() {
        let figures = Figures::new();
        figures.finished(Verdict::Accepted, Duration::from_secs(1000), at(0));
        for second in 1..=100 {
            let minute = at(60 * 60 + second / 60);
            let latency = Duration::from_millis(second as u64);
            figures.finished(Verdict::Accepted, latency, minute);
        }
        let [p50, p90, p99] = figures.snapshot(at(60 * 60 + 100)).latency.unwrap();
        let near = |value: Duration, millis: u64| value.as_millis().abs_diff(millis.into()) <= 1;
        assert!(near(p50, 50) && near(p90, 90) && near(p99, 99), "{p50:?} {p90:?} {p99:?}");
        assert_eq!(figures.snapshot(at(60 * 60 * 3)).latency, None);
    }

    #[test]
    fn a_clock_that_goes_back_loses_no_latency() {
        let figures = Figures::new();
        figures.finished(Verdict::Accepted, Duration::from_millis(5), at(1000));
        figures.finished(Verdict::Accepted, Duration::from_millis(5), at(10));
        assert_eq!(figures.snapshot(at(1000)).finished_last_minute, 1);
        assert!(figures.snapshot(at(1000)).latency.is_some());
    }

    #[test]
    fn the_history_has_every_minute_since_the_first_of_the_last_hour() {
        let figures = Figures::new();
        assert!(figures.history(at(0)).is_empty());
        figures.accepted(at(60));
        figures.seen(7, 2, at(61));
        figures.seen(3, 1, at(62));
        figures.finished(Verdict::RuntimeError, Duration::from_millis(20), at(180));
        let history = figures.history(at(250));
        let minutes: Vec<_> = history.iter().map(|minute| minute.at).collect();
        assert_eq!(minutes, [at(60), at(120), at(180), at(240)]);
        let first = &history[0];
        assert_eq!((first.accepted, first.most_queued, first.most_running), (1, 7, 2));
        assert_eq!(history[1], Minute::new(2).show());
        assert_eq!(history[2].verdicts, BTreeMap::from([(Verdict::RuntimeError, 1)]));
        assert!(history[2].latency.is_some() && history[2].finished == 1);
        assert_eq!(figures.history(at(60 * 62)).first().map(|minute| minute.at), Some(at(180)));
        assert!(figures.history(at(60 * 70)).is_empty());
    }

    #[test]
    fn a_clock_that_was_far_ahead_for_a_while_is_forgotten() {
        let figures = Figures::new();
        figures.accepted(at(400 * 86_400));
        assert!(figures.history(at(600)).is_empty());
        figures.accepted(at(600));
        let history = figures.history(at(660));
        assert_eq!(history.iter().map(|minute| minute.accepted).collect::<Vec<_>>(), [1, 0]);
    }
}
