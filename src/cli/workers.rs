//! `braindrill workers`: where the programs of a daemon run.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{Server, ServerArg, say_all, table::plain, text};

/// List the places that the programs of a daemon run in
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, one place a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// Runs the subcommand.
///
/// # Errors
/// The daemon does not answer, or cannot ask Nomad.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let listed = Server::new(&args.server.server)?.get("/v1/workers", &[]).await?;
    let items = listed["items"].as_array().map_or(&[][..], Vec::as_slice);
    let row = |item: &Value| {
        let known = |name: &str| match &item[name] {
            Value::Null => "-".to_owned(),
            value => value.to_string(),
        };
        let layers = item["layers"].as_array().into_iter().flatten();
        let missing = layers.filter(|layer| layer["active"] != true);
        let missing: Vec<_> = missing.map(|layer| text(layer, "/name")).collect();
        vec![
            text(item, "/kind").to_owned(),
            plain(text(item, "/name")),
            if item["healthy"] == true { "healthy" } else { "away" }.to_owned(),
            known("busy"),
            known("slots"),
            if missing.is_empty() { "-".to_owned() } else { missing.join(",") },
        ]
    };
    say_all(items, args.json, &["kind", "name", "health", "busy", "slots", "missing_layers"], row);
    Ok(ExitCode::SUCCESS)
}
