//! Output of both streams, in the order in which it was written.

use super::{Sql, at, claim, insert, open};
use crate::{
    protocol::{MAX_TURNS, Turns},
    sandbox::Stream::{self, Stderr, Stdout},
    store::{Claim, EventData, Kept, NewEvent, Requeue, Step, Store, written},
    submission::{RunReport, StreamSummary, Verdict},
};

fn event(seq: u64, data: EventData) -> NewEvent {
    NewEvent { seq, last_seq: seq, at: at(5), data }
}

fn output(seq: u64, run: u32, stream: Stream, text: &[u8], turns: &[u8]) -> NewEvent {
    let (data, turns) = (text.to_vec().into(), Turns::from_bytes(turns));
    event(seq, EventData::Output { run, stream, data, turns })
}

async fn append(store: &Store, claim: &Claim, events: Vec<NewEvent>) {
    assert_eq!(store.append(claim, events).await.unwrap().done().await, Ok(Step::Done));
}

/// Both streams of a run in an attempt, as they are read, in parts.
async fn parts(store: &Store, claim: &Claim, attempt: u32, run: u32) -> Vec<Vec<u8>> {
    let (kept, _) = store.output(claim.id, attempt, run, None).await.unwrap();
    match kept {
        Kept::Here(blob) => vec![blob.to_vec()],
        Kept::Stored(stored) => {
            let (mut parts, mut reader) = (Vec::new(), store.read_output(&stored, stored.bytes));
            while let Some(pieces) = reader.next().await.unwrap() {
                parts.push(pieces.concat());
            }
            parts
        }
    }
}

async fn both(store: &Store, claim: &Claim, attempt: u32, run: u32) -> String {
    String::from_utf8(parts(store, claim, attempt, run).await.concat()).unwrap()
}

#[tokio::test]
async fn both_streams_of_a_run_are_read_in_the_order_in_which_they_were_written() {
    let (_folder, store) = open().await;
    insert(&store).await;
    let first = claim(&store).await;
    assert_eq!(both(&store, &first, 1, 0).await, "");
    append(&store, &first, vec![event(0, EventData::Started), output(1, 0, Stderr, b"void", &[])])
        .await;
    let lost = Requeue::Lost { reason: "gone".to_owned(), not_before: None };
    assert_eq!(store.requeue(&first, lost, at(6)).await, Ok(Step::Done));

    let claim = claim(&store).await;
    append(&store, &claim, vec![event(0, EventData::Started), output(1, 0, Stderr, b"a", &[])])
        .await;
    assert_eq!(both(&store, &claim, 2, 0).await, "a");
    let events = vec![
        output(2, 0, Stdout, b"bd", &[1, 1, 1]),
        output(3, 0, Stderr, b"c", &[]),
        output(4, 0, Stdout, b"e", &[]),
        output(5, 0, Stderr, b"fhi", &[1, 1, 2, 1]),
        output(6, 0, Stdout, b"gj", &[]),
        // Of another run, and with no turns.
        output(7, 1, Stdout, b"one", &[]),
        output(8, 1, Stderr, b"two", &[]),
    ];
    append(&store, &claim, events).await;
    assert_eq!(both(&store, &claim, 2, 0).await, "abcdefghij");
    assert_eq!(both(&store, &claim, 2, 1).await, "onetwo");
    assert_eq!(both(&store, &claim, 1, 0).await, "void");
    let (kept, size) = store.output(claim.id, 2, 0, Some(Stdout)).await.unwrap();
    assert_eq!((kept.here().map(|blob| &blob[..]), size), (Some(&b"bdegj"[..]), None));
    store.close().await;
}

#[tokio::test]
async fn turns_that_are_none_or_have_no_other_piece_lose_no_byte() {
    let (_folder, store) = open().await;
    insert(&store).await;
    let claim = claim(&store).await;
    let events = vec![
        output(0, 0, Stdout, b"ab", &[1, 1, 1]),
        output(1, 0, Stdout, b"cd", &[1, 1, 1]),
        output(2, 0, Stderr, b"ef", &[]),
        output(3, 0, Stdout, b"gh", &[1, 0x83, 1, 1]),
        output(4, 0, Stderr, b"ij", &[]),
        output(5, 0, Stderr, b"kl", &[1, 1, 1]),
    ];
    append(&store, &claim, events).await;
    assert_eq!(both(&store, &claim, 1, 0).await, "abcdefgijhkl");
    let odd = "UPDATE events SET turns = x'ffffffffffffffff' WHERE n IN (1, 4)";
    store.inner.writer.write(Sql(odd)).await.unwrap();
    assert_eq!(both(&store, &claim, 1, 0).await, "abcedfghijkl");
    store.close().await;
}

#[tokio::test]
async fn large_output_of_both_streams_is_read_in_parts_of_a_bounded_size() {
    const LENGTH: usize = 60_000;
    let (_folder, store) = open().await;
    insert(&store).await;
    let claim = claim(&store).await;
    let (mut seq, mut wanted) = (0, Vec::new());
    let turns = vec![1; MAX_TURNS];
    for byte in 0..20u8 {
        let (out, err) = (vec![byte; LENGTH], vec![byte + 100; LENGTH]);
        let events =
            vec![output(seq, 0, Stdout, &out, &turns), output(seq + 1, 0, Stderr, &err, &[])];
        append(&store, &claim, events).await;
        wanted.extend(Turns::from_bytes(&turns).join(&out, &err));
        seq += 2;
    }
    let parts = parts(&store, &claim, 1, 0).await;
    assert!(parts.iter().all(|part| part.len() <= 192 << 10));
    assert!(parts.concat() == wanted);
    // What was there when it was asked for, and no more.
    let (kept, size) = store.output(claim.id, 1, 0, None).await.unwrap();
    let Kept::Stored(stored) = kept else { panic!("{kept:?}") };
    assert_eq!((stored.bytes, size), (wanted.len() as u64, None));
    append(&store, &claim, vec![output(seq, 0, Stdout, b"later", &[])]).await;
    let mut reader = store.read_output(&stored, 70_000);
    let mut read = Vec::new();
    while let Some(pieces) = reader.next().await.unwrap() {
        read.extend(pieces.concat());
    }
    assert!(read == wanted[..70_000]);
    store.close().await;
}

#[test]
fn what_both_streams_have_is_the_sum_and_cut_where_one_is() {
    let report = RunReport {
        test: None,
        verdict: Verdict::Accepted,
        reason: String::new(),
        exit_code: Some(0),
        signal: None,
        stdout: StreamSummary { bytes: 3, truncated: false },
        stderr: StreamSummary { bytes: 4, truncated: true },
        cpu_time_ms: 0,
        wall_time_ms: 0,
        memory_bytes: 0,
        points: 0.0,
    };
    let sum = StreamSummary { bytes: 7, truncated: true };
    assert_eq!(written(&report, None), sum);
    assert_eq!(written(&report, Some(Stdout)), report.stdout);
}
