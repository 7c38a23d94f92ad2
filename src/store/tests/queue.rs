//! A long queue costs no more than a short one.

use std::time::{Duration, Instant};

use super::{Sql, at, claim, count, insert, open};
use crate::{
    store::{Requeue, Selection, Step, Store},
    submission::{Owner, StateName},
};

/// 100,000 queued of 1,000 owners, as if they had been sent.
async fn fill(store: &Store) {
    let writer = &store.inner.writer;
    let submissions = "WITH RECURSIVE number (n) AS (
            SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 100000
        )
        INSERT INTO submissions (id, owner, language, state, priority, created_ms, queued_ms)
        SELECT randomblob(16), 'owner ' || (n % 1000), 'python', 'queued', n % 101, 1, 1
        FROM number";
    assert_eq!(writer.write(Sql(submissions)).await, Ok(100_000));
    let requests = "INSERT INTO requests SELECT pk,
        CAST('{\"language\":\"python\",\"entrypoint\":\"main.py\",\"priority\":50,\"limits\":{
            \"cpu_time_ms\":1,\"wall_time_ms\":1,\"memory_bytes\":1,\"processes\":1,
            \"output_bytes\":1,\"disk_bytes\":1}}' AS BLOB) FROM submissions";
    assert_eq!(writer.write(Sql(requests)).await, Ok(100_000));
}

#[tokio::test]
async fn claiming_and_listing_are_cheap_behind_a_hundred_thousand() {
    let (_folder, store) = open().await;
    fill(&store).await;
    assert_eq!(count(&store, "SELECT n FROM counts WHERE state = 'queued'").await, 100_000);
    // A step that walks the queue takes tens of milliseconds; one into an index, fractions of one.
    let begun = Instant::now();
    let claimed = store.claim_next(1000, at(2)).await.unwrap();
    let each = begun.elapsed() / 1000;
    assert!(each < Duration::from_millis(5), "{each:?} a claim");
    assert_eq!(claimed.len(), 1000);
    assert!(claimed.iter().all(|claimed| claimed.request.is_ok()));
    let owners: std::collections::BTreeSet<_> =
        claimed.iter().map(|claimed| &claimed.claim.owner).collect();
    assert_eq!(owners.len(), 1000, "each owner has its share");
    let begun = Instant::now();
    for number in 0..100 {
        let owner = Owner(format!("owner {number}"));
        let dispatching = Selection { state: Some(StateName::Dispatching), ..Selection::default() };
        assert_eq!(store.list(&owner, &dispatching, 10).await.unwrap().len(), 1);
        assert_eq!(store.list(&owner, &Selection::default(), 10).await.unwrap().len(), 10);
    }
    let each = begun.elapsed() / 200;
    assert!(each < Duration::from_millis(5), "{each:?} a page");
    store.close().await;
}

#[tokio::test]
async fn what_waits_for_room_is_roused_and_what_was_lost_waits_on() {
    let (_folder, store) = open().await;
    let away = || Requeue::Away { waiting_for: "room".to_owned(), not_before: at(1000) };
    let lost = Requeue::Lost { reason: "gone".to_owned(), not_before: Some(at(1000)) };
    for why in [away(), away(), away(), lost] {
        insert(&store).await;
        assert_eq!(store.requeue(&claim(&store).await, why, at(3)).await, Ok(Step::Done));
    }
    assert_eq!(store.claim_next(9, at(4)).await, Ok(Vec::new()));
    store.rouse(2).await.unwrap();
    assert_eq!(store.claim_next(9, at(4)).await.unwrap().len(), 2);
    store.rouse(usize::MAX).await.unwrap();
    assert_eq!(store.claim_next(9, at(4)).await.unwrap().len(), 1);
    store.rouse(usize::MAX).await.unwrap();
    assert_eq!(store.claim_next(9, at(4)).await, Ok(Vec::new()));
    store.close().await;
}
