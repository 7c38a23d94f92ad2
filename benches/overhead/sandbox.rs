//! What the sandbox adds to a program, and what the daemon adds to the sandbox.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    daemon::Daemon,
    process::{self, Jail},
    row::{Bound, Of, Row, Turn},
    table::Table,
};

/// Pairs of a turn; there are three.
const ROUNDS: usize = 100;
const TURNS: usize = 3;

/// Rounds before the first that counts: page cache, prepared jails, kept connections.
const WARM_UP: usize = 20;

/// Adds the row of a jailed /bin/true, and of bubblewrap's where that is installed, against a bare one.
pub(crate) async fn jailed_true(table: &mut Table) -> Result<()> {
    let jail = Jail::start().await?;
    let bubblewrap = process::bubblewrap();
    let mut jailed =
        Row::new("/bin/true in the sandbox", "bare").aim(Of::P50More, Bound::AtMost(3.0));
    let mut wrapped = Row::new("/bin/true in bubblewrap", "bare");
    for _ in 0..WARM_UP {
        jail.time(process::TRUE).await?;
    }
    for _ in 0..TURNS {
        let (mut bares, mut jaileds, mut wrappeds) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bares.push(process::time(process::TRUE)?);
            jaileds.push(jail.time(process::TRUE).await?);
            if let Some(command) = &bubblewrap {
                wrappeds.push(process::time(command)?);
            }
        }
        let bare = one_by_one(bares);
        jailed.push(one_by_one(jaileds), bare.clone());
        wrapped.push(one_by_one(wrappeds), bare);
    }
    table.push(jailed);
    match bubblewrap {
        Some(_) => table.push(wrapped),
        None => table.note("bubblewrap is not installed; it was not measured (Debian: bubblewrap)"),
    }
    Ok(())
}

/// Adds the row of a Python hello from POST to verdict, one client, against a bare interpreter.
pub(crate) async fn python_hello(table: &mut Table) -> Result<()> {
    let mut daemon = Daemon::start(&["--backend", "local"], &[]).await?;
    daemon.languages_checked().await.context("waiting for the self-tests")?;
    let mut row = Row::new("Python hello through HTTP, in turns with", "bare python3 -c")
        .aim(Of::P50More, Bound::AtMost(10.0));
    for _ in 0..WARM_UP {
        daemon.time_hello().await?;
    }
    for _ in 0..TURNS {
        let (mut bares, mut throughs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bares.push(process::time(process::PYTHON_HELLO)?);
            throughs.push(daemon.time_hello().await?);
        }
        row.push(one_by_one(throughs), one_by_one(bares));
    }
    table.push(row);
    Ok(())
}

/// The turn of who had nothing else to do.
fn one_by_one(latencies: Vec<Duration>) -> Turn {
    let (count, all) = (latencies.len() as f64, latencies.iter().sum::<Duration>());
    Turn::new(latencies, count / all.as_secs_f64())
}
