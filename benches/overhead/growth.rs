//! What grows with the work: memory, the time to start, and what others wait while one owner has much
//! in the queue.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use braindrill::{
    store::{Inserted, Store, StoreOptions},
    submission::{Clock as _, Limits, NewSubmission, Owner, SubmissionRequest, SystemClock},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    Wanted,
    daemon::{self, Daemon},
    programs::PROGRAMS,
    row::{Bound, Figure, Of, Row, Turn},
    submits::{self, submit},
    table::Table,
    throughput::closed,
};

/// Submissions of an owner who has much to do.
const MANY: usize = 100_000;

/// Enough to keep the slots busy for a turn, and no more.
const FEW: usize = 2_000;

/// How often each side has its turn.
const TURNS: usize = 3;

/// How long a turn of submissions from POST to verdict takes.
const TURN: Duration = Duration::from_secs(2);

/// POSTs of a turn that measures them alone.
const POSTS: usize = 300;

/// How long 100,000 runs may take.
const DRAIN: Duration = Duration::from_secs(1_200);

/// A queue that is deep from the first moment.
const DEEP: [&str; 4] = ["--backend", "local", "--queue-limit", "10000000"];

/// Adds the rows of the parts `memory` and `growth`.
pub(crate) async fn measure(wanted: &Wanted, table: &mut Table) -> Result<()> {
    let off = daemon::switches_off(&["--prepared-bytes"])?;
    if wanted.part("memory") {
        memory_of_a_queue(&off, table).await.context("measuring the memory of a queue")?;
    }
    let data = Arc::new(tempfile::tempdir()?);
    fill(&data, MANY).await.context("filling a queue")?;
    if wanted.part("growth") {
        start_up(&data, table).await.context("measuring the start")?;
        beside_another(&data, table).await.context("measuring beside a deep queue")?;
    }
    if wanted.part("memory") {
        memory_of_runs(data, &off, table).await.context("measuring the memory of runs")?;
    }
    Ok(())
}

/// Idle, and with many queued; POSTs on an empty and on a deep queue.
async fn memory_of_a_queue(off: &[&str], table: &mut Table) -> Result<()> {
    let daemon = submits::paused(off).await?;
    let idle = daemon.memory_mib()?;
    let mut push = |name: &str, value, bound| {
        let aim = Some(Bound::AtMost(bound));
        table.push_figure(Figure { name: name.to_owned(), unit: "MiB", value, aim });
    };
    push("memory of the daemon, idle", idle, 32.0);
    let mut empty = Vec::new();
    for _ in 0..TURNS {
        empty.push(submit(daemon.clients(1).await?, POSTS).await?);
    }
    let more = MANY - TURNS * POSTS;
    submit(daemon.clients(64).await?, more).await?;
    let queued = daemon.count("queued").await?;
    ensure!(queued as usize > MANY * 9 / 10, "only {queued} are queued");
    push("more with 100,000 queued", daemon.memory_mib()? - idle, 30.0);
    let mut row = Row::new("POST with 100,000 queued, c=1", "an empty queue")
        .aim(Of::P50Ratio, Bound::AtMost(1.5));
    for empty in empty {
        row.push(submit(daemon.clients(1).await?, POSTS).await?, empty);
    }
    table.push(row);
    Ok(())
}

async fn start_up(data: &Arc<TempDir>, table: &mut Table) -> Result<()> {
    let mut row = Row::new("start with 100,000 unfinished", "with none");
    for _ in 0..TURNS {
        let time = async |data| {
            let daemon = Daemon::start_on(data, &DEEP, &[]).await?;
            anyhow::Ok(Turn::new(vec![daemon.start_time()], f64::NAN))
        };
        let with_none = time(Arc::new(tempfile::tempdir()?)).await?;
        row.push(time(data.clone()).await?, with_none);
    }
    table.push(row);
    Ok(())
}

/// A run of ours while another owner's submissions take all slots: against an idle daemon, and against
/// one whose other owner has little in the queue, so that what the machine does is alike.
async fn beside_another(data: &Arc<TempDir>, table: &mut Table) -> Result<()> {
    let bash = &PROGRAMS[0];
    let untested = [&DEEP[..], &["--self-test", "false"]].concat();
    let name = "bash true beside another owner's 100,000, c=1";
    let aim = (Of::P50Ratio, Bound::AtMost(1.5));
    let mut against_idle = Row::new(name, "an empty queue").aim(aim.0, aim.1);
    let mut against_few = Row::new(name, "beside another owner's 2,000").aim(aim.0, aim.1);
    for _ in 0..TURNS {
        let idle = Daemon::start(&untested, &[]).await?;
        let on_idle = closed(&idle, bash, 1, TURN).await?;
        drop(idle);
        let few = Arc::new(tempfile::tempdir()?);
        fill(&few, FEW).await?;
        let mut measured = Vec::new();
        for data in [few, data.clone()] {
            let daemon = Daemon::start_on(data, &untested, &[]).await?;
            measured.push(closed(&daemon, bash, 1, TURN).await?);
            ensure!(daemon.count("queued").await? > 0, "the other owner's are all done");
        }
        let on_deep = measured.pop().expect("two were pushed");
        let on_few = measured.pop().expect("two were pushed");
        against_idle.push(on_deep.clone(), on_idle);
        against_few.push(on_deep, on_few);
    }
    table.push(against_idle);
    table.push(against_few);
    Ok(())
}

/// Has them all run, and looks at the memory on the way.
async fn memory_of_runs(data: Arc<TempDir>, off: &[&str], table: &mut Table) -> Result<()> {
    let daemon = Daemon::start_on(data, &[&DEEP[..], off].concat(), &[]).await?;
    let (begun, mut after_some) = (Instant::now(), None);
    let whole = loop {
        let left = daemon.count("queued").await?;
        if after_some.is_none() && left < (MANY * 8 / 10) as u64 {
            after_some = Some(daemon.memory_mib()?);
        }
        if left == 0 {
            break daemon.memory_mib()?;
        }
        ensure!(begun.elapsed() < DRAIN, "{left} are left after {DRAIN:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let mut push = |name: &str, value, aim| {
        table.push_figure(Figure { name: name.to_owned(), unit: "MiB", value, aim });
    };
    push("memory of the daemon after 100,000 runs", whole, None);
    let grown = whole - after_some.unwrap_or(whole);
    push("of that more than after 20,000", grown, Some(Bound::AtMost(1.0)));
    Ok(())
}

/// Puts submissions of another owner into a folder that no daemon uses.
async fn fill(data: &TempDir, count: usize) -> Result<()> {
    let store = Store::open(data.path(), StoreOptions { queue_limit: u64::MAX }).await?;
    let request: SubmissionRequest = serde_json::from_value(json!({
        "language": "bash", "source": "true", "entrypoint": "main.sh", "limits": Limits::DEFAULT,
        "priority": 50,
    }))?;
    let insert = async |_| {
        let owner = Owner("another".to_owned());
        let new = NewSubmission { owner, request: request.clone(), idempotency_key: None };
        let inserted = store.insert(new, SystemClock.now()).await?;
        ensure!(matches!(inserted, Inserted::New(_)), "not inserted: {inserted:?}");
        Ok(())
    };
    stream::iter(0..count).map(insert).buffer_unordered(256).try_collect::<()>().await?;
    store.close().await;
    Ok(())
}
