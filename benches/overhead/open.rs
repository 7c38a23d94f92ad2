//! Hellos that come at a steady rate, half of what one core could start interpreters at, so that one that
//! is used up can be replaced before the next is wanted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::{
    Wanted,
    client::Client,
    daemon::Daemon,
    programs::{Bare, OPEN, Program},
    row::{Bound, Of, Row, Turn},
    table::Table,
    throughput::next,
};

/// How often each side has its turn.
const TURNS: usize = 3;

/// How long submissions come in a turn: some hundred of the fast ones, ten of the slowest.
const LENGTH: Duration = Duration::from_secs(8);
const FEWEST: usize = 10;

/// Connections that are no more in use.
type Idle = Arc<Mutex<Vec<Client>>>;

/// Adds the rows of the part `open`.
pub(crate) async fn measure(wanted: &Wanted, table: &mut Table) -> Result<()> {
    let mut daemon = Daemon::start(&["--backend", "local"], &[]).await?;
    daemon.languages_checked().await.context("waiting for the self-tests")?;
    for program in &OPEN {
        if !wanted.row("open", program.key) {
            continue;
        }
        if !program.is_here() {
            table.note(&format!("{}: not measured, its tools are not installed", program.name));
            continue;
        }
        table.push(row(&daemon, program).await.with_context(|| program.name)?);
    }
    Ok(())
}

async fn row(daemon: &Daemon, program: &'static Program) -> Result<Row> {
    let bare = Bare::new(program, 1)?;
    let start_ms = bare.turn(1, program.turn)?.quantile_ms(0.5);
    let rate = 1_000.0 / start_ms / 2.0;
    let bound = match program.key {
        "python" => 1.0,
        "node" => 0.5,
        _ => 0.6,
    };
    let name = format!("{}, local, open loop, {rate:.1} a second", program.name);
    let mut row = Row::new(name, program.bare_name).aim(Of::P50Ratio, Bound::AtMost(bound));
    daemon.client().await?.run(program.submission(next()), program.stdout).await?;
    for _ in 0..TURNS {
        let base = bare.turn(1, program.turn)?;
        row.push(turn(daemon, program, rate).await?, base);
    }
    Ok(row)
}

/// Sends on time whether answers come or not; latency counts from when a submission was due.
async fn turn(daemon: &Daemon, program: &'static Program, rate: f64) -> Result<Turn> {
    let count = ((LENGTH.as_secs_f64() * rate) as usize).max(FEWEST);
    let idle = Idle::default();
    let mut sent = JoinSet::new();
    let begun = Instant::now();
    for index in 0..count {
        let due = begun + Duration::from_secs_f64(index as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let kept = lock(&idle).pop();
        let mut client = match kept {
            Some(client) => client,
            None => daemon.client().await?,
        };
        let idle = idle.clone();
        sent.spawn(async move {
            client.run(program.submission(next()), program.stdout).await?;
            let latency = due.elapsed();
            lock(&idle).push(client);
            anyhow::Ok(latency)
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(joined) = sent.join_next().await {
        latencies.push(joined.context("a client panicked")??);
    }
    Ok(Turn::new(latencies, count as f64 / begun.elapsed().as_secs_f64()))
}

fn lock(idle: &Idle) -> std::sync::MutexGuard<'_, Vec<Client>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
