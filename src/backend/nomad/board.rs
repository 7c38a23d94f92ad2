//! What is known of each child now, in one place: the watcher writes it, followers wait for changes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;

use super::MAX_CAPACITY;
use crate::nomad::Allocation;

/// Allocations of children that nobody watches yet which are remembered: Nomad may place a child before
/// its dispatch is answered. As many as there can be dispatches in flight, and as many again that were
/// released just now, of which the last events come late.
const EARLY: usize = 2 * MAX_CAPACITY;

/// What is known of a child.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Child {
    /// The newest of its allocations, as it was seen last.
    pub(super) allocation: Option<Allocation>,
    /// What it waits for, as a sentence, while it has none.
    pub(super) waiting: Option<String>,
    /// Nomad does not have it any more, or will not run it.
    pub(super) gone: bool,
    /// Its runner has said its last word, and will end by itself.
    pub(super) finished: bool,
    /// We had Nomad forget it after its last word.
    pub(super) purged: bool,
}

impl Child {
    /// Whether nothing of it runs or will run.
    pub(super) fn is_over(&self) -> bool {
        self.gone || self.allocation.as_ref().is_some_and(Allocation::is_over)
    }

    /// Whether its runner is known to have ended without having been told to. What is lost, or stopped
    /// from outside, Nomad may place anew.
    pub(super) fn has_ended_by_itself(&self) -> bool {
        let ended = |allocation: &Allocation| {
            allocation.desired_status == "run"
                && matches!(allocation.client_status.as_str(), "complete" | "failed")
        };
        !self.gone && self.allocation.as_ref().is_some_and(ended)
    }

    /// Whether nothing of its allocation runs, as Nomad sees it.
    pub(super) fn has_stopped(&self) -> bool {
        self.allocation.as_ref().is_some_and(Allocation::is_over)
    }

    /// Takes note of an allocation; says whether that is news.
    fn note(&mut self, seen: &Allocation) -> bool {
        let is_news = self.allocation.as_ref().is_none_or(|known| {
            (seen.create_index, seen.modify_index) > (known.create_index, known.modify_index)
        });
        if is_news {
            self.allocation = Some(seen.clone());
            self.waiting = None;
        }
        is_news
    }
}

/// A child that somebody is to be told of.
struct Entry {
    child: watch::Sender<Child>,
    /// Since when it is here.
    since: Instant,
    /// When its allocations were last listed.
    listed: Option<Instant>,
}

/// The children of this daemon that are placed and not released.
#[derive(Default)]
pub(super) struct Board {
    children: Mutex<HashMap<String, Entry>>,
    early: Mutex<VecDeque<Allocation>>,
    /// Why Nomad cannot be asked, while it cannot.
    away: watch::Sender<Option<String>>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("children", &self.children().len()).finish_non_exhaustive()
    }
}

/// A child that the watcher may have to look at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Open {
    pub(super) job_id: String,
    pub(super) since: Instant,
    pub(super) listed: Option<Instant>,
    pub(super) is_placed: bool,
}

