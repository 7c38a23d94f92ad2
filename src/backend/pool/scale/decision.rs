//! How many leases to dispatch: decided from one look, and from nothing else.

use std::time::Duration;

/// A queue that takes longer than this to clear has more workers come: several times what it takes to
/// have one, so that they are of use when they are there.
const CLEAR_WITHIN: Duration = Duration::from_secs(10);

/// How many leased workers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many are kept, whether there is work or not.
    pub min: usize,
    /// No more than so many, those included that are about to end.
    pub max: usize,
}

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// Submissions that wait.
    pub(super) waiting: usize,
    /// Slots in use, on all workers, by whomever.
    pub(super) busy: usize,
    /// How long a submission takes a slot.
    pub(super) each: Duration,
    /// Whether there is work, or was lately.
    pub(super) at_work: bool,
    /// Slots of the workers that are there and stay for a while, leased or not, and of other places.
    pub(super) slots: usize,
    /// Slots of a leased worker, where one has been seen.
    pub(super) slots_each: Option<usize>,
    /// Leased workers that are there and stay.
    pub(super) staying: usize,
    /// Leased workers whose lease is about to end, or over while they finish what they run.
    pub(super) ending: usize,
    /// Leases that were dispatched lately, whose workers are not there yet.
    pub(super) coming: usize,
    /// Leases whose workers did not come in time.
    pub(super) given_up: usize,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// Leased workers that there should be.
    pub(super) wanted: usize,
    /// Leases to dispatch now.
    pub(super) dispatch: usize,
    /// What for.
    pub(super) why: Why,
    /// How long the queue takes to clear with what is there or comes; none where nothing is.
    pub(super) clears_in: Option<Duration>,
}

/// What leases are dispatched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing.
    Enough,
    /// There are to be so many at all times.
    Minimum,
    /// Leases end while there is work.
    Renewal,
    /// The queue takes too long.
    Queue,
}

impl Sight {
    /// Children of the job that are not over.
    pub(super) fn live(&self) -> usize {
        self.staying + self.ending + self.coming + self.given_up
    }
}

/// Grows when the queue takes too long with all that is there or comes; renews what ends while there is
/// work; and never ends anything: leases run out. So it does not flap: what was dispatched counts at once,
/// and what came stays for its lease.
pub(super) fn decide(sight: &Sight, bounds: Bounds) -> Decision {
    // Of a worker that nobody has seen it is not known; then one comes first.
    let slots_each = sight.slots_each.unwrap_or(1).max(1);
    let kept = sight.staying + sight.coming;
    let slots = sight.slots + sight.coming * slots_each;
    let clears_in = clears_in(sight, slots);
    let is_slow = sight.waiting > 0 && clears_in.is_none_or(|time| time > CLEAR_WITHIN);
    let for_queue = match (is_slow, sight.slots_each) {
        (false, _) => 0,
        (true, None) => usize::from(sight.coming == 0),
        (true, Some(_)) => slots_wanted(sight).saturating_sub(slots).div_ceil(slots_each).max(1),
    };
    // Less than what is in use is too little, and none at all while there is work.
    let for_work = if sight.at_work { sight.busy.max(1) } else { 0 };
    let is_replaced = sight.ending > 0;
    let renewal = if is_replaced { for_work.saturating_sub(slots).div_ceil(slots_each) } else { 0 };
    let renewal = renewal.min(sight.ending);
    let minimum = bounds.min.saturating_sub(kept);
    let (more, why) = [(for_queue, Why::Queue), (renewal, Why::Renewal), (minimum, Why::Minimum)]
        .into_iter()
        .fold((0, Why::Enough), |best, next| if next.0 > best.0 { next } else { best });
    let dispatch = more.min(bounds.max.saturating_sub(sight.live()));
    let why = if dispatch == 0 { Why::Enough } else { why };
    Decision { wanted: (kept + more).min(bounds.max), dispatch, why, clears_in }
}

/// Slots with which what waits and what runs is over in time; no more than there are submissions.
fn slots_wanted(sight: &Sight) -> usize {
    let all = sight.waiting + sight.busy;
    let in_time = all as f64 * sight.each.as_secs_f64() / CLEAR_WITHIN.as_secs_f64();
    (in_time.ceil() as usize).clamp(1, all)
}

