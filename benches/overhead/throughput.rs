//! Programs through HTTP with a durable result, on this machine's slots and on a warm worker's, against
//! the bare programs in a loop on all cores.
//!
//! A turn of each follows on a turn of the other, three times; the machine's moods fall on all.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;

use crate::{
    Wanted,
    cluster::Cluster,
    daemon::Daemon,
    programs::{Bare, PROGRAMS, Program},
    row::{Bound, Of, Row, Turn},
    table::Table,
};

/// How often each side has its turn.
const TURNS: usize = 3;

/// With so many of a slow program in flight a turn takes as long as all of them, and there is one.
const MANY: usize = 64;
const SLOW: Duration = Duration::from_secs(5);

/// Runs before the first that counts, of each program.
const WARM_UP: usize = 4;

/// Tells submissions apart whose source is to be another each time.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Where programs run.
struct Place {
    name: &'static str,
    daemon: Daemon,
}

/// Adds the rows of the parts `local` and `pool`.
pub(crate) async fn measure(wanted: &Wanted, table: &mut Table) -> Result<()> {
    // What a pool adds shows beside this machine's own slots, so they are measured with it.
    let mut local = Daemon::start(&["--backend", "local"], &[]).await?;
    local.languages_checked().await.context("waiting for the self-tests")?;
    let mut places = vec![Place { name: "local", daemon: local }];
    let mut cluster = None;
    if wanted.part("pool") {
        let started = cluster.insert(Cluster::start().await.context("starting a worker")?);
        places.push(Place { name: started.name(), daemon: started.daemon().await? });
    }
    for program in &PROGRAMS {
        if !(wanted.row("local", program.key) || wanted.row("pool", program.key)) {
            continue;
        }
        if !program.is_here() {
            table.note(&format!("{}: not measured, its tools are not installed", program.name));
            continue;
        }
        for row in rows(program, &places).await.with_context(|| program.name)? {
            table.push(row);
        }
    }
    drop(places);
    Ok(())
}

/// The rows of a program: of each place and number in flight against the bare loop, and of the second
/// place against the first.
async fn rows(program: &'static Program, places: &[Place]) -> Result<Vec<Row>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let bare = Bare::new(program, cores)?;
    for place in places {
        let mut client = place.daemon.client().await?;
        for _ in 0..WARM_UP {
            client.run(program.submission(next()), program.stdout).await?;
        }
    }
    let mut rows = Vec::new();
    for place in places {
        for &level in program.levels {
            let name = format!("{}, {}, c={level}", program.name, place.name);
            rows.push(aimed(Row::new(name, bare_name(program, level)), program, place, level));
        }
    }
    if let [_, pool] = places {
        for &level in program.levels {
            let name = format!("{}, {}, c={level}", program.name, pool.name);
            let row = Row::new(name, "local");
            rows.push(match program.key {
                "bash" | "python" => row.aim(Of::RateRatio, Bound::AtLeast(0.8)),
                _ => row,
            });
        }
    }
    let levels = program.levels.len();
    for turn in 0..TURNS {
        let once = bare.turn(1, program.turn)?;
        let full = bare.turn(cores, program.turn)?;
        for (index, &level) in program.levels.iter().enumerate() {
            if level >= MANY && program.turn >= SLOW && turn > 0 {
                continue;
            }
            let base = if level == 1 { &once } else { &full };
            let mut ours = Vec::new();
            for place in places {
                ours.push(closed(&place.daemon, program, level, program.turn).await?);
            }
            for (place, turn) in ours.iter().enumerate() {
                rows[place * levels + index].push(turn.clone(), base.clone());
            }
            if let [local, pool] = &ours[..] {
                rows[2 * levels + index].push(pool.clone(), local.clone());
            }
        }
    }
    Ok(rows)
}

fn bare_name(program: &Program, level: usize) -> String {
    match level {
        1 => format!("{}, one by one", program.bare_name),
        _ => format!("{}, on all cores", program.bare_name),
    }
}

fn aimed(row: Row, program: &Program, place: &Place, level: usize) -> Row {
    match (place.name, program.key, level) {
        ("local", "bash", 16) => row.aim(Of::Rate, Bound::AtLeast(330.0)),
        ("local", "bash", 1) => row.aim(Of::P50, Bound::AtMost(6.0)),
        ("local", "python", 8) => row.aim(Of::RateRatio, Bound::AtLeast(0.75)),
        ("local", "node", 1) => row.aim(Of::P50Ratio, Bound::AtMost(1.1)),
        _ => row,
    }
}

/// So many clients, each of which submits, waits for the verdict, and submits again. What was begun is
/// ended.
pub(crate) async fn closed(
    daemon: &Daemon,
    program: &Program,
    in_flight: usize,
    length: Duration,
) -> Result<Turn> {
    let mut clients = daemon.clients(in_flight).await?;
    let begun = Instant::now();
    let work = clients.iter_mut().map(async |client| {
        let mut latencies = Vec::new();
        while begun.elapsed() < length {
            let start = Instant::now();
            client.run(program.submission(next()), program.stdout).await?;
            latencies.push(start.elapsed());
        }
        anyhow::Ok(latencies)
    });
    let latencies = try_join_all(work).await?.concat();
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Turn::new(latencies, rate))
}

pub(crate) fn next() -> usize {
    NEXT.fetch_add(1, Ordering::Relaxed)
}