impl Board {
    fn children(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, VecDeque<Allocation>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a child on the board, where it stays until [`Board::remove`]. `known` is an allocation that
    /// was read otherwise.
    pub(super) fn add(&self, job_id: &str, known: Option<Allocation>) -> watch::Receiver<Child> {
        let mut children = self.children();
        let entry = children.entry(job_id.to_owned()).or_insert_with(|| Entry {
            child: watch::Sender::new(Child::default()),
            since: Instant::now(),
            listed: None,
        });
        for allocation in self.take_early(job_id).into_iter().chain(known) {
            entry.child.send_if_modified(|child| child.note(&allocation));
        }
        entry.child.subscribe()
    }

    /// Takes a child off: nothing of it is left.
    pub(super) fn remove(&self, job_id: &str) {
        let mut children = self.children();
        children.remove(job_id);
        self.take_early(job_id);
    }

    /// What was seen of a child before it was on the board, no longer to be remembered.
    fn take_early(&self, job_id: &str) -> Vec<Allocation> {
        let mut early = self.early();
        let (taken, left) = early.drain(..).partition(|each| each.job_id == job_id);
        *early = left;
        taken.into()
    }

    /// What is known of a child, if it is on the board.
    pub(super) fn watch(&self, job_id: &str) -> Option<watch::Receiver<Child>> {
        self.children().get(job_id).map(|entry| entry.child.subscribe())
    }

    /// How many children are on the board.
    pub(super) fn len(&self) -> usize {
        self.children().len()
    }

    /// How many children run on each node, or are about to, by the node's id.
    pub(super) fn by_node(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for entry in self.children().values() {
            let child = entry.child.borrow();
            if let Some(allocation) = child.allocation.as_ref().filter(|each| !each.is_over()) {
                *counts.entry(allocation.node_id.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// Takes note of an allocation that was seen.
    pub(super) fn note(&self, allocation: &Allocation) {
        let children = self.children();
        match children.get(&allocation.job_id) {
            Some(entry) => {
                entry.child.send_if_modified(|child| child.note(allocation));
            }
            None => self.note_early(allocation),
        }
    }

    fn note_early(&self, allocation: &Allocation) {
        let mut early = self.early();
        if let Some(known) = early.iter_mut().find(|known| known.id == allocation.id) {
            if known.modify_index < allocation.modify_index {
                known.clone_from(allocation);
            }
            return;
        }
        if early.len() == EARLY {
            early.pop_front();
        }
        early.push_back(allocation.clone());
    }

    /// Takes note of a whole answer about a child's allocations.
    pub(super) fn note_list(&self, job_id: &str, allocations: &[Allocation]) {
        for allocation in allocations {
            self.note(allocation);
        }
        if let Some(entry) = self.children().get_mut(job_id) {
            entry.listed = Some(Instant::now());
        }
    }

    /// Takes note of why a child is not placed.
    pub(super) fn note_waiting(&self, job_id: &str, waiting: Option<String>) {
        if let Some(entry) = self.children().get(job_id) {
            entry.child.send_if_modified(|child| {
                let is_news = child.allocation.is_none() && child.waiting != waiting;
                if is_news {
                    child.waiting = waiting;
                }
                is_news
            });
        }
    }

    /// Takes note that Nomad does not have a child any more.
    pub(super) fn note_gone(&self, job_id: &str) {
        if let Some(entry) = self.children().get(job_id) {
            entry.child.send_if_modified(|child| !std::mem::replace(&mut child.gone, true));
        }
    }

    /// Takes note that a child's runner has said its last word.
    pub(super) fn note_finished(&self, job_id: &str) {
        if let Some(entry) = self.children().get(job_id) {
            entry.child.send_modify(|child| child.finished = true);
        }
    }

    /// Takes note that we had Nomad forget a child whose runner has said its last word.
    pub(super) fn note_purged(&self, job_id: &str) {
        if let Some(entry) = self.children().get(job_id) {
            entry.child.send_modify(|child| child.purged = true);
        }
    }

    /// The children that are not over.
    pub(super) fn open(&self) -> Vec<Open> {
        let children = self.children();
        let open = children.iter().filter_map(|(job_id, entry)| {
            let child = entry.child.borrow();
            (!child.is_over()).then(|| Open {
                job_id: job_id.clone(),
                since: entry.since,
                listed: entry.listed,
                is_placed: child.allocation.is_some(),
            })
        });
        open.collect()
    }

    /// Whether a child waits for a place.
    pub(super) fn has_unplaced(&self) -> bool {
        let waits = |child: &Child| child.allocation.is_none() && !child.is_over();
        self.children().values().any(|entry| waits(&entry.child.borrow()))
    }

    /// Whether Nomad can be asked, and since when it is so.
    pub(super) fn reach(&self) -> watch::Receiver<Option<String>> {
        self.away.subscribe()
    }

    /// Takes note of whether Nomad can be asked; says whether that is news.
    pub(super) fn note_reach(&self, away: Option<String>) -> bool {
        self.away.send_if_modified(|known| {
            let is_news = known.is_some() != away.is_some();
            // The latest reason is the one to tell, but not for everybody who waits to hear.
            *known = away;
            is_news
        })
    }
}

/// Shared by the backend, its watcher and its followers.
pub(super) type SharedBoard = Arc<Board>;

#[cfg(test)]
mod tests {
    use super::*;

    fn allocation(job: &str, create: u64, modify: u64, status: &str) -> Allocation {
        Allocation {
            id: format!("{job}-{create}"),
            job_id: job.to_owned(),
            create_index: create,
            modify_index: modify,
            client_status: status.to_owned(),
            ..Allocation::default()
        }
    }

    fn status(child: &watch::Receiver<Child>) -> Option<String> {
        child.borrow().allocation.as_ref().map(|each| each.client_status.clone())
    }

    #[test]
    fn what_is_older_than_what_is_known_changes_nothing() {
        let board = Board::default();
        let mut child = board.add("a", None);
        board.note(&allocation("a", 5, 9, "complete"));
        assert!(child.has_changed().unwrap());
        child.mark_unchanged();
        for late in [allocation("a", 5, 7, "pending"), allocation("a", 3, 20, "lost")] {
            board.note(&late);
        }
        assert!(!child.has_changed().unwrap());
        assert_eq!(status(&child).as_deref(), Some("complete"));
        board.note(&allocation("a", 10, 10, "pending"));
        assert_eq!(status(&child).as_deref(), Some("pending"));
    }

    #[test]
    fn an_allocation_that_comes_before_its_child_is_not_lost() {
        let board = Board::default();
        board.note(&allocation("a", 1, 2, "running"));
        board.note(&allocation("a", 1, 1, "pending"));
        for n in 0..EARLY - 1 {
            board.note(&allocation(&format!("other-{n}"), 1, 1, "pending"));
        }
        assert_eq!(board.early().len(), EARLY);
        let child = board.add("a", None);
        assert_eq!(status(&child).as_deref(), Some("running"));
        assert_eq!(board.early().len(), EARLY - 1);
        for _ in 0..2 {
            board.note(&allocation("more", 1, 1, "pending"));
        }
        assert_eq!(board.early().len(), EARLY);
        board.note(&allocation("still more", 1, 1, "pending"));
        assert_eq!(board.early().len(), EARLY);
    }

    #[test]
    fn what_came_early_of_as_many_children_as_there_can_be_is_remembered() {
        let board = Board::default();
        let name = |n| format!("child-{n}");
        for modify in 1..4 {
            for n in 0..MAX_CAPACITY {
                board.note(&allocation(&name(n), 1, modify, &modify.to_string()));
                // Of one that was released.
                board.note(&allocation(&format!("old-{n}"), 1, modify, "complete"));
            }
        }
        for n in 0..MAX_CAPACITY {
            assert_eq!(status(&board.add(&name(n), None)).as_deref(), Some("3"));
            board.note(&allocation(&name(n), 1, 4, "4"));
            board.remove(&name(n));
        }
        assert!(board.early().iter().all(|each| each.job_id.starts_with("old-")));
        assert_eq!(board.early().len(), MAX_CAPACITY);
        board.note(&allocation("old-0", 1, 9, "complete"));
        board.remove("old-0");
        assert_eq!(board.early().len(), MAX_CAPACITY - 1);
    }

    #[test]
    fn a_child_is_open_until_it_is_over_and_counted_where_it_runs() {
        let board = Board::default();
        let _child = board.add("a", None);
        let _gone = board.add("b", None);
        assert_eq!(board.open().len(), 2);
        board.note_gone("b");
        let on_node = |modify, status| Allocation {
            node_id: "n".to_owned(),
            ..allocation("a", 1, modify, status)
        };
        board.note(&on_node(1, "running"));
        assert!(board.open().iter().all(|open| open.job_id == "a" && open.is_placed));
        assert_eq!(board.by_node(), [("n".to_owned(), 1)].into());
        board.note(&on_node(2, "complete"));
        assert!(board.open().is_empty() && board.by_node().is_empty());
        board.remove("a");
        assert!(board.watch("a").is_none());
        assert_eq!(board.len(), 1);
    }

    #[test]
    fn a_reason_to_wait_ends_with_a_place() {
        let board = Board::default();
        let child = board.add("a", None);
        board.note_waiting("a", Some("room".to_owned()));
        assert_eq!(child.borrow().waiting.as_deref(), Some("room"));
        board.note(&allocation("a", 1, 1, "pending"));
        board.note_waiting("a", Some("room".to_owned()));
        assert_eq!(child.borrow().waiting, None);
    }
}
