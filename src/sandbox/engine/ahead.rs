//! Interpreters that are started before there is a program for them: which wait, and for which there is
//! room.
//!
//! Each has a seat of its own, beside the slots', and so a uid that no running program has. One is taken by
//! a job for which it would have been started the same, and runs that one job. What it was started for
//! is remembered as long as such jobs come; what nobody asked for lately gives way.

use std::time::{Duration, Instant};

use super::pipes::Ends;

/// An interpreter that was asked for so lately does not give way to another.
const LATELY: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Waiting<E = Ends> {
    interpreters: Vec<Interpreter<E>>,
    /// Sent away, and not gone yet.
    leaving: Vec<(u32, E)>,
    free_seats: Vec<u32>,
    bound_bytes: u64,
    most_of_one: usize,
}

#[derive(Debug)]
struct Interpreter<E> {
    key: String,
    seat: u32,
    memory_bytes: u64,
    asked: Instant,
    ends: E,
}

/// What is done with a helper that waits.
pub(super) trait Helper {
    /// Whether it is still there.
    fn waits(&self) -> bool;
    /// Tells it that there will be no job.
    fn dismiss(&self);
    /// Whether it has ended.
    fn has_ended(&self) -> bool;
}

impl<E: Helper> Waiting<E> {
    /// None yet. `seats` are those that it may give them, `most_of_one` how many of one kind may wait.
    pub(super) fn new(seats: std::ops::Range<u32>, bound_bytes: u64, most_of_one: usize) -> Self {
        Waiting {
            interpreters: Vec::new(),
            leaving: Vec::new(),
            free_seats: seats.rev().collect(),
            bound_bytes,
            most_of_one,
        }
    }

    /// Takes one, with its seat, which is to be given back when its helper has ended.
    pub(super) fn take(&mut self, key: &str, now: Instant) -> Option<(u32, E)> {
        self.note(key, now);
        loop {
            let position = self.interpreters.iter().position(|one| one.key == key)?;
            let Interpreter { seat, ends, .. } = self.interpreters.remove(position);
            if ends.waits() {
                return Some((seat, ends));
            }
            self.leaving.push((seat, ends));
        }
    }

    /// A seat for one more, where there is room or can be made; to be given to [`Waiting::put`], or back.
    pub(super) fn seat_for(&mut self, key: &str, memory_bytes: u64, now: Instant) -> Option<u32> {
        self.note(key, now);
        self.sweep();
        let same = self.interpreters.iter().filter(|one| one.key == key).count();
        if same >= self.most_of_one || memory_bytes > self.bound_bytes {
            return None;
        }
        loop {
            let used: u64 = self.interpreters.iter().map(|one| one.memory_bytes).sum();
            let fits = used + memory_bytes <= self.bound_bytes;
            if fits && let Some(seat) = self.free_seats.pop() {
                return Some(seat);
            }
            if fits && !self.leaving.is_empty() {
                return None; // there is a seat as soon as one has gone
            }
            let others = self.interpreters.iter().enumerate();
            let stale = others.filter(|(_, one)| {
                one.key != key && now.saturating_duration_since(one.asked) > LATELY
            });
            let (position, _) = stale.min_by_key(|(_, one)| one.asked)?;
            let Interpreter { seat, ends, .. } = self.interpreters.remove(position);
            ends.dismiss();
            // Its seat is free when it has gone.
            self.leaving.push((seat, ends));
            self.sweep();
        }
    }

    /// Remembers one that was started.
    pub(super) fn put(&mut self, key: String, seat: u32, memory_bytes: u64, ends: E, now: Instant) {
        self.interpreters.push(Interpreter { key, seat, memory_bytes, asked: now, ends });
    }

    /// Gives a seat back whose helper has ended, or never was.
    pub(super) fn give_back(&mut self, seat: u32) {
        self.free_seats.push(seat);
    }

