//! Which worker an attempt goes to: of two drawn at random that have the language, the less loaded.

use super::{Member, leases::Leases};
use crate::{
    backend::StartError,
    worker::{CallError, RELEASE, RefusalKind},
};

/// The workers that an attempt may go to, less those that did not take it.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    all: &'a [Member],
    language: &'a str,
    open: Vec<&'a Member>,
    /// Whether one that was asked, or that was not asked since it is full, may take it in a moment.
    busy: bool,
    /// Whether one has no room for compiled programs.
    no_room: bool,
    /// Whether one could not be asked, or lately could not be.
    away: bool,
}

impl<'a> Choice<'a> {
    /// Among `all` but those `at_rest`.
    pub(super) fn new(all: &'a [Member], language: &'a str, at_rest: &[String]) -> Choice<'a> {
        let has = |member: &&Member| {
            member.release == RELEASE && member.languages.iter().any(|each| each == language)
        };
        let (resting, open): (Vec<_>, Vec<_>) =
            all.iter().filter(has).partition(|member| at_rest.contains(&member.id));
        Choice { all, language, open, busy: false, no_room: false, away: !resting.is_empty() }
    }

    /// The next to ask, each once: of two the one with more room, in shares of its slots.
    pub(super) fn next(&mut self, leases: &Leases, draw: u64) -> Option<&'a Member> {
        let load = |member: &Member| match member.slots {
            0 => 1.0,
            slots => leases.load(&member.id) as f64 / slots as f64,
        };
        let before = self.open.len();
        self.open.retain(|member| load(member) < 1.0);
        self.busy |= self.open.len() < before;
        let count = self.open.len() as u64;
        let one = draw.checked_rem(count)? as usize;
        let other = match count {
            1 => one,
            // Another one, wherever the first is.
            count => (one + 1 + (draw / count % (count - 1)) as usize) % count as usize,
        };
        let [first, second] = [one, other].map(|index| load(self.open[index]));
        Some(self.open.swap_remove(if second < first { other } else { one }))
    }

    /// Takes note of why one did not take it.
    pub(super) fn note(&mut self, error: &CallError) {
        match error {
            CallError::Refused(RefusalKind::Busy, _) => self.busy = true,
            CallError::Refused(RefusalKind::NoRoom, _) => self.no_room = true,
            _ => self.away = true,
        }
    }

    /// What to say when nobody takes it.
    pub(super) fn failure(&self) -> StartError {
        if let Some(reason) = nobody(self.all) {
            return StartError::Unavailable(reason);
        }
        let language = self.language;
        if self.busy {
            return StartError::NoPlace(format!(
                "a free slot of a warm worker that has {language}"
            ));
        }
        if self.no_room {
            return StartError::NoPlace(
                "room for compiled programs on a warm worker's disk".to_owned(),
            );
        }
        if self.away {
            let reason = format!("none of the warm workers that have {language} can be reached");
            return StartError::NoPlace(reason);
        }
        StartError::NoPlace(format!("a warm worker that has {language}"))
    }
}

/// Why nothing can be placed at all, if so.
pub(super) fn nobody(members: &[Member]) -> Option<String> {
    if members.is_empty() {
        return Some("no warm worker is there".to_owned());
    }
    let usable = members.iter().any(|member| member.release == RELEASE);
    (!usable).then(|| {
        format!(
            "all warm workers are of another release: the daemon is braindrill {RELEASE}, the first of \
             them {}",
            members[0].release
        )
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;

    fn member(id: &str, slots: usize, languages: &[&str]) -> Member {
        Member {
            id: id.to_owned(),
            name: id.to_owned(),
            url: "http://10.0.0.1:8081".parse().unwrap(),
            release: RELEASE.to_owned(),
            slots,
            languages: languages.iter().map(|&each| each.to_owned()).collect(),
            job: None,
        }
    }

    fn ids(members: &[Member], draw: u64, leases: &Leases) -> Vec<String> {
        let mut choice = Choice::new(members, "c", &[]);
        std::iter::from_fn(|| choice.next(leases, draw)).map(|each| each.id.clone()).collect()
    }

    #[test]
    fn each_worker_that_has_the_language_is_asked_once_whatever_is_drawn() {
        let mut old = member("old", 4, &["c"]);
        old.release = "0.0.1/1".to_owned();
        let members =
            [member("a", 1, &["c"]), member("b", 2, &["go", "c"]), member("no", 9, &["go"]), old];
        for draw in 0..50 {
            let asked = ids(&members, draw, &Leases::default());
            assert_eq!(asked.len(), 2);
            assert_eq!(BTreeSet::from_iter(asked), ["a".to_owned(), "b".to_owned()].into());
        }
    }

    #[test]
    fn the_less_loaded_of_two_is_asked_first_and_a_full_one_not_at_all() {
        let leases = Arc::new(Leases::default());
        let members = [member("a", 4, &["c"]), member("b", 2, &["c"]), member("full", 1, &["c"])];
        let _held = [("a", "1"), ("b", "2"), ("full", "3")].map(|(at, name)| leases.hold(at, name));
        for draw in 0..50 {
            assert_eq!(ids(&members, draw, &leases), ["a", "b"], "a quarter against a half");
        }
    }

    #[test]
    fn what_is_drawn_spreads_attempts_over_all_workers() {
        let members: Vec<_> = (0..5).map(|n| member(&n.to_string(), 1, &["c"])).collect();
        let first = |draw| ids(&members, draw, &Leases::default())[0].clone();
        let seen: BTreeSet<_> = (0..40).map(first).collect();
        assert_eq!(seen.len(), members.len());
    }

    #[test]
    fn who_finds_nobody_is_told_what_is_missing() {
        let reason = |members: &[Member], rest: &[&str], error: Option<CallError>| {
            let rest: Vec<_> = rest.iter().map(|&each| each.to_owned()).collect();
            let mut choice = Choice::new(members, "c", &rest);
            error.iter().for_each(|error| choice.note(error));
            choice.failure()
        };
        let others = [member("a", 1, &["go"])];
        let mut old = member("a", 1, &["c"]);
        old.release = "0.0.9/1".to_owned();
        assert!(matches!(reason(&[], &[], None), StartError::Unavailable(_)));
        let StartError::Unavailable(text) = reason(&[old], &[], None) else { panic!() };
        assert!(text.contains("0.0.9/1") && text.contains(RELEASE), "{text}");
        let no_place = |failure| match failure {
            StartError::NoPlace(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(no_place(reason(&others, &[], None)), "a warm worker that has c");
        let has = [member("a", 1, &["c"])];
        let away = "none of the warm workers that have c can be reached";
        assert_eq!(no_place(reason(&has, &["a"], None)), away);
        assert_eq!(no_place(reason(&has, &[], Some(CallError::Silent))), away);
        let busy = CallError::Refused(RefusalKind::Busy, String::new());
        assert!(no_place(reason(&has, &[], Some(busy))).starts_with("a free slot"));
    }
}
