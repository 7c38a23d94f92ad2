//! `braindrill run`: one program, its output as it comes, its exit code as ours.
//!
//! ```text
//!  FILE ── request.rs ──> a daemon (client.rs), or this machine (local.rs)
//!                              └── events ──> screen.rs ──> stdout, stderr, exit code (ending.rs)
//! ```

mod ending;
mod local;
mod request;
mod screen;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::Value;

use self::{ending::Ending, screen::Screen};
use super::{
    client::{Events, Server, ServerArg, path_of, text},
    say,
};

const AFTER_HELP: &str = "\
Exit codes:
  that of the program  it ended by itself, with or without tests that it was to pass
  128 + N              signal N ended it
  120  a test was answered wrongly       124  time limit exceeded
  121  it could not be compiled          125  braindrill failed, or the request was refused
  122  output limit exceeded             130  cancelled, as by Ctrl-C
  123  memory limit exceeded

Examples:
  braindrill run hello.py
  braindrill run --stdin numbers.txt sum.c -- --verbose
  braindrill run --test 1.in:1.out --test 2.in:2.out solution.cpp
  echo 'print(6*7)' | braindrill run --language python -";

/// Run a program on a daemon, or here, as if it were a command of its own
///
/// Its standard output and standard error are ours, as they come, and so is its exit code.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The program; - for standard input
    file: PathBuf,

    /// Arguments for the program, after --
    #[arg(last = true)]
    args: Vec<String>,

    /// Its language [default: by the extension of the file]
    #[arg(short, long)]
    language: Option<String>,

    /// A file with its standard input; - for ours
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,

    /// Run it with the input in one file, and compare what it writes with another; may be repeated
    #[arg(long = "test", value_name = "IN:OUT")]
    tests: Vec<String>,

    /// User and system time of a run, in milliseconds
    #[arg(long, value_name = "MS")]
    cpu_time_ms: Option<u64>,

    /// Time on the clock of a run, in milliseconds
    #[arg(long, value_name = "MS")]
    wall_time_ms: Option<u64>,

    /// Memory of a run, in bytes
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<u64>,

    /// Print the submission as JSON when it has ended, and nothing before
    #[arg(long)]
    json: bool,

    /// Run it in a sandbox on this machine, without a daemon
    #[arg(long)]
    local: bool,

    #[command(flatten)]
    server: ServerArg,
}

/// Runs the subcommand; its exit code is what `--help` says.
///
/// # Errors
/// None: what is in the way is said, and is an exit code too.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ended = if args.local { local::run(&args).await } else { on_server(&args).await };
    let code = ended.unwrap_or_else(|error| {
        eprintln!("braindrill: {error:#}");
        ending::FAILED
    });
    Ok(ExitCode::from(code))
}

async fn on_server(args: &Args) -> anyhow::Result<u8> {
    let server = Server::new(&args.server.server)?;
    let languages = server.get("/v1/languages", &[]).await?;
    let request = request::request(args, &languages)?;
    let sent = server.post("/v1/submissions", Some(&request)).await?;
    let id = text(&sent, "/id").to_owned();
    let mut screen = Screen::new(args.json, !args.tests.is_empty());
    let ending = follow(&server, &id, server.follow(&id)?, &mut screen).await?;
    if args.json {
        let submission = server.get(&path_of(&id)?, &[]).await?;
        say(serde_json::to_string_pretty(&submission)?);
    }
    Ok(ending.exit_code())
}

/// Shows events until the last. The first Ctrl-C cancels the submission, the second leaves it.
async fn follow(
    server: &Server,
    id: &str,
    mut events: Events,
    screen: &mut Screen,
) -> anyhow::Result<Ending> {
    let mut ending = Ending::default();
    let mut was_interrupted = false;
    loop {
        let next = tokio::select! {
            next = events.next() => next.with_context(|| format!("{id} runs on without us"))?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("cannot wait for Ctrl-C")?;
                if was_interrupted {
                    return Ok(Ending::cancelled());
                }
                was_interrupted = true;
                // One that has ended meanwhile says so by its events.
                let _: Option<Value> =
                    server.post(&format!("{}/cancel", path_of(id)?), None).await.ok();
                continue;
            }
        };
        let Some(event) = next else { break };
        screen.show(&event);
        ending.take(&event);
    }
    screen.end(&ending);
    Ok(ending)
}
