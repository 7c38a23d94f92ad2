//! `make bench`: what braindrill adds to a bare process, measured in one run on one machine.
//!
//! Not a test: nothing fails for being slow. Each pair is measured in turns, so that whatever else
//! the machine does falls on both; what counts is the difference and the ratio, not the
//! milliseconds. `docs/benchmarks.md` has results.
//!
//! `cargo bench --bench overhead -- nomad` measures one part alone; the parts are [`PARTS`].

mod agent;
mod bare;
mod daemon;
mod nomad;
mod process;
mod table;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::{
    daemon::Daemon,
    process::Jail,
    table::{Row, Samples, Table},
};

/// What there is to measure, in this order.
const PARTS: [&str; 4] = ["sandbox", "http", "submits", "nomad"];

/// Pairs of /bin/true, of which each takes milliseconds.
const TRUE_ROUNDS: usize = 300;

/// Pairs of a Python hello, tens of milliseconds each.
const PYTHON_ROUNDS: usize = 200;

/// Rounds before the first that counts: page cache, prepared jails, kept connections.
const WARM_UP: usize = 20;

/// Submissions of the durability measurement: below the queue's limit of 10,000.
const SUBMITS: usize = 4_000;

/// Connections that they come from.
const SUBMIT_CONNECTIONS: usize = 64;

fn main() -> Result<()> {
    // Ours to install, as it is main's in the daemon.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    // Cargo adds `--bench`.
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for name in &named {
        ensure!(PARTS.contains(&name.as_str()), "there is no {name}, but: {}", PARTS.join(", "));
    }
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);

    println!("{}", table::machine());
    let mut table = Table::default();
    if wanted("sandbox") {
        sandboxed_true(&mut table).await.context("measuring /bin/true")?;
    }
    if wanted("http") || wanted("submits") {
        let mut daemon = Daemon::start(&["--backend", "local"], &[]).await?;
        daemon.languages_checked().await.context("waiting for the self-tests")?;
        if wanted("http") {
            python_hello(&daemon, &mut table).await.context("measuring a Python hello")?;
        }
        if wanted("submits") {
            durable_submits(&daemon, &mut table).await.context("measuring submits")?;
        }
    }
    if wanted("nomad") {
        nomad::measure(&mut table).await.context("measuring the nomad backend")?;
    }
    println!("{table}");
    Ok(())
}

/// A jailed /bin/true, and bubblewrap's where that is installed, against a bare one.
async fn sandboxed_true(table: &mut Table) -> Result<()> {
    let jail = Jail::start().await?;
    let bubblewrap = process::bubblewrap();
    let (mut bare, mut jailed, mut wrapped) = <(Samples, Samples, Samples)>::default();
    for round in 0..WARM_UP + TRUE_ROUNDS {
        let counts = round >= WARM_UP;
        bare.push_if(counts, process::time(process::TRUE)?);
        jailed.push_if(counts, jail.time(process::TRUE).await?);
        if let Some(command) = &bubblewrap {
            wrapped.push_if(counts, process::time(command)?);
        }
    }
    let aim = Duration::from_millis(3);
    table.push(Row::against("/bin/true in the sandbox", &jailed, "bare", &bare).aim(aim));
    match bubblewrap {
        Some(_) => table.push(Row::against("/bin/true in bubblewrap", &wrapped, "bare", &bare)),
        None => table.note("bubblewrap is not installed; it was not measured (Debian: bubblewrap)"),
    }
    Ok(())
}

/// A Python hello from POST to verdict, one client, against a bare interpreter.
async fn python_hello(daemon: &Daemon, table: &mut Table) -> Result<()> {
    let (mut bare, mut through_http) = <(Samples, Samples)>::default();
    for round in 0..WARM_UP + PYTHON_ROUNDS {
        let counts = round >= WARM_UP;
        bare.push_if(counts, process::time(process::PYTHON_HELLO)?);
        through_http.push_if(counts, daemon.time_hello().await?);
    }
    let aim = Duration::from_millis(10);
    let row = Row::against("Python hello through HTTP", &through_http, "bare python3 -c", &bare);
    table.push(row.aim(aim));
    Ok(())
}

/// How many submissions a second are on disk and answered, while the slots run those before them.
async fn durable_submits(daemon: &Daemon, table: &mut Table) -> Result<()> {
    let single = daemon.submit_many(SUBMITS, SUBMIT_CONNECTIONS).await?;
    table.push_rate("durable submits, one a request", SUBMITS, single);
    let batches = daemon.submit_batches(SUBMITS / 100, 4).await?;
    table.push_rate("durable submits, 100 a request", SUBMITS / 100 * 100, batches);
    Ok(())
}
