//! When each submission of a load test is due, and when there are no more.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Hands out submissions to the connections of a load test, each once.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    count: Option<u64>,
    duration: Option<Duration>,
    next: AtomicU64,
}

/// What decides when the next submission is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// Closed loop: as soon as a connection is free.
    Closed,
    /// Open loop: so many a second, whether answers come or not.
    Open {
        /// Submissions a second; positive.
        rate: f64,
    },
}

/// One submission that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Its number, from 0.
    pub(super) index: u64,
    /// When it is due, since the start; in the past when all connections were busy then. Latency
    /// counts from here, so that waiting for a connection is not hidden.
    pub(super) due: Duration,
}

impl Schedule {
    /// A schedule that ends after `count` submissions or after `duration`, whichever comes first.
    pub(super) fn new(pace: Pace, count: Option<u64>, duration: Option<Duration>) -> Self {
        Schedule { pace, count, duration, next: AtomicU64::new(0) }
    }

    /// The next submission, asked for at `now` since the start; `None` when there are no more.
    pub(super) fn take(&self, now: Duration) -> Option<Turn> {
        // Past the end nothing is sent, also what was due before: an engine that cannot keep up
        // would otherwise stretch the test without bound. `unsent` tells how many those were.
        if self.duration.is_some_and(|duration| now >= duration) {
            return None;
        }
        let take = |next: u64| {
            let due = self.due(next, now);
            let over = self.count.is_some_and(|count| next >= count)
                || self.duration.is_some_and(|duration| due >= duration);
            (!over).then(|| next + 1)
        };
        let index = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Turn { index, due: self.due(index, now) })
    }

    /// How many were due before `end` and were never taken. Always 0 in a closed loop.
    pub(super) fn unsent(&self, end: Duration) -> u64 {
        let Pace::Open { rate } = self.pace else { return 0 };
        let end = self.duration.map_or(end, |duration| end.min(duration));
        let due = (end.as_secs_f64() * rate).ceil() as u64;
        let due = self.count.map_or(due, |count| due.min(count));
        due.saturating_sub(self.next.load(Ordering::Relaxed))
    }

    fn due(&self, index: u64, now: Duration) -> Duration {
        match self.pace {
            Pace::Closed => now,
            Pace::Open { rate } => Duration::from_secs_f64(index as f64 / rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_closed_loop_is_due_when_a_connection_asks() {
        let schedule = Schedule::new(Pace::Closed, Some(2), None);
        assert_eq!(schedule.take(ms(5)), Some(Turn { index: 0, due: ms(5) }));
        assert_eq!(schedule.take(ms(9)), Some(Turn { index: 1, due: ms(9) }));
        assert_eq!(schedule.take(ms(9)), None);
        assert_eq!(schedule.unsent(ms(10)), 0);
    }

    #[test]
    fn an_open_loop_is_due_by_its_rate_however_late_it_is_asked() {
        let schedule = Schedule::new(Pace::Open { rate: 100.0 }, None, Some(ms(1000)));
        assert_eq!(schedule.take(ms(0)), Some(Turn { index: 0, due: ms(0) }));
        assert_eq!(schedule.take(ms(500)), Some(Turn { index: 1, due: ms(10) }));
        assert_eq!(schedule.take(ms(500)), Some(Turn { index: 2, due: ms(20) }));
    }

    #[test]
    fn what_was_due_and_never_taken_is_told() {
        let schedule = Schedule::new(Pace::Open { rate: 100.0 }, None, Some(ms(1000)));
        assert!(schedule.take(ms(0)).is_some());
        assert_eq!(schedule.take(ms(1000)), None);
        assert_eq!(schedule.unsent(ms(1500)), 99);
        assert_eq!(schedule.unsent(ms(100)), 9);
    }

    #[test]
    fn an_open_loop_of_a_duration_sends_what_is_due_within_it_and_no_more() {
        let schedule = Schedule::new(Pace::Open { rate: 10.0 }, None, Some(ms(1000)));
        let taken = std::iter::from_fn(|| schedule.take(ms(0))).count();
        assert_eq!(taken, 10);
        assert_eq!(schedule.unsent(ms(1000)), 0);
    }

    #[test]
    fn a_count_bounds_an_open_loop_too() {
        let schedule = Schedule::new(Pace::Open { rate: 10.0 }, Some(3), Some(ms(1000)));
        assert_eq!(std::iter::from_fn(|| schedule.take(ms(0))).count(), 3);
        assert_eq!(schedule.unsent(ms(1000)), 0);
    }
}
