//! A program in this machine's sandbox, without a daemon: nothing of it is kept.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, bail};
use poem_openapi::types::ToJSON as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Args, Ending, Screen, files, request, screen};
use crate::{
    api::{body::decode_value, convert, types as dto, validate::validate},
    backend::EVENT_CHANNEL,
    cli::{client, runner},
    language::Catalog,
    protocol::{self, EventKind, ExecutionRequest, ExecutionResult, Turns, VERSION},
    runner::machine_cache_dir,
    sandbox::Stream,
    store::{EventData, Happened, Kept, KeptOutput, StoredEvent},
    submission::{
        Clock as _, Outcome, Owner, Placement, State, Submission, SubmissionId, SystemClock,
    },
};

/// Inputs that may wait for the program.
const INPUTS: usize = 4;

/// Runs it, shows what it says, and returns our exit code.
///
/// # Errors
/// The request is not sound, or there is no sandbox here.
pub(super) async fn run(args: &Args, cancel: &CancellationToken) -> anyhow::Result<u8> {
    let catalog = Catalog::load(None)?;
    catalog.find_tool_chains();
    let most = catalog.maximum();
    let items = catalog.list().into_iter().map(|entry| convert::language(entry, &most).to_json());
    let languages = json!({ "items": items.collect::<Vec<_>>() });
    let body = request::request(args, &languages)?;
    let execution = execution(body, &catalog)?;

    let folder = tempfile::tempdir().context("cannot make a folder for compiled programs")?;
    let place = runner::Place {
        instance: format!("{:08x}", std::process::id()),
        cache_dir: machine_cache_dir(None, folder.path()),
        work_dir: folder.path().to_owned(),
        outer_jail: false,
    };
    let ready = match runner::prepare(&place).await {
        Ok(ready) => ready,
        Err(fault) => bail!("{fault}; `braindrill doctor` says what is missing"),
    };
    let mut watched = Watched::new(&execution);
    let slot = ready.runner.sandbox().slot().await;
    // The program's time goes on whether anybody reads us or not, so all of it is taken at once: its
    // output has a bound.
    let (sender, mut events) = mpsc::channel(EVENT_CHANNEL);
    let (seen, mut to_show) = mpsc::unbounded_channel();
    let raw = args.raw()?;
    let mut keyboard = args.keyboard(&raw, cancel)?;
    let (typed, live) = keyboard.is_some().then(|| mpsc::channel(INPUTS)).unzip();
    let over = CancellationToken::new();
    let run = async {
        ready.runner.execute(execution, &slot, live, sender, cancel.clone()).await;
        over.cancel();
    };
    let talk = async {
        if let (Some(keyboard), Some(typed)) = (&mut keyboard, &typed) {
            while typed.send(keyboard.next().await).await.is_ok() {}
        }
    };
    let watch = async {
        while let Some(event) = events.recv().await {
            // Received below for as long as there are any.
            if let Some(event) = watched.take(event) {
                let _ = seen.send(event);
            }
        }
        if let Some(event) = watched.cancelled() {
            let _ = seen.send(event);
        }
        drop(seen);
    };
    let show = async {
        // Until all of its output is there.
        let raw = raw;
        let mut screen = Screen::new(args.json, !args.tests.is_empty(), cancel.clone());
        let mut ending = Ending::default();
        while let Some(event) = to_show.recv().await {
            ending.take(&event);
            screen.show(event).await;
        }
        drop(raw);
        screen.end(&ending).await;
        ending
    };
    let ((), (), ending, _) = tokio::join!(run, watch, show, over.run_until_cancelled(talk));
    if !args.json && args.collect.is_empty() {
        return Ok(ending.exit_code());
    }
    let contents = std::mem::take(&mut watched.files);
    let submission = watched.submission();
    let saved = files::keep(&submission, &contents, args);
    let json = args.json.then(|| serde_json::to_string_pretty(&submission)).transpose()?;
    screen::print(json, saved.notes).await;
    Ok(ending.exit_code_with(saved.is_incomplete))
}

