//! Cancel and delete, in every state.

use std::sync::{Arc, atomic::Ordering};

use braindrill::{
    dispatcher::{Filter, ReadError},
    submission::{StateName, SubmissionId, Verdict},
};

use super::{
    fake::{FakeBackend, World, lock},
    support::{Engine, eventually, outcome, owner},
};

/// Sources whose submissions stay in a state, and the state.
const STATES: [(&str, StateName); 5] = [
    ("hang in start", StateName::Dispatching),
    ("placed, then hang in start", StateName::Dispatching),
    ("hang", StateName::Running),
    ("never begin", StateName::Running),
    ("output, then gate", StateName::Running),
];

async fn is_in(engine: &Engine, id: SubmissionId, source: &str, state: StateName) {
    eventually("it is in its state", async || {
        let world = &engine.backend.world;
        let asked = lock(&world.starts).contains_key(&(id, 1));
        let placed = source == "hang in start" || lock(&world.placed).contains(&(id, 1));
        asked && placed && engine.get(id).await.submission.state.name() == state
    })
    .await;
}

#[tokio::test]
async fn cancelling_ends_a_submission_in_any_state_and_leaves_nothing() {
    for (source, state) in STATES {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::lasting(folder.path()).await;
        let id = engine.submit(source).await;
        is_in(&engine, id, source, state).await;
        let view = engine.handle.cancel(&owner(), id).await.unwrap();
        assert_eq!(outcome(&view).verdict(), Verdict::Cancelled, "{source}");
        assert_eq!(engine.handle.cancel(&owner(), id).await, Err(ReadError::Finished));
        engine.clean().await;
        eventually("its program has ended", async || {
            engine.backend.running.load(Ordering::SeqCst) == 0
        })
        .await;
        assert_eq!(outcome(&engine.get(id).await).verdict(), Verdict::Cancelled, "{source}");
        engine.stop().await;
    }
}

#[tokio::test]
async fn cancelling_a_queued_submission_keeps_it_from_running() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::new(Arc::<World>::default(), true, 1);
    let engine = Engine::start(folder.path(), backend).await;
    let first = engine.submit("gate").await;
    let queued = engine.submit("succeed").await;
    is_in(&engine, first, "gate", StateName::Running).await;
    let view = engine.handle.cancel(&owner(), queued).await.unwrap();
    assert_eq!(outcome(&view).verdict(), Verdict::Cancelled);
    engine.backend.gate.open();
    engine.finished(first).await;
    engine.clean().await;
    assert!(!lock(&engine.backend.world.starts).contains_key(&(queued, 1)));
    engine.stop().await;
}

#[tokio::test]
async fn cancelling_while_the_backend_is_away_is_cleared_up_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("hang").await;
    is_in(&engine, id, "hang", StateName::Running).await;
    engine.backend.away.store(true, Ordering::SeqCst);
    engine.handle.cancel(&owner(), id).await.unwrap();
    eventually("it is a leftover", async || !engine.store.leftovers(1).await.unwrap().is_empty())
        .await;
    assert!(!lock(&engine.backend.world.placed).is_empty());
    engine.backend.away.store(false, Ordering::SeqCst);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_finish_that_races_with_a_cancel_gives_one_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let mut outcomes = [0, 0];
    for _ in 0..50 {
        let id = engine.submit("succeed").await;
        let cancelled = engine.handle.cancel(&owner(), id).await;
        let view = engine.finished(id).await;
        match outcome(&view).verdict() {
            Verdict::Cancelled => assert!(cancelled.is_ok()),
            Verdict::Accepted => assert_eq!(cancelled, Err(ReadError::Finished)),
            other => panic!("{other}"),
        }
        outcomes[usize::from(cancelled.is_ok())] += 1;
        assert_eq!(engine.get(id).await, view);
    }
    engine.clean().await;
    assert_eq!(outcomes.iter().sum::<i32>(), 50);
    engine.stop().await;
}

#[tokio::test]
async fn waiters_are_woken_by_a_cancel() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("hang").await;
    let (view, cancelled) = tokio::join!(engine.finished(id), async {
        is_in(&engine, id, "hang", StateName::Running).await;
        engine.handle.cancel(&owner(), id).await
    });
    assert_eq!(outcome(&view).verdict(), Verdict::Cancelled);
    assert!(cancelled.is_ok());
    engine.stop().await;
}

#[tokio::test]
async fn a_deleted_submission_is_hidden_at_once_and_gone_when_its_placement_is() {
    for (source, state) in STATES {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::lasting(folder.path()).await;
        let id = engine.submit(source).await;
        is_in(&engine, id, source, state).await;
        engine.backend.away.store(true, Ordering::SeqCst);
        engine.handle.delete(&owner(), id).await.unwrap();
        assert_eq!(engine.handle.get(&owner(), id).await, Err(ReadError::NotFound), "{source}");
        assert_eq!(engine.handle.delete(&owner(), id).await, Err(ReadError::NotFound));
        let filter = Filter { limit: 10, ..Filter::default() };
        assert!(engine.handle.list(&owner(), &filter).await.unwrap().items.is_empty());
        // Its row is still there, for the sake of what is placed.
        eventually("it is a leftover", async || {
            !engine.store.leftovers(1).await.unwrap().is_empty()
        })
        .await;
        engine.backend.away.store(false, Ordering::SeqCst);
        engine.clean().await;
        let stats = engine.handle.stats().await.unwrap();
        assert_eq!(stats.submissions.values().sum::<u64>(), 0, "{source}");
        engine.stop().await;
    }
}

#[tokio::test]
async fn deleting_a_finished_submission_removes_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("succeed").await;
    engine.finished(id).await;
    engine.handle.delete(&owner(), id).await.unwrap();
    assert_eq!(engine.handle.get(&owner(), id).await, Err(ReadError::NotFound));
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn nobody_but_the_owner_can_read_or_end_a_submission() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("hang").await;
    let other = braindrill::submission::Owner("other".to_owned());
    assert_eq!(engine.handle.get(&other, id).await, Err(ReadError::NotFound));
    assert_eq!(engine.handle.cancel(&other, id).await, Err(ReadError::NotFound));
    assert_eq!(engine.handle.delete(&other, id).await, Err(ReadError::NotFound));
    assert_ne!(engine.get(id).await.submission.state.name(), StateName::Finished);
    engine.stop().await;
}
