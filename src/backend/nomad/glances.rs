//! When to look whether an attempt is over, ahead of Nomad's own report.
//!
//! A node tells the servers every 200 ms what has ended (since 1.6 it may take a second), and writes logs
//! out every 100 ms. The runner's copy of its events is a plain file, there as soon as it is written. A
//! look at it costs an agent about a millisecond, so looks are taken where an end is likely: at about
//! the time that attempts took lately. Where runners reach the daemon to call, none are needed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// What an attempt is expected to take before any did: a small program on an idle node.
const FIRST_GUESS: Duration = Duration::from_millis(100);

/// Nothing is over sooner: Nomad takes 40 ms to start a task.
const SHORTEST: Duration = Duration::from_millis(40);

/// What takes longer is followed anyway, and 200 ms more matter little to it.
const LONGEST: Duration = Duration::from_secs(2);

/// How long it is looked for what a runner has called about: a look may fail, or come before the node knows.
const CALLED_FOR: Duration = Duration::from_secs(3);

/// And how often at the least: one that stalls may take longer than that.
const CALLED_LOOKS: u32 = 5;

/// From one look to the next at the least.
const SHORTEST_STEP: Duration = Duration::from_millis(15);

/// From its being placed to its last word: what attempts took lately.
#[derive(Debug)]
pub(super) struct Lately {
    micros: AtomicU64,
    called: AtomicBool,
}

impl Default for Lately {
    fn default() -> Lately {
        Lately {
            micros: AtomicU64::new(FIRST_GUESS.as_micros() as u64),
            called: AtomicBool::new(false),
        }
    }
}

impl Lately {
    /// What the next is expected to take.
    pub(super) fn expected(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    /// Whether the latest had its runner call at its end: then the next will.
    pub(super) fn called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Takes note of what one took, and whether its runner called. Of two notes at once one may be
    /// lost, which does no harm.
    pub(super) fn note(&self, took: Duration, called: bool) {
        self.called.store(called, Ordering::Relaxed);
        let took = took.clamp(SHORTEST, LONGEST);
        let expected = (self.expected() * 7 + took) / 8;
        self.micros.store(expected.as_micros() as u64, Ordering::Relaxed);
    }
}

/// The times to look at one attempt.
#[derive(Debug)]
pub(super) struct Glances {
    placed: Instant,
    expected: Duration,
    next: Option<Instant>,
    /// When its runner called, and the looks since then.
    called: Option<(Instant, u32)>,
}

impl Glances {
    /// Of an attempt that was placed just now.
    pub(super) fn of(placed: Instant, lately: &Lately) -> Glances {
        let expected = lately.expected();
        let next = (!lately.called()).then(|| placed + expected * 3 / 4);
        Glances { placed, expected, next, called: None }
    }

    /// Takes note that its runner has called.
    pub(super) fn called(&mut self, now: Instant) {
        self.called = Some((now, 0));
    }

    /// When to look next, unless it takes so long that it is no use.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes note that somebody looked, and it was not over.
    pub(super) fn looked(&mut self, now: Instant) {
        let next = now + (self.expected / 8).max(SHORTEST_STEP);
        self.next = (next <= self.placed + self.expected * 2).then_some(next);
        if let Some((called, looks)) = &mut self.called {
            *looks += 1;
            let since = now.saturating_duration_since(*called);
            if since < CALLED_FOR || *looks < CALLED_LOOKS {
                // A third longer each time.
                self.next = Some(now + (since / 3).max(SHORTEST_STEP));
            }
        }
    }

    /// Since it was placed.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_follows_what_attempts_take_and_stays_within_bounds() {
        let lately = Lately::default();
        for _ in 0..50 {
            lately.note(Duration::from_millis(400), false);
        }
        assert!(lately.expected().abs_diff(Duration::from_millis(400)) < Duration::from_millis(2));
        for _ in 0..200 {
            lately.note(Duration::ZERO, false);
        }
        assert!(lately.expected().abs_diff(SHORTEST) < Duration::from_millis(1));
        for _ in 0..200 {
            lately.note(Duration::from_secs(3600), false);
        }
        assert!(lately.expected() <= LONGEST);
    }

    #[test]
    fn after_a_call_it_is_looked_again_and_again_for_a_while() {
        let placed = Instant::now();
        let mut glances = Glances::of(placed, &Lately::default());
        let called = placed + Duration::from_secs(60);
        glances.looked(called);
        assert_eq!(glances.next(), None);
        glances.called(called);
        let (mut now, mut looks) = (called, 0);
        loop {
            glances.looked(now);
            let Some(next) = glances.next() else { break };
            (now, looks) = (next, looks + 1);
        }
        assert!((10..30).contains(&looks), "{looks}");
        assert!(now - called >= CALLED_FOR, "{:?}", now - called);
    }

    #[test]
    fn a_look_that_stalls_is_not_the_last_after_a_call() {
        let called = Instant::now();
        let mut glances = Glances::of(called, &Lately::default());
        glances.called(called);
        glances.looked(called + Duration::from_secs(20));
        assert!(glances.next().is_some());
        (0..CALLED_LOOKS).for_each(|_| glances.looked(called + Duration::from_secs(60)));
        assert_eq!(glances.next(), None);
    }

    #[test]
    fn looks_are_few_begin_before_the_expected_end_and_cease_after_twice_the_time() {
        for expected in [SHORTEST, FIRST_GUESS, LONGEST] {
            let (placed, lately) = (Instant::now(), Lately::default());
            lately.micros.store(expected.as_micros() as u64, Ordering::Relaxed);
            let mut glances = Glances::of(placed, &lately);
            let mut looks = Vec::new();
            while let Some(next) = glances.next() {
                looks.push(next - placed);
                glances.looked(next);
            }
            assert!(looks[0] < expected && looks[0] >= expected / 2);
            assert!((2..=11).contains(&looks.len()), "{looks:?}");
            assert!(looks.is_sorted() && *looks.last().expect("two") <= expected * 2);
            assert!(looks.iter().any(|look| *look >= expected));
        }
    }

    #[test]
    fn nobody_looks_where_runners_call_until_one_does_not() {
        let (placed, lately) = (Instant::now(), Lately::default());
        lately.note(FIRST_GUESS, true);
        assert_eq!(Glances::of(placed, &lately).next(), None);
        lately.note(FIRST_GUESS, false);
        assert!(Glances::of(placed, &lately).next().is_some());
    }
}
