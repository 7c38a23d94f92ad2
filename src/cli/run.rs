//! `braindrill run`: one program, its output as it comes, its exit code as ours.
//!
//! ```text
//!  FILE ── request.rs ──> a daemon (client.rs), or this machine (local.rs)
//!                              └── events ──> screen.rs ──> stdout, stderr, exit code (ending.rs)
//! ```

mod ending;
mod files;
mod keyboard;
mod local;
mod request;
mod screen;

use std::{cell::Cell, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use self::{
    ending::Ending,
    keyboard::{Keyboard, Raw},
    screen::Screen,
};
use super::client::{Event, Events, Server, ServerArg, path_of, text};

/// How long the daemon may take to take note of a cancel; it may be away.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// How often it is asked what a submission waits for, where somebody sees it: that is no event.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a program that is cancelled may take to end, and its output to be read.
const END_TIME: Duration = Duration::from_secs(15);

/// Events of a conversation that may wait to be shown.
const HEARD: usize = 16;

const AFTER_HELP: &str = "\
Exit codes:
  that of the program  it ended by itself, with or without tests that it was to pass
  128 + N              signal N ended it
  120  a test was answered wrongly       124  time limit exceeded
  121  it could not be compiled          125  braindrill failed, or the request was refused
  122  output limit exceeded             130  cancelled: by Ctrl-C, or since nobody reads its output
  123  memory limit exceeded               2  this command line is wrong

Examples:
  braindrill run hello.py
  braindrill run --stdin numbers.txt sum.c -- --verbose
  braindrill run --collect plot.png plot.py
  braindrill run --tty game.py
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

    /// Pass on what we read while it runs, behind --stdin
    #[arg(short, long, conflicts_with = "tests")]
    interactive: bool,

    /// Give it a terminal of its own, each key of which is ours; ~. at the beginning of a line ends it
    #[arg(short, long, conflicts_with = "tests")]
    tty: bool,

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

    /// Take this file or folder of its work directory back when it has ended; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "tests")]
    collect: Vec<String>,

    /// Where these are saved
    #[arg(long, value_name = "DIR", default_value = ".", requires = "collect")]
    into: PathBuf,

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
    let code = interruptible(&args).await.unwrap_or_else(|error| {
        eprintln!("braindrill: {error:#}");
        ending::FAILED
    });
    Ok(ExitCode::from(code))
}

/// The first Ctrl-C, or SIGTERM, cancels the program and waits for its end, which may not be seen: whoever
/// reads our output may have stopped. The second waits for nothing.
async fn interruptible(args: &Args) -> anyhow::Result<u8> {
    // Before anything is begun: a signal that nobody listens to would end us in the midst of it.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut signalled =
        async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
    let cancel = CancellationToken::new();
    let work = async {
        if args.local { local::run(args, &cancel).await } else { on_server(args, &cancel).await }
    };
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        () = signalled() => cancel.cancel(),
        ended = &mut work => return ended,
    }
    tokio::select! {
        biased;
        () = signalled() => Ok(ending::CANCELLED),
        ended = work => ended,
        () = tokio::time::sleep(END_TIME) => Ok(ending::CANCELLED),
    }
}

async fn on_server(args: &Args, cancel: &CancellationToken) -> anyhow::Result<u8> {
    let server = Server::new(&args.server.server)?;
    let languages = server.get("/v1/languages", &[]).await?;
    let request = request::request(args, &languages)?;
    if cancel.is_cancelled() {
        return Ok(ending::CANCELLED);
    }
    let sent = server.post("/v1/submissions", Some(&request)).await?;
    let id = text(&sent, "/id").to_owned();
    let screen = Screen::new(args.json, !args.tests.is_empty(), cancel.clone());
    let ending = follow(&server, &id, args, screen, cancel).await?;
    if args.json || !args.collect.is_empty() {
        let submission = server.get(&path_of(&id)?, &[]).await?;
        let saved = files::fetch(&server, &submission, args).await;
        let json = args.json.then(|| serde_json::to_string_pretty(&submission)).transpose()?;
        screen::print(json, saved.notes).await;
        return Ok(ending.exit_code_with(saved.is_incomplete));
    }
    Ok(ending.exit_code())
}

