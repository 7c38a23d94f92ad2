//! The `braindrill` command.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime;

fn main() -> ExitCode {
    // Before there are threads: a sandbox's launcher is this same executable.
    braindrill::sandbox::launch_if_asked();
    let cli = braindrill::cli::Cli::parse();
    // The first provider that is installed stays, and nothing else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = match cli.does_one_thing() {
        true => runtime::Builder::new_current_thread(),
        false => runtime::Builder::new_multi_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start threads")),
    };
    match runtime.block_on(cli.run()) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

/// Prints an error with all its causes on one line.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("braindrill: {error:#}");
    ExitCode::FAILURE
}
