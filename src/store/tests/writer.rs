//! Group commit: shared, and yet each for itself.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, join4};

use super::{Sql, at, claim, count, insert, new, open};
use crate::store::{Inserted, Step, StoreError, writer::LAZY_WRITE};

#[tokio::test]
async fn a_command_that_fails_does_not_fail_its_neighbours() {
    let (_folder, store) = open().await;
    let fails = Sql("INSERT INTO owners VALUES ('half done', 0, 0, 0), ('bad', -1, 0, 0)");
    let good = || store.insert(new("x"), at(1));
    let writer = &store.inner.writer;
    let (first, failed, second, third) = join4(good(), writer.write(fails), good(), good()).await;
    assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
    for answer in [first, second, third] {
        assert!(matches!(answer, Ok(Inserted::New(_))), "{answer:?}");
    }
    assert_eq!(count(&store, "SELECT count(*) FROM submissions").await, 3);
    assert_eq!(count(&store, "SELECT count(*) FROM owners WHERE owner = 'half done'").await, 0);
    assert_eq!(store.trouble(), None);
    store.close().await;
}

#[tokio::test]
async fn what_was_done_before_a_failure_in_the_same_command_is_undone() {
    struct Half;
    impl crate::store::writer::Write for Half {
        type Answer = ();
        fn run<'a>(
            &'a self,
            tx: &'a mut sqlx::SqliteConnection,
        ) -> futures_util::future::BoxFuture<'a, Result<(), StoreError>> {
            Box::pin(async move {
                sqlx::query("INSERT INTO owners VALUES ('half', 0, 0, 0)")
                    .execute(&mut *tx)
                    .await?;
                sqlx::query("INSERT INTO owners VALUES ('half', 0, 0, 0)").execute(tx).await?;
                Ok(())
            })
        }
    }
    let (_folder, store) = open().await;
    let whole = Sql("INSERT INTO owners VALUES ('whole', 0, 0, 0)");
    let writer = &store.inner.writer;
    let (half, whole) = futures_util::future::join(writer.write(Half), writer.write(whole)).await;
    assert!(half.is_err() && whole.is_ok());
    assert_eq!(count(&store, "SELECT count(*) FROM owners WHERE owner = 'half'").await, 0);
    assert_eq!(count(&store, "SELECT count(*) FROM owners WHERE owner = 'whole'").await, 1);
    store.close().await;
}

#[tokio::test]
async fn commands_at_once_share_commits() {
    let (folder, store) = open().await;
    let wal = folder.path().join("braindrill.db-wal");
    let before = std::fs::metadata(&wal).unwrap().len();
    let answers = join_all((0..100).map(|_| store.insert(new("x"), at(1)))).await;
    assert!(answers.iter().all(Result::is_ok));
    let together = std::fs::metadata(&wal).unwrap().len() - before;
    let before = std::fs::metadata(&wal).unwrap().len();
    for _ in 0..20 {
        store.insert(new("x"), at(1)).await.unwrap();
    }
    let apart = std::fs::metadata(&wal).unwrap().len() - before;
    // Each commit writes every page it touches: twenty of them more than one that holds a hundred.
    assert!(together < apart, "{together} bytes together, {apart} apart");
    store.close().await;
}

#[tokio::test]
async fn a_lazy_command_waits_for_company_but_not_for_ever_and_keeps_its_turn() {
    let (_folder, store) = open().await;
    let writer = &store.inner.writer;
    let begun = Instant::now();
    let lazy = Sql("INSERT INTO owners VALUES ('lazy', 0, 0, 0)");
    let mut alone = writer.write_lazily(lazy).await.unwrap();
    assert!(alone.peek().is_none());
    alone.done().await.unwrap();
    // Less a little for the timer's grain.
    assert!(begun.elapsed() >= LAZY_WRITE - Duration::from_millis(2), "{:?}", begun.elapsed());
    let lazy = Sql("INSERT INTO owners VALUES ('first', 0, 0, 0)");
    let mut first = writer.write_lazily(lazy).await.unwrap();
    let changed = writer.write(Sql("DELETE FROM owners WHERE owner = 'first'")).await.unwrap();
    assert_eq!(changed, 1, "the lazy one before it was not made before it");
    assert_eq!(first.peek(), Some(Ok(1)));
    store.close().await;
}

