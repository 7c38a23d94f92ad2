//! The same request twice.

use braindrill::{
    dispatcher::SubmitError,
    store::{Inserted, Store, StoreOptions},
    submission::{NewSubmission, Owner},
};

use super::support::{Engine, at, new, owner};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn keyed(source: &str, key: &str) -> NewSubmission {
    NewSubmission { idempotency_key: Some(key.to_owned()), ..new(source) }
}

#[tokio::test]
async fn a_repeat_under_a_key_is_answered_with_the_first_submission() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let first = engine.handle.submit(keyed("succeed", "k")).await.unwrap();
    engine.finished(first.view.submission.id).await;
    let again = engine.handle.submit(keyed("succeed", "k")).await.unwrap();
    assert!(again.replayed && !first.replayed);
    assert_eq!(again.view.submission.id, first.view.submission.id);
    assert_eq!(again.view.outputs.len(), 1);
    let other = engine.handle.submit(keyed("lose", "k")).await;
    assert_eq!(other, Err(SubmitError::KeyReused));
    let mut someone = keyed("lose", "k");
    someone.owner = Owner("someone".to_owned());
    assert!(!engine.handle.submit(someone).await.unwrap().replayed);
    engine.stop().await;
}

#[tokio::test]
async fn of_a_hundred_equal_requests_at_once_one_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let answers = engine.handle.submit_batch(vec![keyed("succeed", "k"); 100]).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let id = answers[0].view.submission.id;
    assert!(answers.iter().all(|answer| answer.view.submission.id == id));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    engine.stop().await;
}

#[tokio::test]
async fn a_key_outlives_its_deleted_submission_by_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    let Inserted::New(first) = store.insert(keyed("x", "k"), at(0)).await.unwrap() else {
        panic!("not new");
    };
    store.delete(&owner(), first.id, at(1000)).await.unwrap();
    let late = at(1000 + DAY_MS - 1);
    assert_eq!(store.insert(keyed("x", "k"), late).await.unwrap(), Inserted::KeyGone);
    assert_eq!(store.insert(keyed("y", "k"), late).await.unwrap(), Inserted::KeyGone);
    store.expire(late).await.unwrap();
    assert_eq!(store.insert(keyed("x", "k"), late).await.unwrap(), Inserted::KeyGone);
    let over = at(1000 + DAY_MS);
    assert!(matches!(store.insert(keyed("y", "k"), over).await.unwrap(), Inserted::New(_)));
    store.close().await;
}

#[tokio::test]
async fn a_repeat_is_answered_also_when_the_queue_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions { queue_limit: 1 }).await.unwrap();
    let Inserted::New(first) = store.insert(keyed("x", "k"), at(0)).await.unwrap() else {
        panic!("not new");
    };
    assert_eq!(store.insert(keyed("x", "l"), at(0)).await.unwrap(), Inserted::QueueFull);
    let again = store.insert(keyed("x", "k"), at(0)).await.unwrap();
    assert_eq!(again, Inserted::Replayed(first.id));
    store.close().await;
}
