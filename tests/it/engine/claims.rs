//! Who goes first.

use std::{collections::BTreeMap, sync::Arc};

use braindrill::{
    store::{Inserted, Store, StoreOptions},
    submission::{Owner, SubmissionId},
};

use super::{
    fake::{FakeBackend, World, lock},
    support::{Engine, at, eventually, new, new_of},
};

async fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path(), StoreOptions { queue_limit: 1_000_000 }).await.unwrap()
}

async fn insert(store: &Store, owner: &str, priority: u8) -> SubmissionId {
    match store.insert(new_of(owner, "x", priority), at(1)).await.unwrap() {
        Inserted::New(submission) => submission.id,
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &Store, limit: usize) -> Vec<(Owner, SubmissionId)> {
    let claimed = store.claim_next(limit, at(2)).await.unwrap();
    claimed.into_iter().map(|claimed| (claimed.claim.owner, claimed.claim.id)).collect()
}

#[tokio::test]
async fn owners_take_turns_however_much_one_of_them_has_sent() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for _ in 0..20 {
        insert(&store, "busy", 100).await;
    }
    for _ in 0..3 {
        insert(&store, "calm", 0).await;
    }
    let claimed = claim(&store, 10).await;
    let mut by_owner = BTreeMap::<_, usize>::new();
    for (owner, _) in &claimed[..6] {
        *by_owner.entry(owner.0.as_str()).or_default() += 1;
    }
    assert_eq!(by_owner, BTreeMap::from([("busy", 3), ("calm", 3)]));
    // The calm one has nothing more: the rest is the busy one's.
    assert!(claimed[6..].iter().all(|(owner, _)| owner.0 == "busy"));
    store.close().await;
}

#[tokio::test]
async fn an_owner_with_nothing_in_flight_goes_before_one_with_something() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    insert(&store, "first", 50).await;
    assert_eq!(claim(&store, 1).await[0].0.0, "first");
    insert(&store, "first", 100).await;
    insert(&store, "second", 0).await;
    assert_eq!(claim(&store, 1).await[0].0.0, "second");
    store.close().await;
}

#[tokio::test]
async fn owners_who_are_equal_are_served_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for owner in ["a", "b", "c"] {
        for _ in 0..2 {
            insert(&store, owner, 50).await;
        }
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        let claimed = store.claim_next(1, at(2)).await.unwrap().remove(0);
        served.push(claimed.claim.owner.0.clone());
        // Over at once, so that nobody ever has anything in flight.
        store.cancel(&claimed.claim.owner, claimed.claim.id, at(3)).await.unwrap();
    }
    assert_eq!(served[..3], served[3..]);
    store.close().await;
}

#[tokio::test]
async fn within_an_owner_priority_goes_first_then_age() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let low = insert(&store, "a", 10).await;
    let old = insert(&store, "a", 60).await;
    let young = insert(&store, "a", 60).await;
    let claimed: Vec<_> = claim(&store, 3).await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(claimed, [old, young, low]);
    store.close().await;
}

#[tokio::test]
async fn what_is_in_backoff_is_not_claimed_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    insert(&store, "a", 50).await;
    let claimed = store.claim_next(1, at(10)).await.unwrap().remove(0);
    let why = braindrill::store::Requeue::Away {
        waiting_for: "a backend".to_owned(),
        not_before: at(100),
    };
    let step = store.requeue(&claimed.claim, why, at(10)).await.unwrap();
    assert_eq!(step, braindrill::store::Step::Done);
    let outlook = store.outlook().await.unwrap();
    assert_eq!((outlook.ready, outlook.next), (0, Some(at(100))));
    assert!(store.claim_next(1, at(99)).await.unwrap().is_empty());
    let again = store.claim_next(1, at(100)).await.unwrap().remove(0);
    assert_eq!((again.claim.attempt, again.claim.tries), (1, 1));
    store.close().await;
}

#[tokio::test]
async fn the_dispatcher_starts_in_the_order_of_claims() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::new(Arc::<World>::default(), false, 1);
    let engine = Engine::start(folder.path(), backend).await;
    let first = engine.submit("gate").await;
    eventually("the slot is taken", async || lock(&engine.backend.world.order).contains(&first))
        .await;
    let mut ids = Vec::new();
    for (owner, priority) in [("a", 0), ("a", 100), ("b", 0)] {
        let submitted = engine.handle.submit(new_of(owner, "succeed", priority)).await.unwrap();
        ids.push(submitted.view.submission);
    }
    engine.backend.gate.open();
    for submission in &ids {
        let (owner, id) = (&submission.owner, submission.id);
        engine.handle.wait(owner, id, super::support::DEADLINE).await.unwrap();
    }
    let order = lock(&engine.backend.world.order).clone();
    assert_eq!(order, [first, ids[1].id, ids[2].id, ids[0].id]);
    engine.stop().await;
}

#[tokio::test]
async fn ten_thousand_at_once_are_all_stored_and_one_more_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    let inserts = (0..10_001).map(|_| store.insert(new("x"), at(1)));
    let answers = futures_util::future::join_all(inserts).await;
    let (mut new, mut full) = (std::collections::BTreeSet::new(), 0);
    for answer in answers {
        match answer.unwrap() {
            Inserted::New(submission) => assert!(new.insert(submission.id)),
            Inserted::QueueFull => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new.len(), full), (10_000, 1));
    store.close().await;
    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    let queued = store.counts().await.unwrap();
    assert!(queued.contains(&(braindrill::submission::StateName::Queued, 10_000)));
    store.close().await;
}
