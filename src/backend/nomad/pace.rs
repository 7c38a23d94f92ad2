//! When the event stream is opened again: soon after one that lasted, later and later after those that
//! did not. Meanwhile children are listed.

use std::time::Duration;

/// How long a stream must last for its end to be nothing but an end: longer than one that a server or
/// something on the way to it ends at once.
const LASTING: Duration = Duration::from_secs(5);

/// From the end of a stream to the next, doubled for each that did not last, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time that is done without a stream that could be had.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// From one refusal to the next try: tokens are changed, and servers are set up anew, seldom.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ended so long after it was opened.
    After(Duration),
    /// There is none for us: none before 1.0, not with our token, or switched off.
    Refused,
}

/// How fast streams follow each other.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many in a row did not last.
    short: u32,
}

impl Pace {
    /// How long to do without a stream now.
    pub(super) fn pause(&mut self, ended: Ended) -> Duration {
        match ended {
            Ended::Refused => REFUSED_PAUSE,
            Ended::After(time) => {
                if time >= LASTING {
                    self.short = 0;
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << self.short.min(10)).min(MAX_PAUSE);
                self.short = self.short.saturating_add(1);
                pause
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_do_not_last_follow_later_and_later_and_one_that_lasts_ends_that() {
        let mut pace = Pace::default();
        let short = Ended::After(Duration::from_secs(4));
        for millis in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            assert_eq!(pace.pause(short), Duration::from_millis(millis));
        }
        assert_eq!(pace.pause(Ended::After(LASTING)), FIRST_PAUSE);
        assert_eq!(pace.pause(short), FIRST_PAUSE * 2);
    }

    #[test]
    fn a_refused_stream_is_asked_for_again_every_minute() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            assert_eq!(pace.pause(Ended::Refused), Duration::from_secs(60));
        }
    }
}
