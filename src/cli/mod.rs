//! The `braindrill` command: one file a subcommand. `serve` is the only place that wires things up.

mod client;
mod cluster;
mod cluster_args;
mod discovery;
mod doctor;
mod jobs;
mod languages;
mod live_settings;
mod load;
mod openapi;
mod run;
mod runner;
mod serve;
mod shell;
mod submissions;
mod upkeep;
mod worker;
mod worker_secret;
mod workers;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

/// Runs code that other people wrote, in a sandbox, and answers with output and verdict.
#[derive(Debug, Parser)]
#[command(name = "braindrill", version, about, max_term_width = 100)]
pub struct Cli {
    /// What is logged, as in RUST_LOG: `debug`, `braindrill=trace`. Default `warn,braindrill=info`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Submissions(submissions::ListArgs),
    Show(submissions::ShowArgs),
    Cancel(submissions::CancelArgs),
    Languages(languages::Args),
    Workers(workers::Args),
    Serve(Box<serve::Args>),
    Worker(worker::Args),
    /// Say what this machine can do: sandbox, languages, data folder.
    Doctor(doctor::Args),
    Jobs(jobs::Args),
    Load(load::Args),
    /// Print the OpenAPI description of the HTTP API.
    Openapi(openapi::Args),
    /// Execute one request in this machine's sandbox and print its events, one JSON object a line.
    Runner(runner::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

impl Cli {
    /// Whether it has no use for more than one thread, and is started so often that these would be
    /// noticed.
    pub fn does_one_thing(&self) -> bool {
        matches!(self.command, Command::Runner(_))
    }

    /// Does what the command says.
    ///
    /// # Errors
    /// It could not be done; the message is for people.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        crate::telemetry::install(self.log.as_deref())?;
        match self.command {
            Command::Run(args) => run::run(args).await,
            Command::Submissions(args) => submissions::list(args).await,
            Command::Show(args) => submissions::show(args).await,
            Command::Cancel(args) => submissions::cancel(args).await,
            Command::Languages(args) => languages::run(args).await,
            Command::Workers(args) => workers::run(args).await,
            Command::Completions(args) => Ok(shell::completions(&args)),
            Command::Man(args) => shell::man(&args),
            Command::Doctor(args) => doctor::run(args).await,
            Command::Jobs(args) => jobs::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Openapi(args) => openapi::run(args),
            Command::Serve(args) => serve::run(*args).await,
            Command::Runner(args) => runner::run(args).await,
            Command::Worker(args) => worker::run(args).await,
        }
    }
}

/// Prints a line for whoever reads our standard output.
fn say(line: impl std::fmt::Display) {
    // Who has closed it (`| head`) does not want it, and that is no failure of ours.
    let _ = writeln!(std::io::stdout(), "{line}");
}