#[tokio::test]
async fn lazy_commands_are_on_disk_after_a_close() {
    let (folder, store) = open().await;
    let lazy = Sql("INSERT INTO owners VALUES ('lazy', 0, 0, 0)");
    store.inner.writer.write_lazily(lazy).await.unwrap();
    store.close().await;
    let options = crate::store::StoreOptions::default();
    let store = crate::store::Store::open(folder.path(), options).await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM owners WHERE owner = 'lazy'").await, 1);
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_forgotten_when_there_is_space_again() {
    let (_folder, store) = open().await;
    let kept = insert(&store).await;
    let writer = &store.inner.writer;
    let pages = count(&store, "SELECT page_count FROM pragma_page_count()").await;
    // SQLite answers SQLITE_FULL at this bound, as it does when the disk is full.
    assert!(pages < 100, "{pages}");
    writer.write(Sql("PRAGMA max_page_count = 100")).await.unwrap();
    let noise: String =
        (0..50_000u32).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
    let big = new(&noise);
    let small = store.insert(new("x"), at(1));
    let (refused, beside) = futures_util::future::join(store.insert(big, at(1)), small).await;
    assert!(matches!(refused, Err(StoreError::Full)), "it was stored");
    assert!(matches!(beside, Ok(Inserted::New(_))), "{beside:?}");
    assert_eq!(store.trouble(), Some(StoreError::Full));
    writer.write(Sql("PRAGMA max_page_count = 1000000")).await.unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.trouble(), None);
    assert_eq!(claim(&store).await.id, kept.id);
    store.close().await;
}

#[tokio::test]
async fn a_claim_that_is_no_longer_current_changes_nothing() {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    let stale = claim(&store).await;
    let restarted = store.requeue(&stale, crate::store::Requeue::Restarted, at(3)).await;
    assert_eq!(restarted, Ok(Step::Done));
    let current = claim(&store).await;
    assert_eq!((current.attempt, current.restarts), (2, 1));
    let placement = crate::submission::Placement::Local;
    let mut place = store.place(&stale, &placement, at(4)).await.unwrap();
    assert_eq!(place.done().await, Ok(Step::Conflict));
    let again = store.requeue(&stale, crate::store::Requeue::Restarted, at(4)).await;
    assert_eq!(again, Ok(Step::Conflict));
    let finish = crate::store::Finish {
        outcome: crate::submission::Outcome::Cancelled,
        events: Vec::new(),
        loss: None,
        at: at(4),
    };
    assert_eq!(store.finish(&stale, finish.clone()).await, Ok(Step::Conflict));
    assert_eq!(store.finish(&current, finish).await, Ok(Step::Done));
    let events = "SELECT count(*) FROM events WHERE kind = 'finished'";
    assert_eq!(count(&store, events).await, 1);
    let (read, _) = store.get(&submission.owner, submission.id).await.unwrap().unwrap();
    assert_eq!(read.attempt, 2);
    store.close().await;
}

/// Answers SQLite's `synchronous` while it is made: 2 where its commit waits for the disk, 1 where not.
struct Synchronous {
    waits: bool,
}

impl crate::store::writer::Write for Synchronous {
    type Answer = i64;

    fn run<'a>(
        &'a self,
        tx: &'a mut sqlx::SqliteConnection,
    ) -> futures_util::future::BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            // Read when it is prepared, so not from the cache.
            let query = sqlx::query("PRAGMA synchronous").persistent(false);
            Ok(sqlx::Row::try_get(&query.fetch_one(tx).await?, 0)?)
        })
    }

    fn waits_for_disk(&self) -> bool {
        self.waits
    }
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_when_one_of_its_commands_does() {
    let (_folder, store) = open().await;
    let writer = &store.inner.writer;
    for waits in [false, true, false, true] {
        let level = writer.write(Synchronous { waits }).await.unwrap();
        assert_eq!(level, if waits { 2 } else { 1 });
    }
    let mut lazy = writer.write_lazily(Synchronous { waits: true }).await.unwrap();
    assert_eq!(lazy.done().await, Ok(1), "nobody waits for a lazy command alone");
    let mut lazy = writer.write_lazily(Synchronous { waits: true }).await.unwrap();
    let beside = writer.write(Synchronous { waits: true }).await;
    assert_eq!((beside, lazy.done().await), (Ok(2), Ok(2)));
    store.close().await;
}

#[tokio::test]
async fn a_transaction_that_did_not_begin_leaves_no_commit_that_does_not_wait() {
    let (folder, store) = open().await;
    let writer = &store.inner.writer;
    assert_eq!(writer.write(Synchronous { waits: true }).await.unwrap(), 2);
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("braindrill.db"));
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    // The pragma has acted, the transaction behind it has not begun.
    writer.write(Synchronous { waits: false }).await.unwrap_err();
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(writer.write(Synchronous { waits: true }).await.unwrap(), 2);
    store.close().await;
}