fn clears_in(sight: &Sight, slots: usize) -> Option<Duration> {
    let all = (sight.waiting + sight.busy) as f64;
    (slots > 0).then(|| sight.each.mul_f64(all / slots as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 0, max: 4 };

    /// Two leased workers of two slots each, which are idle.
    fn idle() -> Sight {
        Sight {
            waiting: 0,
            busy: 0,
            each: Duration::from_secs(1),
            at_work: false,
            slots: 4,
            slots_each: Some(2),
            staying: 2,
            ending: 0,
            coming: 0,
            given_up: 0,
        }
    }

    fn none() -> Sight {
        Sight { slots: 0, staying: 0, slots_each: None, ..idle() }
    }

    fn queue(waiting: usize, sight: Sight) -> Sight {
        Sight { waiting, at_work: true, ..sight }
    }

    #[test]
    fn what_is_dispatched_is_what_the_queue_the_ends_and_the_bounds_ask_for() {
        let min = |min| Bounds { min, ..BOUNDS };
        let slow = Duration::from_secs(60);
        let table = [
            ("nothing to do, nothing there", none(), BOUNDS, 0, Why::Enough),
            ("one waits and nobody is there", queue(1, none()), BOUNDS, 1, Why::Queue),
            (
                "a thousand wait for workers of unknown size",
                queue(1000, none()),
                BOUNDS,
                1,
                Why::Queue,
            ),
            (
                "and the first of them is on its way",
                Sight { coming: 1, ..queue(1000, none()) },
                BOUNDS,
                0,
                Why::Enough,
            ),
            (
                "of known size as many come as clear the queue",
                Sight { slots_each: Some(2), ..queue(60, none()) },
                BOUNDS,
                3,
                Why::Queue,
            ),
            (
                "never more than the most",
                Sight { slots_each: Some(2), ..queue(1000, none()) },
                BOUNDS,
                4,
                Why::Queue,
            ),
            ("a queue that clears in time", queue(40, idle()), BOUNDS, 0, Why::Enough),
            ("one that just does not", queue(41, idle()), BOUNDS, 1, Why::Queue),
            ("one that takes long", queue(75, idle()), BOUNDS, 2, Why::Queue),
            (
                "what comes counts as there",
                Sight { coming: 2, ..queue(75, idle()) },
                BOUNDS,
                0,
                Why::Enough,
            ),
            (
                "what did not come is there for the bound alone",
                Sight { given_up: 1, ..queue(1000, idle()) },
                BOUNDS,
                1,
                Why::Queue,
            ),
            (
                "what is about to end is, too",
                Sight { ending: 1, ..queue(1000, idle()) },
                BOUNDS,
                1,
                Why::Queue,
            ),
            (
                "a slot for each is enough, however long they take",
                Sight { busy: 4, each: slow, ..queue(1, idle()) },
                BOUNDS,
                1,
                Why::Queue,
            ),
            (
                "long runs of which none waits",
                Sight { busy: 4, each: slow, at_work: true, ..idle() },
                BOUNDS,
                0,
                Why::Enough,
            ),
            (
                "an end while there is work",
                Sight { busy: 1, at_work: true, slots: 0, staying: 0, ending: 2, ..idle() },
                BOUNDS,
                1,
                Why::Renewal,
            ),
            (
                "an end while all of it is in use",
                Sight { busy: 4, at_work: true, slots: 0, staying: 0, ending: 2, ..idle() },
                BOUNDS,
                2,
                Why::Renewal,
            ),
            (
                "an end while the rest is enough",
                Sight { busy: 2, at_work: true, slots: 2, staying: 1, ending: 1, ..idle() },
                BOUNDS,
                0,
                Why::Enough,
            ),
            (
                "an end that has its successor already",
                Sight {
                    busy: 2,
                    at_work: true,
                    slots: 0,
                    staying: 0,
                    ending: 1,
                    coming: 1,
                    ..idle()
                },
                BOUNDS,
                0,
                Why::Enough,
            ),
            (
                "no room beside what ends",
                Sight { busy: 8, at_work: true, slots: 0, staying: 0, ending: 4, ..idle() },
                BOUNDS,
                0,
                Why::Enough,
            ),
            ("an end with nothing to do", Sight { ending: 2, ..none() }, BOUNDS, 0, Why::Enough),
            ("a minimum, with nothing to do", none(), min(2), 2, Why::Minimum),
            ("a minimum that is there", idle(), min(2), 0, Why::Enough),
            (
                "a minimum of which one ends",
                Sight { slots: 2, staying: 1, ending: 1, ..idle() },
                min(2),
                1,
                Why::Minimum,
            ),
            (
                "more than the most, as after it was lowered",
                Sight { staying: 6, slots: 12, ..queue(1000, idle()) },
                BOUNDS,
                0,
                Why::Enough,
            ),
        ];
        for (what, sight, bounds, dispatch, why) in table {
            let decision = decide(&sight, bounds);
            assert_eq!((decision.dispatch, decision.why), (dispatch, why), "{what}: {decision:?}");
            assert!(sight.live().max(bounds.max) >= sight.live() + dispatch, "{what}");
        }
    }

    #[test]
    fn what_was_decided_is_enough_the_moment_it_is_done() {
        for waiting in [1, 5, 50, 500, 5000] {
            let mut sight = Sight { slots_each: Some(2), ..queue(waiting, none()) };
            sight.coming += decide(&sight, BOUNDS).dispatch;
            for left in (0..=waiting).rev() {
                let next = decide(&Sight { waiting: left, ..sight }, BOUNDS);
                assert_eq!(next.dispatch, 0, "{left} of {waiting} left: {next:?}");
            }
        }
    }

    #[test]
    fn leases_that_run_out_with_nothing_to_do_are_not_dispatched_again() {
        let mut sight = idle();
        while sight.staying > 0 {
            (sight.staying, sight.ending) = (sight.staying - 1, sight.ending + 1);
            sight.slots -= 2;
            assert_eq!(decide(&sight, BOUNDS).dispatch, 0);
            assert_eq!(decide(&sight, BOUNDS).wanted, sight.staying);
        }
    }
}
