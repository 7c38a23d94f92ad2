//! `braindrill load`: submits many programs to a running daemon and tells how it bore them.
//!
//! Closed loop (the default): each of so many connections submits, waits for the verdict, submits
//! again: the throughput that the daemon can give. Open loop (`--rate`): submissions are due at a
//! fixed rate whether answers come or not, and latency counts from when one was due, so that a
//! daemon that stalls cannot hide it by slowing the test down (coordinated omission).

mod client;
mod driver;
mod program;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;

use std::{io::IsTerminal, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    client::Client,
    driver::Measured,
    program::{ProgramArg, Sources},
    schedule::{Pace, Schedule},
    tally::{Report, Tally},
};
use super::say;

/// Connections of a closed loop that names none: enough to keep a small machine busy without a
/// queue.
const DEFAULT_CONNECTIONS: usize = 4;

/// Connections of an open loop that names none. They only bound how much may be under way; an idle
/// one costs a task.
const DEFAULT_OPEN_CONNECTIONS: usize = 1_000;

/// The most connections: each needs a port of this machine, and there are about 28,000.
const MAX_CONNECTIONS: u64 = 10_000;

/// The duration of a test that names neither duration nor count.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// Submit many programs to a running daemon, and measure throughput and latency
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The daemon to test
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,

    /// What to submit: a built-in kind of Python program, or the path of a file
    #[arg(long, default_value = "instant", value_name = "instant|loop|cpu|memory|output|FILE")]
    program: ProgramArg,

    /// The language of the file
    #[arg(long, default_value = "python")]
    language: String,

    /// Submissions at once, at the most [default: 4, with --rate 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CONNECTIONS))]
    connections: Option<u64>,

    /// Open loop: submissions a second, sent on time whether answers come or not
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,

    /// Send for so long, as in 90s or 5m [default: 10s, without --count]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,

    /// Send so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Give up on a submission that has not finished after so long
    #[arg(long, default_value = "120s", value_parser = duration)]
    timeout: Duration,

    /// What the lengths of `output` programs are drawn from: equal seeds send equal programs
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    fn connections(&self) -> usize {
        let default =
            if self.rate.is_some() { DEFAULT_OPEN_CONNECTIONS } else { DEFAULT_CONNECTIONS };
        self.connections.map_or(default, |connections| connections as usize)
    }

    fn schedule(&self) -> Schedule {
        let pace = self.rate.map_or(Pace::Closed, |rate| Pace::Open { rate });
        let duration = self.duration.or(self.count.is_none().then_some(DEFAULT_DURATION));
        Schedule::new(pace, self.count, duration)
    }

    fn report(&self, measured: Measured) -> Report {
        let Measured { tally, elapsed, interrupted, unsent } = measured;
        let (finished, failed, latency_ms) = (tally.finished(), tally.failed(), tally.latency());
        let (verdicts, errors) = tally.into_counts();
        Report {
            url: self.url.clone(),
            program: self.program.to_string(),
            language: self.language.clone(),
            seed: self.seed,
            connections: self.connections(),
            rate: self.rate,
            elapsed_ms: elapsed.as_secs_f64() * 1_000.0,
            finished,
            failed,
            interrupted,
            unsent,
            throughput_per_second: finished as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
            latency_ms,
            verdicts,
            errors,
        }
    }
}

/// Runs the load test and prints its result; Ctrl-C ends it early and prints what was measured.
///
/// The exit code is 0 when at least one submission finished.
///
/// # Errors
/// The program cannot be read, or nothing answers at the address.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if matches!(args.program, ProgramArg::Kind(_)) && args.language != "python" {
        bail!(
            "the built-in programs are Python; name a file with --program to test {}",
            args.language
        );
    }
    let bar = progress_bar(&args);
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no handler: Ctrl-C ends the process as ever
        }
    };
    let measured =
        measure(&args, interrupt, |elapsed, tally| show(&bar, &args, elapsed, tally)).await?;
    bar.finish_and_clear();
    let report = args.report(measured);
    if args.json {
        say(serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.finished > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything but the terminal.
async fn measure(
    args: &Args,
    interrupt: impl Future<Output = ()>,
    progress: impl FnMut(Duration, &Tally),
) -> anyhow::Result<Measured> {
    let sources = Sources::load(&args.program, args.seed)
        .with_context(|| format!("cannot read the program {}", args.program))?;
    let connections = args.connections();
    let client = Client::new(&args.url, &args.language, connections, args.timeout)
        .context("cannot set up an HTTP client")?;
    if let Err(kind) = client.reach().await {
        bail!(
            "no braindrill daemon answers at {}: {kind}; start one with `braindrill serve`",
            args.url
        );
    }
    Ok(driver::drive(client, sources, args.schedule(), connections, interrupt, progress).await)
}

/// A bar on standard error where that is a terminal, else one that draws nothing.
fn progress_bar(args: &Args) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = match (args.count, args.duration) {
        (Some(count), _) => count,
        (None, duration) => duration.unwrap_or(DEFAULT_DURATION).as_millis() as u64,
    };
    let style = ProgressStyle::with_template("{elapsed:>4} [{wide_bar}] {msg}")
        .expect("the template is a literal");
    ProgressBar::new(length).with_style(style)
}

fn show(bar: &ProgressBar, args: &Args, elapsed: Duration, tally: &Tally) {
    let (finished, failed) = (tally.finished(), tally.failed());
    bar.set_position(match args.count {
        Some(_) => finished + failed,
        None => elapsed.as_millis() as u64,
    });
    let rate = finished as f64 / elapsed.as_secs_f64().max(f64::EPSILON);
    let p50 = tally.latency().map_or(String::new(), |l| format!(", p50 {:.1} ms", l.p50));
    bar.set_message(format!("{finished} finished, {failed} failed, {rate:.0}/s{p50}"));
}

/// Reads `500ms`, `90s`, `5m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a duration ends in ms, s or m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "not a number".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration.is_zero() => Err("must be more than nothing".to_owned()),
        Ok(duration) if duration > Duration::from_secs(86_400) => Err("at most a day".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("not a duration".to_owned()),
    }
}

/// Reads a positive number of submissions a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be between 0.001 and 1000000".to_owned()),
    }
}
