//! `braindrill openapi`: prints the description of the API. Needs no daemon and no database.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use crate::api::document::Document;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print YAML instead of JSON.
    #[arg(long)]
    yaml: bool,
    /// Write to a file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let document = Document::new();
    let text = if args.yaml { document.yaml() } else { document.json() };
    match args.output {
        Some(path) => std::fs::write(&path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => std::io::stdout().write_all(text.as_bytes()).context("cannot write the output")?,
    }
    Ok(ExitCode::SUCCESS)
}