    /// How many wait.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.interpreters.len()
    }

    fn note(&mut self, key: &str, now: Instant) {
        self.interpreters.iter_mut().filter(|one| one.key == key).for_each(|one| one.asked = now);
    }

    /// Frees the seats of those that have gone.
    fn sweep(&mut self) {
        let ended = |one: &mut Interpreter<E>| !one.ends.waits();
        for one in self.interpreters.extract_if(.., ended) {
            self.leaving.push((one.seat, one.ends));
        }
        for (seat, _) in self.leaving.extract_if(.., |(_, ends)| ends.has_ended()) {
            self.free_seats.push(seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Fake(Rc<Cell<State>>);

    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    enum State {
        #[default]
        Waits,
        Dismissed,
        Ended,
    }

    impl Helper for Fake {
        fn waits(&self) -> bool {
            self.0.get() == State::Waits
        }

        fn dismiss(&self) {
            self.0.set(State::Dismissed);
        }

        fn has_ended(&self) -> bool {
            self.0.get() == State::Ended
        }
    }

    fn start(waiting: &mut Waiting<Fake>, key: &str, bytes: u64, now: Instant) -> Option<Fake> {
        let seat = waiting.seat_for(key, bytes, now)?;
        let fake = Fake::default();
        waiting.put(key.to_owned(), seat, bytes, fake.clone(), now);
        Some(fake)
    }

    #[test]
    fn one_is_taken_once_and_only_by_what_it_was_started_for() {
        let now = Instant::now();
        let mut waiting = Waiting::new(2..6, 100, 2);
        assert!(start(&mut waiting, "python", 10, now).is_some());
        assert!(waiting.take("node", now).is_none());
        let (seat, _) = waiting.take("python", now).expect("it waits");
        assert_eq!(seat, 2);
        assert!(waiting.take("python", now).is_none());
    }

    #[test]
    fn there_are_never_more_than_seats_memory_or_most_of_one_allow() {
        let now = Instant::now();
        let mut waiting = Waiting::new(0..3, 100, 2);
        for (key, bytes, fits) in [
            ("a", 10, true),
            ("a", 10, true),
            ("a", 10, false),
            ("b", 81, false),
            ("b", 80, true),
            ("c", 1, false),
        ] {
            assert_eq!(start(&mut waiting, key, bytes, now).is_some(), fits, "{key}");
        }
        assert!(start(&mut Waiting::new(0..3, 100, 2), "a", 101, now).is_none());
    }

    #[test]
    fn what_nobody_asked_for_lately_gives_way_and_its_seat_is_free_when_it_has_gone() {
        let now = Instant::now();
        let mut waiting = Waiting::new(0..2, 100, 2);
        let old = start(&mut waiting, "a", 10, now).expect("room");
        let young = start(&mut waiting, "b", 10, now + LATELY).expect("room");
        let later = now + LATELY + Duration::from_secs(1);
        assert!(start(&mut waiting, "c", 10, later).is_none(), "its seat is not free yet");
        assert!(!old.waits() && young.waits());
        let much_later = later + 2 * LATELY;
        assert!(start(&mut waiting, "c", 10, much_later).is_none(), "nor is it now");
        assert!(young.waits(), "one seat is enough");
        old.0.set(State::Ended);
        assert!(start(&mut waiting, "c", 10, later).is_some());
        assert!(start(&mut waiting, "d", 10, later).is_none(), "both were asked for lately");
        assert!(young.waits());
    }

    #[test]
    fn one_that_has_ended_is_not_taken_and_its_seat_is_free() {
        let now = Instant::now();
        let mut waiting = Waiting::new(0..1, 100, 1);
        start(&mut waiting, "a", 10, now).expect("room").0.set(State::Ended);
        assert!(waiting.take("a", now).is_none());
        assert!(start(&mut waiting, "a", 10, now).is_some());
        assert_eq!(waiting.count(), 1);
        let (seat, _) = waiting.take("a", now).expect("it waits");
        assert!(start(&mut waiting, "a", 10, now).is_none(), "its helper has not ended");
        waiting.give_back(seat);
        assert!(start(&mut waiting, "a", 10, now).is_some());
    }
}
