//! `braindrill submissions`, `show` and `cancel`: what a daemon knows of submissions.

use std::process::ExitCode;

use serde_json::Value;

use super::{
    client::{Server, ServerArg, path_of, say_all, table::plain, text},
    say,
};

/// List submissions, newest first
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only those in this state: queued, dispatching, running, finished
    #[arg(long)]
    state: Option<String>,
    /// Only those in this language
    #[arg(short, long)]
    language: Option<String>,
    /// Only those that ended so: accepted, wrong_answer, ...
    #[arg(long)]
    verdict: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    limit: u64,
    /// Print JSON, one submission a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// Print a submission: what was sent, how it ended, what it wrote
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Its id
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// End a submission that has not ended
#[derive(Debug, clap::Args)]
pub(super) struct CancelArgs {
    /// Its id
    id: String,
    #[command(flatten)]
    server: ServerArg,
}

/// The most that the API lists at once.
const PAGE: u64 = 100;

/// Runs `submissions`.
///
/// # Errors
/// The daemon does not answer, or does not know what it is asked for.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let server = Server::new(&args.server.server)?;
    let filters = [
        ("state", args.state.clone()),
        ("language", args.language.clone()),
        ("verdict", args.verdict.clone()),
    ];
    let filters: Vec<_> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let (mut items, mut cursor) = (Vec::new(), None);
    while (items.len() as u64) < args.limit {
        let mut query = filters.clone();
        query.push(("limit", (args.limit - items.len() as u64).min(PAGE).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let mut page = server.get("/v1/submissions", &query).await?;
        items.extend(page["items"].as_array_mut().into_iter().flat_map(std::mem::take));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    let row = |item: &Value| {
        let or_state = |verdict: &str| match verdict {
            "" => text(item, "/state").to_owned(),
            verdict => verdict.to_owned(),
        };
        vec![
            text(item, "/id").to_owned(),
            text(item, "/created_at").to_owned(),
            text(item, "/language").to_owned(),
            or_state(text(item, "/verdict")),
            item["attempt"].to_string(),
        ]
    };
    say_all(&items, args.json, &["id", "created_at", "language", "state", "attempt"], row);
    Ok(ExitCode::SUCCESS)
}

/// Runs `show`.
///
/// # Errors
/// The daemon does not answer, or has no such submission.
pub(super) async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let server = Server::new(&args.server.server)?;
    let submission = server.get(&path_of(&args.id)?, &[]).await?;
    if args.json {
        say(serde_json::to_string_pretty(&submission)?);
    } else {
        describe(&submission);
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `cancel`.
///
/// # Errors
/// The daemon does not answer, has no such submission, or it had ended before.
pub(super) async fn cancel(args: CancelArgs) -> anyhow::Result<ExitCode> {
    let server = Server::new(&args.server.server)?;
    server.post(&format!("{}/cancel", path_of(&args.id)?), None).await?;
    say(format_args!("{} is cancelled", args.id));
    Ok(ExitCode::SUCCESS)
}

/// For people: what matters first, output as far as it can be seen.
fn describe(submission: &Value) {
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            say(format_args!("{name:12} {}", plain(value)));
        }
    };
    line("id", text(submission, "/id"));
    line("language", text(submission, "/language"));
    line("state", text(submission, "/state"));
    line("created", text(submission, "/created_at"));
    line("started", text(submission, "/started_at"));
    line("finished", text(submission, "/finished_at"));
    line("attempt", &submission["attempt"].to_string());
    line("waits for", text(submission, "/waiting_for"));
    for (name, value) in submission["placement"].as_object().into_iter().flatten() {
        line(name, value.as_str().unwrap_or_default());
    }
    line("verdict", text(submission, "/outcome/verdict"));
    line("reason", text(submission, "/outcome/reason"));
    let source = text(submission, "/request/source");
    if !source.is_empty() {
        say("\nsource:");
        source.lines().for_each(|line| say(format_args!("  {}", plain(line))));
    }
    for stream in ["stdout", "stderr"] {
        output(
            &format!("compiler's {stream}"),
            submission.pointer(&format!("/outcome/compile/{stream}")),
        );
    }
    for run in submission.pointer("/outcome/runs").and_then(Value::as_array).into_iter().flatten() {
        if let Some(test) = run["test"].as_str() {
            let (verdict, reason) = (text(run, "/verdict"), text(run, "/reason"));
            say(format_args!("\ntest {}: {verdict}: {}", plain(test), plain(reason)));
        }
        line("cpu", &format!("{} ms", run["cpu_time_ms"]));
        line("clock", &format!("{} ms", run["wall_time_ms"]));
        line("memory", &format!("{} bytes", run["memory_bytes"]));
        output("stdout", run.get("stdout"));
        output("stderr", run.get("stderr"));
    }
}

fn output(name: &str, output: Option<&Value>) {
    let Some(output) = output.filter(|output| output["bytes"] != 0) else { return };
    say(format_args!("\n{name}, {} bytes:", output["bytes"]));
    if output["encoding"] == "utf8" {
        text(output, "/data").lines().for_each(|line| say(format_args!("  {}", plain(line))));
    } else {
        say("  (not text; --json has it in base64)");
    }
    if output["truncated"] == true {
        say("  (more came than is kept)");
    }
}
