//! The command line: one file a subcommand.

pub mod runner;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// A remote code execution engine on Nomad and Consul.
#[derive(Debug, Parser)]
#[command(name = "braindrill", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Runner(runner::RunnerArgs),
}

/// Reads the arguments and does what they say.
///
/// # Errors
/// What went wrong, for a person.
pub fn run() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Runner(args) => runner::run(args).await,
        }
    })
}
