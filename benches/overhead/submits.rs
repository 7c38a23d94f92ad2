//! Submissions that are on disk before they are answered, against the two things that this is made of:
//! the same rows in the same groups written by a loop, and the same handler without a store.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;

use crate::{
    client::Client,
    daemon::Daemon,
    handler, raw_store,
    row::{Bound, Of, Row, Turn},
    table::Table,
};

/// How often each side has its turn.
const TURNS: usize = 3;

/// Submissions of a turn.
const COUNT: usize = 10_000;

/// Connections that they come from.
const CONNECTIONS: usize = 64;

/// Submissions in a request of the batch row.
const BATCH: usize = 100;

/// One slot, taken by [`HOLD`], so that nothing else is dispatched; and room for all that comes. Self-tests
/// would want the slot too.
pub(crate) const PAUSED: [&str; 8] =
    ["--backend", "local", "--slots", "1", "--queue-limit", "10000000", "--self-test", "false"];

/// A program that sleeps for as long as one may, and takes the only slot meanwhile.
const HOLD: &str = r#"{"language":"bash","source":"sleep 115","limits":{"wall_time_ms":120000}}"#;

/// What is submitted.
pub(crate) const HELLO: &str = r#"{"language":"python","source":"print('hello')"}"#;

/// Adds the rows of the part `submits`.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let daemon = paused(&[]).await?;
    let without = Without::start()?;
    let groups = format!("the same rows by a loop, {CONNECTIONS} a commit");
    let mut against_rows = Row::new(format!("durable submits, c={CONNECTIONS}"), groups)
        .aim(Of::Rate, Bound::AtLeast(7_000.0))
        .aim(Of::RateRatio, Bound::AtLeast(0.5));
    let mut against_handler =
        Row::new(format!("durable submits, c={CONNECTIONS}"), "the same handler without a store");
    let mut batches = Row::new(format!("durable submits, {BATCH} a request, c=4"), "one a request");
    // The first is a warm-up: files that grow, statements that are prepared.
    for turn in 0..=TURNS {
        let ours = submit(daemon.clients(CONNECTIONS).await?, COUNT).await?;
        let handler = submit(without.clients(CONNECTIONS).await?, COUNT).await?;
        let rows = raw_store::turn(COUNT, CONNECTIONS).await?;
        let batch = submit_batches(daemon.clients(4).await?).await?;
        if turn > 0 {
            against_rows.push(ours.clone(), rows);
            against_handler.push(ours.clone(), handler);
            batches.push(batch, ours);
        }
    }
    for row in [against_rows, against_handler, batches] {
        table.push(row);
    }
    Ok(())
}

/// A daemon whose only slot is taken.
pub(crate) async fn paused(more: &[&str]) -> Result<Daemon> {
    let daemon = Daemon::start(&[&PAUSED, more].concat(), &[]).await?;
    hold(&daemon).await?;
    Ok(daemon)
}

/// Takes the only slot of a daemon, for 115 s.
pub(crate) async fn hold(daemon: &Daemon) -> Result<()> {
    daemon.client().await?.submit(HOLD.to_owned()).await?;
    while daemon.count("running").await? == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Sends so many in all.
pub(crate) async fn submit(mut clients: Vec<Client>, count: usize) -> Result<Turn> {
    let share = count / clients.len();
    let sent = share * clients.len();
    let begun = Instant::now();
    let work = clients.iter_mut().map(async |client| {
        let mut latencies = Vec::with_capacity(share);
        for _ in 0..share {
            let start = Instant::now();
            client.submit(HELLO.to_owned()).await?;
            latencies.push(start.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let latencies = try_join_all(work).await?.concat();
    Ok(Turn::new(latencies, sent as f64 / begun.elapsed().as_secs_f64()))
}

async fn submit_batches(mut clients: Vec<Client>) -> Result<Turn> {
    let body = format!(r#"{{"items":[{}]}}"#, vec![HELLO; BATCH].join(","));
    let share = COUNT / BATCH / clients.len();
    let sent = share * clients.len() * BATCH;
    let begun = Instant::now();
    let work = clients.iter_mut().map(async |client| {
        for _ in 0..share {
            let (status, answer) = client.post("/v1/submissions/batch", body.clone()).await?;
            let answer = String::from_utf8_lossy(&answer);
            // A batch answers 200 with a problem in place of what it did not take.
            let taken = status == 200 && !answer.contains("urn:braindrill:problem:");
            anyhow::ensure!(taken, "{status}: {answer}");
        }
        anyhow::Ok(())
    });
    try_join_all(work).await?;
    Ok(Turn::of_rate(sent, begun.elapsed()))
}

/// The handler without a store, in a process of its own as the daemon is.
struct Without {
    process: Child,
    address: SocketAddr,
}

impl Without {
    fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(handler::WORD)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = process.stdout.take().context("its standard output is a pipe")?;
        let read = BufReader::new(stdout).read_line(&mut line);
        let address = read.map_err(anyhow::Error::from).and_then(|_| Ok(line.trim().parse()?));
        // Made before the question whether it could be read, so that the process ends in any case.
        let fallback = SocketAddr::from(([127, 0, 0, 1], 0));
        let without = Without { process, address: *address.as_ref().unwrap_or(&fallback) };
        address.context("starting the handler without a store")?;
        Ok(without)
    }

    async fn clients(&self, count: usize) -> Result<Vec<Client>> {
        try_join_all((0..count).map(|_| Client::connect(self.address))).await
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
