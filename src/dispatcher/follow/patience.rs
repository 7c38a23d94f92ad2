//! How long an attempt is waited for. Time in which the backend cannot be asked is not the attempt's.

use std::time::Duration;

use tokio::time::Instant;

/// When an attempt is given up.
#[derive(Debug)]
pub(super) struct Patience {
    deadline: Instant,
    /// While the backend is away: what is left for the attempt when it is back.
    left: Option<Duration>,
    /// How long a backend may be away from an attempt that has begun.
    longest_absence: Duration,
}

impl Patience {
    pub(super) fn new(now: Instant, patience: Duration, longest_absence: Duration) -> Patience {
        Patience { deadline: now + patience, left: None, longest_absence }
    }

    /// When to give up as things stand.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the backend is away, so that it is given up for that.
    pub(super) fn is_paused(&self) -> bool {
        self.left.is_some()
    }

    /// The attempt has begun, and may take so long from now.
    pub(super) fn begin(&mut self, now: Instant, budget: Duration) {
        match &mut self.left {
            Some(left) => *left = budget,
            None => self.deadline = now + budget,
        }
    }

    /// The backend cannot be asked.
    pub(super) fn pause(&mut self, now: Instant) {
        if self.left.is_none() {
            self.left = Some(self.deadline.saturating_duration_since(now));
            self.deadline = now + self.longest_absence;
        }
    }

    /// The backend can be asked again.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(left) = self.left.take() {
            self.deadline = now + left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn ten_minutes_of_absence_cost_no_time() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, MINUTE, MINUTE * 60);
        let away = begun + MINUTE / 2;
        patience.pause(away);
        patience.pause(away + MINUTE * 9);
        let back = away + MINUTE * 10;
        assert!(patience.deadline() > back);
        patience.resume(back);
        patience.resume(back + MINUTE);
        assert_eq!(patience.deadline(), back + MINUTE / 2);
    }

    #[test]
    fn what_begins_during_an_absence_has_its_whole_time_after_it() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, MINUTE, MINUTE * 60);
        patience.pause(begun);
        patience.begin(begun + MINUTE, MINUTE * 2);
        patience.resume(begun + MINUTE * 5);
        assert_eq!(patience.deadline(), begun + MINUTE * 7);
    }

    #[test]
    fn an_absence_without_end_ends_the_attempt() {
        let begun = Instant::now();
        let mut patience = Patience::new(begun, MINUTE, MINUTE * 60);
        patience.pause(begun);
        assert_eq!(patience.deadline(), begun + MINUTE * 60);
        assert!(patience.is_paused());
    }
}
