//! The `braindrill` command: one file a subcommand. `serve` is the only place that wires things up.

mod load;
mod openapi;

use std::process::ExitCode;

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
    Load(load::Args),
    /// Print the OpenAPI description of the HTTP API.
    Openapi(openapi::Args),
}

impl Cli {
    /// Does what the command says.
    ///
    /// # Errors
    /// It could not be done; the message is for people.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        crate::telemetry::install(self.log.as_deref())?;
        match self.command {
            Command::Load(args) => load::run(args).await,
            Command::Openapi(args) => openapi::run(args),
        }
    }
}