/// What a daemon would make of a request.
fn execution(body: Value, catalog: &Catalog) -> anyhow::Result<Arc<ExecutionRequest>> {
    let refused = |faults: Vec<crate::api::problem::FieldError>| {
        let words = faults.iter().map(|fault| format!("{} {}", fault.field, fault.detail));
        anyhow::anyhow!("{}", words.collect::<Vec<_>>().join("; "))
    };
    let body: dto::SubmissionRequest =
        decode_value(body).map_err(|failure| refused(failure.problem.errors))?;
    let request = validate(body, catalog).map_err(refused)?;
    let entry = catalog.get(&request.language).context("the language is gone")?;
    Ok(Arc::new(ExecutionRequest {
        v: VERSION,
        submission: SubmissionId::new(SystemClock.now()),
        attempt: 1,
        cache_owner: None,
        request,
        language: (*entry.definition).clone(),
        checker_languages: BTreeMap::new(),
    }))
}

/// What is seen of a run, as a daemon would keep and tell it.
struct Watched {
    submission: Submission,
    outputs: Vec<[Vec<u8>; 2]>,
    /// What the files hold that were taken.
    files: Vec<Vec<u8>>,
    n: u64,
}

impl Watched {
    fn new(execution: &ExecutionRequest) -> Watched {
        let submission = Submission {
            id: execution.submission,
            owner: Owner::anonymous(),
            request: execution.request.clone(),
            state: State::Running { attempt: 1, placement: Placement::Local },
            created_at: SystemClock.now(),
            started_at: None,
            attempt: 1,
            waiting_for: None,
            placement: Some(Placement::Local),
        };
        Watched {
            submission,
            outputs: vec![Default::default(); execution.request.tests.len().max(1)],
            files: Vec::new(),
            n: 0,
        }
    }

    /// None where nothing is told of it.
    fn take(&mut self, event: protocol::Event) -> Option<client::Event> {
        let now = SystemClock.now();
        let happened = match event.kind {
            EventKind::Started => {
                self.submission.started_at = Some(now);
                Happened::Runner(EventData::Started)
            }
            EventKind::Compiled { compile } => Happened::Runner(EventData::Compiled(compile)),
            EventKind::Stdout { run, data, .. } => self.output(run, Stream::Stdout, data.0),
            EventKind::Stderr { run, data, .. } => self.output(run, Stream::Stderr, data.0),
            EventKind::File { file, data } => {
                let index = file as usize;
                self.files.resize(self.files.len().max(index + 1), Vec::new());
                self.files[index].extend_from_slice(&data);
                return None;
            }
            EventKind::RunFinished { run, report } => {
                Happened::Runner(EventData::RunFinished { run, report })
            }
            EventKind::Finished { result } => self.ended(match result {
                ExecutionResult::Report(report) => Outcome::Judged(report),
                ExecutionResult::Fault(fault) => Outcome::Failed(fault),
            }),
        };
        Some(self.tell(happened))
    }

    fn output(&mut self, run: u32, stream: Stream, data: bytes::Bytes) -> Happened {
        if let Some(streams) = self.outputs.get_mut(run as usize) {
            streams[stream as usize].extend_from_slice(&data);
        }
        Happened::Runner(EventData::Output { run, stream, data, turns: Turns::default() })
    }

    fn ended(&mut self, outcome: Outcome) -> Happened {
        let at = SystemClock.now();
        self.submission.state = State::Finished { outcome: outcome.clone(), at };
        Happened::Ended(Box::new(outcome))
    }

    /// The last event of a run that was cancelled, which says nothing more itself.
    fn cancelled(&mut self) -> Option<client::Event> {
        let is_open = !matches!(self.submission.state, State::Finished { .. });
        is_open.then(|| {
            let cancelled = self.ended(Outcome::Cancelled);
            self.tell(cancelled)
        })
    }

    fn tell(&mut self, happened: Happened) -> client::Event {
        self.n += 1;
        let stored = StoredEvent::new(self.n, 1, SystemClock.now(), happened);
        client::Event::new(convert::event(&stored).to_json().unwrap_or_default())
    }

    /// The submission as the API would show it.
    fn submission(self) -> Value {
        let kept = |[stdout, stderr]: [Vec<u8>; 2]| KeptOutput {
            stdout: Kept::Here(stdout.into()),
            stderr: Kept::Here(stderr.into()),
        };
        let outputs = self.outputs.into_iter().map(kept).collect();
        let view =
            crate::dispatcher::View { submission: self.submission, outputs, both: Vec::new() };
        convert::submission_with_request(view).to_json().unwrap_or_default()
    }
}
