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
    pub(super) fn new(patience: Duration, longest_absence: Duration) -> Patience {
        Patience { deadline: Instant::now() + patience, left: None, longest_absence }
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
    pub(super) fn begin(&mut self, budget: Duration) {
        match &mut self.left {
            Some(left) => *left = budget,
            None => self.deadline = Instant::now() + budget,
        }
    }

    /// The backend cannot be asked.
    pub(super) fn pause(&mut self) {
        if self.left.is_none() {
            let now = Instant::now();
            self.left = Some(self.deadline.saturating_duration_since(now));
            self.deadline = now + self.longest_absence;
        }
    }

    /// The backend can be asked again.
    pub(super) fn resume(&mut self) {
        if let Some(left) = self.left.take() {
            self.deadline = Instant::now() + left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn ten_minutes_of_absence_cost_no_time() {
        let mut patience = Patience::new(MINUTE, MINUTE * 60);
        tokio::time::advance(MINUTE / 2).await;
        for _ in 0..2 {
            patience.pause();
            tokio::time::advance(MINUTE * 10).await;
            assert!(patience.deadline() > Instant::now());
        }
        patience.resume();
        patience.resume();
        assert_eq!(patience.deadline() - Instant::now(), MINUTE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_begins_during_an_absence_has_its_whole_time_after_it() {
        let mut patience = Patience::new(MINUTE, MINUTE * 60);
        patience.pause();
        patience.begin(MINUTE * 2);
        tokio::time::advance(MINUTE * 5).await;
        patience.resume();
        assert_eq!(patience.deadline() - Instant::now(), MINUTE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_absence_without_end_ends_the_attempt() {
        let mut patience = Patience::new(MINUTE, MINUTE * 60);
        patience.pause();
        assert_eq!(patience.deadline() - Instant::now(), MINUTE * 60);
        assert!(patience.is_paused());
    }
}
