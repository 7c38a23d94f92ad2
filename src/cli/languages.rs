//! `braindrill languages`: what programs may be written in on a daemon.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Server, ServerArg, say_all, table::plain, text};

/// List the languages of a daemon
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, one language a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// Runs the subcommand.
///
/// # Errors
/// The daemon does not answer.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let listed = Server::new(&args.server.server)?.get("/v1/languages", &[]).await?;
    let items = listed["items"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |item: &Value| {
        let name = format!("{} {}", text(item, "/name"), text(item, "/version"));
        let status = match text(item, "/reason") {
            "" => text(item, "/status").to_owned(),
            reason => format!("{}: {}", text(item, "/status"), plain(reason)),
        };
        vec![text(item, "/id").to_owned(), plain(name.trim_end()), status]
    };
    say_all(items, args.json, &["id", "name", "status"], row);
    Ok(ExitCode::SUCCESS)
}
