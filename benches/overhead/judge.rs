//! A submission with 100 small tests, against the compiled program so often, in core time a test.

use std::{thread, time::Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    programs::{Bare, Program, SQUARE},
    row::{Bound, Of, Row, Turn},
    table::Table,
};

/// How often each side has its turn.
const TURNS: usize = 3;

/// Tests of a submission: the most that there may be.
const TESTS: usize = 100;

/// Submissions of each client in a turn.
const EACH: usize = 4;

/// Adds the row of the part `tests`.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let program: &'static Program = &SQUARE;
    if !program.is_here() {
        table.note("100 tests: not measured, gcc is not installed");
        return Ok(());
    }
    let mut daemon = Daemon::start(&["--backend", "local"], &[]).await?;
    daemon.languages_checked().await.context("waiting for the self-tests")?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let bare = Bare::new(program, cores)?;
    let name = format!("a test of {TESTS} of a C program, local, the compile step shared");
    let mut row = Row::new(name, program.bare_name).aim(Of::CoreTimeMore, Bound::AtMost(2.5));
    let submission = submission(program);
    daemon.client().await?.post("/v1/submissions?wait=60", submission.clone()).await?;
    for _ in 0..TURNS {
        let base = bare.turn(cores, program.turn)?;
        row.push(turn(&daemon, &submission, cores).await?, base);
    }
    table.push(row);
    Ok(())
}

/// As many clients as slots: while one submission is compiled or stored, the other's tests run.
async fn turn(daemon: &Daemon, submission: &str, clients: usize) -> Result<Turn> {
    let mut clients = daemon.clients(clients).await?;
    let begun = Instant::now();
    let work = clients.iter_mut().map(async |client| {
        for _ in 0..EACH {
            let path = "/v1/submissions?wait=60";
            let (_, answer) = client.post(path, submission.to_owned()).await?;
            let answer: Value = serde_json::from_slice(&answer)?;
            let outcome = &answer["outcome"];
            ensure!(outcome["verdict"] == "accepted", "not accepted: {answer}");
            let runs = outcome["runs"].as_array().map_or(0, Vec::len);
            ensure!(runs == TESTS, "{runs} runs");
        }
        Ok(EACH * TESTS)
    });
    let tests = try_join_all(work).await?.iter().sum();
    Ok(Turn::of_rate(tests, begun.elapsed()))
}

fn submission(program: &Program) -> String {
    let mut submission: Value =
        serde_json::from_str(&program.submission(0)).expect("it was made from a value");
    let test =
        |n: usize| json!({ "stdin": format!("{n}\n"), "expected_output": format!("{}\n", n * n) });
    submission["tests"] = (0..TESTS).map(test).collect();
    submission.to_string()
}
