//! Where there is room, as far as this daemon knows: which workers have said that others hold their
//! slots, and when that is over or a worker has come.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::{Notify, watch};

use super::Member;
use crate::worker::{Facts, RELEASE, WorkerClient};

/// How often a worker whose slots are others' is asked whether that is so still.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What is known of the room on workers.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Workers whose slots others hold, with how many of them were ours when they said so.
    full: Mutex<HashMap<String, usize>>,
    filled: Notify,
    made: Notify,
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has said that all of its slots are taken; so many by us.
    pub(super) fn is_full(&self, worker: &str, ours: usize) {
        self.lock().insert(worker.to_owned(), ours);
        self.filled.notify_one();
    }

    /// These workers, with no more slots than are there for us.
    pub(super) fn of(&self, members: &[Member]) -> Vec<Member> {
        let full = self.lock();
        let slots = |member: &Member| ours_of(&full, member).unwrap_or(member.slots);
        members.iter().map(|member| Member { slots: slots(member), ..member.clone() }).collect()
    }

    /// The slots that are there for us on all usable ones of them, together; and whether others hold some.
    pub(super) fn count(&self, members: &[Member]) -> (usize, bool) {
        let full = self.lock();
        let usable = members.iter().filter(|member| member.release == RELEASE);
        usable.fold((0, false), |(sum, shared): (usize, bool), member| {
            let ours = ours_of(&full, member);
            (sum.saturating_add(ours.unwrap_or(member.slots)), shared || ours.is_some())
        })
    }

    /// Returns when there is room that there was not before.
    pub(super) async fn made(&self) {
        self.made.notified().await;
    }

    /// Keeps this up to date, until dropped.
    pub(super) async fn watch(&self, client: &WorkerClient, members: watch::Receiver<Vec<Member>>) {
        tokio::join!(self.watch_members(members.clone()), self.ask_the_full(client, &members));
    }

    /// Says so when workers have come, or have more slots.
    async fn watch_members(&self, mut members: watch::Receiver<Vec<Member>>) {
        let mut before = slots(&members.borrow_and_update());
        while members.changed().await.is_ok() {
            let now = slots(&members.borrow_and_update());
            let is_more =
                now.iter().any(|(id, slots)| before.get(id).is_none_or(|had| had < slots));
            if is_more {
                self.made.notify_one();
            }
            before = now;
        }
        // Nobody keeps the list any more, and the rest is still to be done.
        std::future::pending().await
    }

    /// Asks those that are full until they have room, or are not there any more.
    async fn ask_the_full(&self, client: &WorkerClient, members: &watch::Receiver<Vec<Member>>) {
        loop {
            let known = members.borrow().clone();
            self.lock().retain(|id, _| known.iter().any(|member| member.id == *id));
            let full: Vec<_> = self.lock().keys().cloned().collect();
            if full.is_empty() {
                self.filled.notified().await;
            }
            tokio::time::sleep(ASK_EVERY).await;
            let asked = known.iter().filter(|member| full.contains(&member.id));
            let asked = asked.map(async |member| (member, client.facts(&member.url).await));
            for (member, answer) in join_all(asked).await {
                if answer.is_ok_and(|facts| has_room(&facts)) {
                    self.lock().remove(&member.id);
                    self.made.notify_one();
                }
            }
        }
    }
}

/// How many of its slots are there for us, where others hold some.
fn ours_of(full: &HashMap<String, usize>, member: &Member) -> Option<usize> {
    full.get(&member.id).map(|ours| member.slots.min(*ours))
}

fn has_room(facts: &Facts) -> bool {
    !facts.draining && facts.busy < facts.slots
}

fn slots(members: &[Member]) -> HashMap<String, usize> {
    let usable = members.iter().filter(|member| member.release == RELEASE && member.slots > 0);
    usable.map(|member| (member.id.clone(), member.slots)).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn member(id: &str, slots: usize) -> Member {
        Member {
            id: id.to_owned(),
            name: id.to_owned(),
            url: "http://127.0.0.1:1".parse().unwrap(),
            release: RELEASE.to_owned(),
            slots,
            languages: Vec::new(),
            job: None,
        }
    }

    #[test]
    fn what_others_hold_is_no_room_for_us() {
        let room = Room::default();
        let members = [member("a", 4), member("b", 2)];
        assert_eq!((room.of(&members), room.count(&members)), (members.to_vec(), (6, false)));
        room.is_full("a", 1);
        assert_eq!(room.of(&members), [member("a", 1), member("b", 2)]);
        assert_eq!(room.count(&members), (3, true));
        room.is_full("b", 0);
        assert_eq!((room.of(&members)[1].slots, room.count(&members)), (0, (1, true)));
    }

    #[tokio::test]
    async fn workers_that_come_or_grow_are_room_and_those_that_go_are_none() {
        let (sender, members) = watch::channel(vec![member("a", 1)]);
        let room = Room::default();
        let mut watching = std::pin::pin!(room.watch_members(members));
        let mut step = |list: Vec<Member>| {
            sender.send_replace(list);
            assert!(watching.as_mut().now_or_never().is_none());
            room.made().now_or_never().is_some()
        };
        assert!(!step(vec![member("a", 1)]));
        assert!(step(vec![member("a", 1), member("b", 1)]));
        assert!(!step(vec![member("b", 1)]));
        assert!(step(vec![member("b", 2)]));
        assert!(!step(vec![member("b", 2), member("c", 0)]), "it is about to end");
        assert!(!step(Vec::new()));
    }
}