/// Shows events until the last; cancels the submission once that is wanted.
async fn follow(
    server: &Server,
    id: &str,
    args: &Args,
    mut screen: Screen,
    cancel: &CancellationToken,
) -> anyhow::Result<Ending> {
    let path = path_of(id)?;
    let cancel_path = format!("{path}/cancel");
    let (mut ending, is_queued) = (Ending::default(), Cell::new(true));
    let cancelling = async {
        cancel.cancelled().await;
        // One that has ended meanwhile says so by its events.
        let _ = tokio::time::timeout(CANCEL_TIME, server.post(&cancel_path, None)).await;
        std::future::pending::<()>().await
    };
    let teller = screen.teller();
    let asking = async {
        while let Some(teller) = &teller {
            tokio::time::sleep(ASK_AGAIN).await;
            if is_queued.get()
                && let Ok(submission) = server.get(&path, &[]).await
                && let Some(what) = submission["waiting_for"].as_str()
            {
                teller.waits_for(what).await;
            }
        }
        std::future::pending::<()>().await
    };
    let raw = args.raw()?;
    let mut keyboard = args.keyboard(&raw, cancel)?;
    // What a person typed is typed again, if need be.
    let keyboard_is_piped = keyboard.is_some() && raw.is_none();
    let (heard, hears) = mpsc::channel(HEARD);
    let (mut events, mut is_talking) = match keyboard {
        Some(_) => (Source::Talked(hears), true),
        None => (Source::Followed(Box::new(server.follow(id)?)), false),
    };
    let talking = async {
        match &mut keyboard {
            Some(keyboard) => server.talk(id, async || keyboard.next().await, heard).await,
            None => Ok(()),
        }
    };
    let (mut cancelling, mut asking) = (std::pin::pin!(cancelling), std::pin::pin!(asking));
    let mut talking = std::pin::pin!(talking);
    loop {
        let next = tokio::select! {
            next = events.next() => next.with_context(|| format!("{id} runs on without us"))?,
            () = &mut cancelling => continue,
            () = &mut asking => continue,
            ended = &mut talking, if is_talking => {
                ended.with_context(|| format!("{id} cannot be talked to"))?;
                is_talking = false;
                continue;
            }
        };
        let Some(event) = next else { break };
        if event.attempt > 1 && keyboard_is_piped {
            let _ = tokio::time::timeout(CANCEL_TIME, server.post(&cancel_path, None)).await;
            bail!("{id} was lost with its place, and with it what was sent to it");
        }
        if event.kind == "state" {
            is_queued.set(text(&event.value, "/state") == "queued");
        }
        ending.take(&event);
        screen.show(event).await;
    }
    drop(raw);
    screen.end(&ending).await;
    Ok(ending)
}

/// Where events come from.
enum Source {
    Followed(Box<Events>),
    /// A conversation, which gives them until the last.
    Talked(mpsc::Receiver<Event>),
}

impl Source {
    async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        match self {
            Source::Followed(events) => events.next().await,
            Source::Talked(events) => Ok(events.recv().await),
        }
    }
}

impl Args {
    /// Our terminal, where the program is to have each of its keys.
    fn raw(&self) -> anyhow::Result<Option<Raw>> {
        if self.tty { Raw::begin() } else { Ok(None) }
    }

    /// What we read, where it is for the program while it runs.
    fn keyboard(
        &self,
        raw: &Option<Raw>,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Option<Keyboard>> {
        let is_wanted = self.interactive || self.tty;
        is_wanted.then(|| Keyboard::listen(raw.is_some(), cancel.clone())).transpose()
    }
}
