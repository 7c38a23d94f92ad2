//! What others notice of a program that writes as awkwardly as it can: nothing.

use std::time::{Duration, Instant};

use braindrill::sandbox::Stream;

use super::support::{Engine, eventually, owner};

/// The longest that a submission may take to be accepted. Without anybody beside it takes a few
/// milliseconds, most of them the disk's.
const LONGEST: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn submissions_are_accepted_at_once_beside_a_program_that_writes_bytes_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let noisy = engine.submit("bytes in turn").await;
    eventually("output is there", async || {
        let output = engine.handle.output(&owner(), noisy, 0, Some(Stream::Stdout)).await.unwrap();
        output.bytes > 1000
    })
    .await;
    let until = Instant::now() + Duration::from_secs(5);
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let begin = Instant::now();
        let id = engine.submit("succeed").await;
        slowest = slowest.max(begin.elapsed());
        engine.finished(id).await;
    }
    assert!(slowest < LONGEST, "the slowest took {slowest:?}");
    engine.handle.cancel(&owner(), noisy).await.unwrap();
    engine.stop().await;
}
