//! The tables refuse what the states do not allow, whoever asks.

use super::{Sql, at, claim, count, insert, open};
use crate::{
    protocol::Turns,
    sandbox::Stream,
    store::{EventData, Finish, NewEvent, Requeue, Step, StoreError},
    submission::{Outcome, Placement},
};

#[tokio::test]
async fn rows_that_break_the_law_of_the_states_are_refused() {
    let (_folder, store) = open().await;
    insert(&store).await;
    for unlawful in [
        "UPDATE submissions SET state = 'unheard of'",
        "UPDATE submissions SET state = 'dispatching'",
        "UPDATE submissions SET state = 'running', lease = 1, attempt = 1",
        "UPDATE submissions SET state = 'finished'",
        "UPDATE submissions SET state = 'finished', finished_ms = 1, verdict = 'accepted'",
        "UPDATE submissions SET lease = 1",
        "UPDATE submissions SET placement = '{}'",
        "UPDATE submissions SET priority = 101",
        "UPDATE submissions SET deleted_ms = 1",
        "UPDATE submissions SET attempt = 'one'",
        "INSERT INTO events (submission, n, attempt, at_ms, kind) VALUES (1, 0, 1, 1, 'started')",
        "INSERT INTO events (submission, n, attempt, at_ms, kind) VALUES (1, 1, 1, 1, 'stdout')",
        "INSERT INTO events (submission, n, attempt, at_ms, kind) VALUES (9, 1, 1, 1, 'started')",
        "INSERT INTO placements (submission, attempt) VALUES (9, 1)",
        "INSERT INTO placements (submission, attempt) VALUES (1, 0)",
        "UPDATE instance SET id = 'ABCDEFGH'",
    ] {
        let answer = store.inner.writer.write(Sql(unlawful)).await;
        assert!(matches!(answer, Err(StoreError::Database(_))), "{unlawful}: {answer:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_finished_submission_stays_finished() {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    store.cancel(&submission.owner, submission.id, at(2)).await.unwrap();
    for step in [
        "UPDATE submissions SET state = 'queued', finished_ms = NULL, verdict = NULL, outcome = NULL",
        "UPDATE submissions SET state = 'finished'",
    ] {
        let answer = store.inner.writer.write(Sql(step)).await;
        assert!(matches!(answer, Err(StoreError::Database(_))), "{step}: {answer:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_submission_with_a_placement_cannot_be_removed() {
    let (_folder, store) = open().await;
    insert(&store).await;
    let claim = claim(&store).await;
    let remove = || store.inner.writer.write(Sql("DELETE FROM submissions"));
    assert!(matches!(remove().await, Err(StoreError::Database(_))));
    store.forget(&claim).await.unwrap().done().await.unwrap();
    assert_eq!(remove().await, Ok(1));
    store.close().await;
}

fn output(seq: u64, text: &'static str) -> NewEvent {
    let (stream, turns) = (Stream::Stdout, Turns::default());
    let data = EventData::Output { run: 0, stream, data: text.into(), turns };
    NewEvent { seq, last_seq: seq, at: at(5), data }
}

#[tokio::test]
async fn events_are_numbered_from_one_without_reset_and_repeats_take_no_number() {
    let (_folder, store) = open().await;
    insert(&store).await;
    let first = claim(&store).await;
    let started = NewEvent { seq: 0, last_seq: 0, at: at(4), data: EventData::Started };
    let append = async |claim: &_, events: Vec<NewEvent>| {
        store.append(claim, events).await.unwrap().done().await.unwrap()
    };
    assert_eq!(append(&first, vec![started.clone(), output(1, "a")]).await, Step::Done);
    assert_eq!(append(&first, vec![output(1, "a"), output(2, "b")]).await, Step::Done);
    // Nothing is stored ahead of what could not be.
    let early = store.append(&first, vec![output(4, "d")]).await.unwrap().done().await;
    assert_eq!(early, Err(StoreError::Gap));
    let lost = Requeue::Lost { reason: "gone".to_owned(), not_before: None };
    assert_eq!(store.requeue(&first, lost, at(6)).await, Ok(Step::Done));
    assert_eq!(append(&first, vec![output(3, "late")]).await, Step::Conflict);
    let second = claim(&store).await;
    assert_eq!(second.losses, ["gone"]);
    store.place(&second, &Placement::Local, at(7)).await.unwrap();
    let events = vec![started, output(1, "c")];
    let finish = Finish { outcome: Outcome::Cancelled, events, loss: None, at: at(8) };
    assert_eq!(store.finish(&second, finish).await, Ok(Step::Done));
    let rows: Vec<(i64, i64, Option<i64>, String)> =
        sqlx::query_as("SELECT n, attempt, seq, kind FROM events ORDER BY n")
            .fetch_all(&store.inner.readers)
            .await
            .unwrap();
    let rows: Vec<_> = rows.iter().map(|(n, at, seq, kind)| (*n, *at, *seq, &kind[..])).collect();
    let expected = [
        (1, 1, Some(0), "started"),
        (2, 1, Some(1), "stdout"),
        (3, 1, Some(2), "stdout"),
        (4, 1, None, "state"),
        (5, 2, None, "state"),
        (6, 2, Some(0), "started"),
        (7, 2, Some(1), "stdout"),
        (8, 2, None, "finished"),
    ];
    assert_eq!(rows, expected);
    let (kept, size) = store.output(second.id, 2, 0, Some(Stream::Stdout)).await.unwrap();
    assert_eq!((kept.here().map(|kept| &kept[..]), size), (Some(&b"c"[..]), None));
    store.close().await;
}

#[tokio::test]
async fn removing_a_submission_removes_all_of_it() {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    let claim = claim(&store).await;
    store.append(&claim, vec![output(0, "a")]).await.unwrap();
    let lost = Requeue::Lost { reason: "gone".to_owned(), not_before: None };
    assert_eq!(store.requeue(&claim, lost, at(6)).await, Ok(Step::Done));
    store.delete(&submission.owner, submission.id, at(7)).await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM events").await, 3);
    store.forget(&claim).await.unwrap().done().await.unwrap();
    for left in [
        "SELECT count(*) FROM submissions",
        "SELECT count(*) FROM requests",
        "SELECT count(*) FROM events",
        "SELECT count(*) FROM placements",
        "SELECT count(*) FROM attempt_losses",
        "SELECT sum(n) FROM counts",
    ] {
        assert_eq!(count(&store, left).await, 0, "{left}");
    }
    store.close().await;
}

#[tokio::test]
async fn files_are_kept_beside_events_and_go_with_their_submission() {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    let piece = |seq: u64, file: u32, text: &'static str| {
        let data = EventData::File { file, data: text.into() };
        NewEvent { seq, last_seq: seq, at: at(5), data }
    };
    let first = claim(&store).await;
    let append = async |claim: &_, events: Vec<NewEvent>| {
        store.append(claim, events).await.unwrap().done().await
    };
    assert_eq!(append(&first, vec![output(0, "a"), piece(1, 0, "early")]).await, Ok(Step::Done));
    // What follows a piece follows no gap, and a piece behind a gap is not stored.
    assert_eq!(append(&first, vec![output(2, "b")]).await, Ok(Step::Done));
    assert_eq!(append(&first, vec![piece(4, 0, "x")]).await, Err(StoreError::Gap));
    let lost = Requeue::Lost { reason: "gone".to_owned(), not_before: None };
    assert_eq!(store.requeue(&first, lost, at(6)).await, Ok(Step::Done));

    let second = claim(&store).await;
    let pieces = || vec![piece(0, 1, "one "), piece(1, 0, "zero"), piece(2, 1, "more")];
    assert_eq!(append(&second, pieces()).await, Ok(Step::Done));
    store.place(&second, &Placement::Local, at(7)).await.unwrap();
    let events = [pieces(), vec![output(3, "c"), piece(4, 1, " at the end")]].concat();
    let finish = Finish { outcome: Outcome::Cancelled, events, loss: None, at: at(8) };
    assert_eq!(store.finish(&second, finish).await, Ok(Step::Done));
    let read = async |file: u32, bytes: u64| {
        let mut reader = store.read_file(submission.id, file, bytes).await?;
        let mut whole = Vec::new();
        while let Some(pieces) = reader.next().await? {
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        }
        Ok(String::from_utf8(whole).unwrap())
    };
    assert_eq!(read(0, 4).await, Ok("zero".to_owned()));
    assert_eq!(read(1, 19).await, Ok("one more at the end".to_owned()));
    assert_eq!(read(2, 0).await, Ok(String::new()));
    for (file, bytes) in [(1, 20), (1, 5), (2, 1)] {
        assert!(
            matches!(read(file, bytes).await, Err(StoreError::Unreadable(_))),
            "{file} {bytes}"
        );
    }
    store.delete(&submission.owner, submission.id, at(9)).await.unwrap();
    store.forget(&first).await.unwrap().done().await.unwrap();
    store.forget(&second).await.unwrap().done().await.unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM files").await, 0);
    store.close().await;
}
