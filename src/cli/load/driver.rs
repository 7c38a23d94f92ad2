//! Runs a load test: so many connections take turns from one schedule, one collector adds up.
//!
//! ```text
//!  Schedule --take--> connection 1..N --sample--> collector --> Tally
//!                          |                          |
//!                     HTTP to the daemon          progress bar
//! ```

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    client::{Client, Sent},
    program::Sources,
    schedule::{Schedule, Turn},
    tally::Tally,
};

/// Samples that may wait for the collector, which does nothing but add up; a full channel would make
/// connections wait after their latency was taken, so it distorts nothing but the pace.
const SAMPLE_CHANNEL: usize = 1_024;

/// How often the progress bar is drawn.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);

/// What came of a load test.
#[derive(Debug)]
pub(super) struct Measured {
    /// Counts and latencies.
    pub(super) tally: Tally,
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Submissions under way when it was interrupted.
    pub(super) interrupted: u64,
    /// Submissions that were due and never sent.
    pub(super) unsent: u64,
}

/// Runs until the schedule ends and every answer is there, or until `interrupt` completes; then
/// what is under way is given up. `progress` is called now and then.
///
/// Dropping the future ends all connections.
pub(super) async fn drive(
    client: Client,
    sources: Sources,
    schedule: Schedule,
    connections: usize,
    interrupt: impl Future<Output = ()>,
    mut progress: impl FnMut(Duration, &Tally),
) -> Measured {
    let start = Instant::now();
    let shared = Arc::new((client, sources, schedule));
    let (samples, mut received) = mpsc::channel(SAMPLE_CHANNEL);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(shared.clone(), start, samples.clone()));
    }
    drop(samples);

    let mut tally = Tally::new();
    let mut under_way: u64 = 0;
    let mut ticks = tokio::time::interval(PROGRESS_PERIOD);
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            sample = received.recv() => match sample {
                Some(Sample::Sent) => under_way += 1,
                Some(Sample::Answered(sent, latency)) => {
                    under_way -= 1;
                    tally.record(sent, latency);
                }
                None => break,
            },
            _ = ticks.tick() => progress(start.elapsed(), &tally),
            () = &mut interrupt => {
                tasks.abort_all();
                break;
            }
        }
    }
    let elapsed = start.elapsed();
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    // What was answered while the interrupt came is measured too.
    while let Ok(sample) = received.try_recv() {
        match sample {
            Sample::Sent => under_way += 1,
            Sample::Answered(sent, latency) => {
                under_way -= 1;
                tally.record(sent, latency);
            }
        }
    }
    progress(elapsed, &tally);
    Measured { tally, elapsed, interrupted: under_way, unsent: shared.2.unsent(elapsed) }
}

enum Sample {
    Sent,
    Answered(Sent, Duration),
}

/// One connection: takes a turn, waits until it is due, submits, again.
async fn connection(
    shared: Arc<(Client, Sources, Schedule)>,
    start: Instant,
    samples: mpsc::Sender<Sample>,
) {
    let (client, sources, schedule) = &*shared;
    while let Some(Turn { index, due }) = schedule.take(start.elapsed()) {
        let source = sources.source(index);
        tokio::time::sleep_until((start + due).into()).await;
        if samples.send(Sample::Sent).await.is_err() {
            return;
        }
        let sent = client.submit(&source).await;
        let latency = start.elapsed().saturating_sub(due);
        if samples.send(Sample::Answered(sent, latency)).await.is_err() {
            return;
        }
    }
}
