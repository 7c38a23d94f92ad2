//! The nomad backend against a bare loop of dispatches, on one agent, in short turns.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::try_join_all;
use serde_json::json;

use crate::{
    agent::Agent,
    bare::Bare,
    contest::{Contest, Side},
    daemon::Daemon,
    table::Table,
};

/// A program as both sides run it.
pub(crate) struct Program {
    /// As people know it.
    name: &'static str,
    /// What the bare job runs.
    pub(crate) command: &'static [&'static str],
    /// What the daemon is sent.
    pub(crate) language: &'static str,
    source: &'static str,
    /// What it writes.
    pub(crate) stdout: &'static str,
}

const PROGRAMS: [Program; 2] = [
    Program {
        name: "bash -c true",
        command: &["/bin/bash", "-c", "true"],
        language: "bash",
        source: "true",
        stdout: "",
    },
    Program {
        name: "python3 -c 'print(6*7)'",
        command: &["/usr/bin/python3", "-B", "-c", "print(6*7)"],
        language: "python",
        source: "print(6*7)",
        stdout: "42\n",
    },
];

/// Jobs at once. A machine with two cores is full at 8.
const IN_FLIGHT: [usize; 3] = [1, 4, 8];

/// How often each side has its turn.
const TURNS: usize = 3;

/// How long a turn is: some ticks of 200 ms in which Nomad reports, and short enough that the machine's
/// moods fall on both sides.
const TURN: Duration = Duration::from_secs(5);

/// The turn before the first that counts: the job registered, connections made, files in memory.
const WARM_UP: Duration = Duration::from_secs(2);

/// Adds the rows of the nomad backend, or why there are none.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let Some(agent) = Agent::start().await? else {
        table.note("there is no nomad on PATH; the nomad backend was not measured");
        return Ok(());
    };
    let bare = Bare::start(agent.client()?, &PROGRAMS).await?;
    for in_flight in IN_FLIGHT {
        let slots = in_flight.to_string();
        let options = ["--backend", "nomad", "--no-consul", "--slots", &slots];
        let daemon = Daemon::start(&options, &[("NOMAD_ADDR", agent.address())]).await?;
        for program in &PROGRAMS {
            eprintln!("nomad: {}, {in_flight} in flight", program.name);
            let (ours, bares) = take_turns(&agent, &daemon, &bare, program, in_flight).await?;
            table.push_contest(Contest { name: program.name, in_flight, ours, bare: bares });
        }
    }
    let version = Agent::version().unwrap_or_else(|| "of unknown version".to_owned());
    table.note(&format!("Nomad {version}, one agent in dev mode for both sides."));
    Ok(())
}

async fn take_turns(
    agent: &Agent,
    daemon: &Daemon,
    bare: &Bare,
    program: &Program,
    in_flight: usize,
) -> Result<(Side, Side)> {
    let submission = json!({ "language": program.language, "source": program.source });
    let through_us = async || daemon.time(&submission, program.stdout).await;
    let dispatched = async || bare.time(program).await;
    let (mut ours, mut bares) = <(Side, Side)>::default();
    for turn in 0..=TURNS {
        let length = if turn == 0 { WARM_UP } else { TURN };
        let counts = turn > 0;

        let (cpu, own) = (agent.cpu_time()?, daemon.cpu_time()?);
        let worked = work(&through_us, in_flight, length).await?;
        // The daemon answers first and purges then; the purges are its own, not those of the next.
        agent.settle().await?;
        let used = (agent.cpu_time()? - cpu, daemon.cpu_time()? - own);
        if counts {
            ours.add(worked, used);
        }

        let cpu = agent.cpu_time()?;
        let worked = work(&dispatched, in_flight, length).await?;
        agent.settle().await?;
        if counts {
            bares.add(worked, (agent.cpu_time()? - cpu, Duration::ZERO));
        }
    }
    Ok((ours, bares))
}

/// Repeats something so many at once for so long; what was begun is ended. The latencies of each
/// worker, and how long it worked.
async fn work(
    once: &impl AsyncFn() -> Result<Duration>,
    in_flight: usize,
    length: Duration,
) -> Result<Vec<(Vec<Duration>, Duration)>> {
    let worker = async || {
        let begun = Instant::now();
        let mut latencies = Vec::new();
        while begun.elapsed() < length {
            latencies.push(once().await?);
        }
        Ok((latencies, begun.elapsed()))
    };
    try_join_all((0..in_flight).map(|_| worker())).await
}
