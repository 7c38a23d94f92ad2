//! How long a submission takes a slot, from what ran and what ended in the last minute.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// As far back as the count of what ended goes.
const WINDOW: Duration = Duration::from_secs(60);

/// What is taken for it while nothing has run.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Nothing is shorter: what is looked at each second may miss all of the short ones.
const SHORTEST: Duration = Duration::from_millis(5);

/// The mean, as by Little's law: slot-seconds over submissions.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When it was looked, and for how many slot-seconds that stands.
    looks: VecDeque<(Instant, f64)>,
    last: Option<Duration>,
}

impl Pace {
    /// How long each takes, now that so many run and so many have ended in the last minute. What runs
    /// counts with what it took until now, so that long ones show before they end.
    pub(super) fn each(&mut self, running: u64, ended: u64, now: Instant) -> Duration {
        let since = self.looks.back().map_or(Duration::ZERO, |(at, _)| now - *at);
        self.looks.push_back((now, running as f64 * since.as_secs_f64()));
        while self.looks.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.looks.pop_front();
        }
        let taken: f64 = self.looks.iter().map(|(_, seconds)| seconds).sum();
        let count = running + ended;
        if count > 0 && taken > 0.0 {
            self.last = Some(Duration::from_secs_f64(taken / count as f64).max(SHORTEST));
        }
        self.last.unwrap_or(UNKNOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_mean_of_what_ran() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(pace.each(0, 0, at(0)), UNKNOWN);
        // Four slots in use all the time, and two ends a second: two seconds each.
        let mut each = UNKNOWN;
        for second in 1..=60 {
            each = pace.each(4, 2 * second, at(second));
        }
        assert!((1.8..=2.0).contains(&each.as_secs_f64()), "{each:?}");
        // While nothing runs, it is remembered.
        assert!(pace.each(0, 0, at(500)) > Duration::from_secs(1));
    }

    #[test]
    fn long_ones_show_before_they_end() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let mut each = UNKNOWN;
        for second in 0..=30 {
            each = pace.each(8, 0, begun + Duration::from_secs(second));
        }
        assert_eq!(each, Duration::from_secs(30));
    }
}
