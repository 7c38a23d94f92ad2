//! Submissions that are followed: how soon output and what is typed are there, and many who follow a flood.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use braindrill::submission::{Clock as _, SystemClock};
use futures_util::future::{try_join, try_join_all};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    cluster::Cluster,
    daemon::{self, Daemon},
    row::{Bound, Figure, quantile_ms},
    table::Table,
    typed,
};

/// Runs of which the first output is timed.
const RUNS: usize = 50;

/// Those who follow one submission, and submissions that are followed at once.
const READERS: usize = 500;
const STREAMS: usize = 100;

/// What the one program writes, as fast as it can, and what each of the others does.
const FLOOD_BYTES: usize = 8 << 20;
const STREAM_BYTES: usize = 1 << 20;

/// What they write again and again: one `l`, so that lines can be counted.
const LINE: &str = "a line of a program that says much";

/// What the daemon may take for all of them, in MiB.
const MOST_MEMORY_MIB: f64 = 128.0;

/// Adds the figures of the part `live`.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let off = daemon::switches_off(&["--prepared-bytes"])?;
    let daemon = Daemon::start(&[&["--backend", "local"], &off[..]].concat(), &[]).await?;
    first_output(&daemon, "local", table).await.context("timing first output")?;
    typed::echo(&daemon, "local", table).await.context("timing keys")?;
    let idle = daemon.memory_mib()?;
    let flood = vec![submit(&daemon, FLOOD_BYTES).await?; READERS];
    let name = "one flood of 8 MiB, 500 who follow";
    followed(&daemon, name, &[(&flood, FLOOD_BYTES)], idle, table).await?;
    let streams = || try_join_all((0..STREAMS).map(|_| submit(&daemon, STREAM_BYTES)));
    let name = "100 floods of 1 MiB, each followed";
    followed(&daemon, name, &[(&streams().await?, STREAM_BYTES)], idle, table).await?;
    let (flood, streams) = (vec![submit(&daemon, FLOOD_BYTES).await?; READERS], streams().await?);
    followed(
        &daemon,
        "both at once",
        &[(&flood, FLOOD_BYTES), (&streams, STREAM_BYTES)],
        idle,
        table,
    )
    .await?;
    drop(daemon);

    let cluster = Cluster::start().await.context("starting a warm worker")?;
    let daemon = cluster.daemon().await?;
    first_output(&daemon, cluster.name(), table).await.context("timing first output by pool")?;
    typed::echo(&daemon, cluster.name(), table).await.context("timing keys by pool")
}

/// A program says when it wrote; whoever follows it compares that with the time when it was told.
async fn first_output(daemon: &Daemon, place: &str, table: &mut Table) -> Result<()> {
    let mut delays = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        // Followed before it writes, as a page does.
        let source = "sleep 0.2; echo $EPOCHREALTIME; sleep 0.2";
        let id = daemon.accept(&json!({ "language": "bash", "source": source })).await?;
        let mut response = daemon.follow(&id).await?;
        let mut seen = String::new();
        let arrived = loop {
            let chunk = response.chunk().await?.context("it ended without output")?;
            seen.push_str(&String::from_utf8_lossy(&chunk));
            if seen.contains("event: stdout") && seen.ends_with("\n\n") {
                break SystemClock.now();
            }
        };
        let (_, rest) = seen.split_once("event: stdout").context("output")?;
        let line = rest.lines().find_map(|line| line.strip_prefix("data: ")).context("data")?;
        let event: Value = serde_json::from_str(line)?;
        let written: f64 = event["data"].as_str().context("a text")?.trim().parse()?;
        let arrived = arrived.as_millis() as f64 / 1_000.0;
        delays.push(Duration::from_secs_f64((arrived - written).max(0.0)));
    }
    push_delays(table, &format!("from a program's write to whoever follows it, {place}"), delays);
    Ok(())
}

/// Adds how long things that a person waits for took.
pub(crate) fn push_delays(table: &mut Table, name: &str, mut delays: Vec<Duration>) {
    delays.sort_unstable();
    for (share, quantile) in [("half", 0.5), ("99 of 100", 0.99)] {
        table.push_figure(Figure {
            name: format!("{name}, {share} within"),
            unit: "ms",
            value: quantile_ms(&delays, quantile),
            aim: Some(Bound::AtMost(100.0)),
        });
    }
}

/// All of a group who follow are told the same, and all of it; how long that takes, and what it takes of memory.
async fn followed(
    daemon: &Daemon,
    name: &str,
    groups: &[(&[String], usize)],
    idle: f64,
    table: &mut Table,
) -> Result<()> {
    let (begun, done) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let read = async {
        let ids = groups.iter().flat_map(|(ids, _)| *ids);
        let lengths = try_join_all(ids.map(|id| read_all(daemon, id))).await;
        done.store(true, Ordering::Relaxed);
        lengths
    };
    let watch = async {
        let mut most = 0.0_f64;
        while !done.load(Ordering::Relaxed) {
            most = most.max(daemon.memory_mib()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(most)
    };
    let (outputs, most) = try_join(read, watch).await?;
    let elapsed = begun.elapsed();
    let mut outputs = &outputs[..];
    for (group, bytes) in groups {
        let (own, others) = outputs.split_at(group.len());
        ensure!(own.iter().all(|lines| *lines == own[0]), "some were told less: {own:?}");
        let written = bytes / (LINE.len() + 1);
        ensure!(own[0] >= written, "all were told less than {written} lines: {own:?}");
        outputs = others;
    }
    let figure =
        |what: &str, unit, value, aim| Figure { name: format!("{name}: {what}"), unit, value, aim };
    table.push_figure(figure("until all have all", "s", elapsed.as_secs_f64(), None));
    let more = most - idle;
    let bound = Some(Bound::AtMost(MOST_MEMORY_MIB));
    table.push_figure(figure("memory of the daemon more than idle", "MiB", more, bound));
    Ok(())
}

/// Has a program accepted that writes so many bytes.
async fn submit(daemon: &Daemon, bytes: usize) -> Result<String> {
    let source = format!("yes '{LINE}' | head -c {bytes}");
    let limits = json!({ "output_bytes": FLOOD_BYTES, "wall_time_ms": 120_000 });
    daemon.accept(&json!({ "language": "bash", "source": source, "limits": limits })).await
}

/// Follows to the end; how many lines there were: each has one `l`, and so have some events at the end, but
/// none that carries output, however that is cut.
async fn read_all(daemon: &Daemon, id: &str) -> Result<usize> {
    let (mut response, mut lines) = (daemon.follow(id).await?, 0);
    while let Some(chunk) = response.chunk().await? {
        lines += chunk.iter().filter(|byte| **byte == b'l').count();
    }
    Ok(lines)
}
