//! One child, from its dispatch to its last event.
//!
//! The log is read when the allocation is over, and now and then while it is seen to run: Nomad
//! reports an end after some 240 ms, and shows a log that is followed no earlier than that. Every
//! read begins at the first byte and drops what was sent before, by `seq`: an offset would only
//! save work.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{chain, ending, job::TASK, sentences};
use crate::{
    backend::Update,
    nomad::{Allocation, Blocking, Client, LogStream, NomadError, Problem},
    protocol::{
        EventKind,
        lines::{LineDecoder, LineError},
    },
    submission::Placement,
};

/// How long the first query waits for an allocation: it takes 5 ms when there is room, so that
/// after this there probably is none, and the evaluation is asked why.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How long the other queries wait: short, since a query outlives its connection on the server.
const WAIT: Duration = Duration::from_secs(5);

/// From the first failed call to the next, doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between calls while Nomad is away.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long the log of an allocation that is over may be unreadable, while Nomad itself answers,
/// before the attempt is given up: its node may be rebooting.
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// The least time between two reads of a log that still grows.
const PEEK_PAUSE: Duration = Duration::from_secs(2);

/// The runner's own copy of its events, in the allocation's folder.
const COPY: &str = "alloc/data/events.jsonl";

/// Of an attempt that Nomad made anew after it had begun to speak.
const REPLACED: &str = "its Nomad allocation was replaced by another";

/// The allocation that counts: Nomad replaces one that was lost.
pub(super) fn newest(allocations: Vec<Allocation>) -> Option<Allocation> {
    allocations.into_iter().max_by_key(|each| each.create_index)
}

/// Follows one child.
pub(super) struct Follower {
    client: Client,
    job_id: String,
    evaluation_id: String,
    allocation: Option<(String, String)>,
    updates: mpsc::Sender<Update>,
    stopping: CancellationToken,
    next_seq: u64,
    waiting: Option<String>,
}

/// Why following ended before `finished`.
enum Stop {
    /// Nobody listens.
    Unwanted,
    /// There will be no result, as a sentence.
    Lost(String),
}

/// How the reading of a log ended.
enum Reading {
    /// `finished` was passed on.
    Finished,
    /// All was read that there is, and it is not the whole.
    Incomplete(&'static str),
}

/// Why a log could not be read to its end now.
enum Unread {
    Nomad(NomadError),
    Unwanted,
}

impl From<NomadError> for Unread {
    fn from(error: NomadError) -> Self {
        Unread::Nomad(error)
    }
}

impl Follower {
    /// Follows the child of this id, of which the allocation and its node may be known.
    pub(super) fn new(
        client: Client,
        job_id: String,
        evaluation_id: String,
        allocation: Option<(String, String)>,
        updates: mpsc::Sender<Update>,
        stopping: CancellationToken,
    ) -> Self {
        Follower {
            client,
            job_id,
            evaluation_id,
            allocation,
            updates,
            stopping,
            next_seq: 0,
            waiting: None,
        }
    }

    /// Sends what happens until `finished`, or ends the child when nobody listens any more.
    pub(super) async fn run(mut self) {
        let listener = self.updates.clone();
        let end = tokio::select! {
            end = self.follow() => end,
            () = listener.closed() => Err(Stop::Unwanted),
        };
        match end {
            Ok(()) => {}
            Err(Stop::Unwanted) => {
                if !self.stopping.is_cancelled() {
                    self.end().await;
                }
            }
            Err(Stop::Lost(reason)) => {
                // First, so that no replacement by Nomad runs beside the next attempt.
                self.end().await;
                let _ = self.updates.send(Update::Lost(reason)).await;
            }
        }
    }

    /// Ends the child as well as can be now; `release` makes sure.
    async fn end(&self) {
        if let Err(error) = ending::end(&self.client, &self.job_id).await {
            let reason = chain(&error);
            warn!(nomad.job_id = self.job_id, reason, "a job in Nomad could not be stopped yet");
        }
    }

    async fn follow(&mut self) -> Result<(), Stop> {
        let Some(allocation) = self.await_end().await? else { return Ok(()) };
        if allocation.client_status == "lost" {
            // There is no node to read from.
            return Err(Stop::Lost(sentences::lost(&allocation)));
        }
        self.read_events(&allocation).await
    }

    async fn send(&self, update: Update) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_closed| Stop::Unwanted)
    }

    /// Waits until the allocation is over. None when `finished` was passed on before.
    async fn await_end(&mut self) -> Result<Option<Allocation>, Stop> {
        let mut blocking = None;
        let mut peeked: Option<Instant> = None;
        let mut away = Away::default();
        loop {
            let answer = match self.client.allocations(&self.job_id, blocking).await {
                Ok(answer) => answer,
                Err(error) => {
                    away.pause(&self.job_id, &error).await;
                    blocking = None;
                    continue;
                }
            };
            away = Away::default();
            let first = blocking.is_none();
            // An index that goes back is of a restored server: begin anew.
            let behind = blocking.is_some_and(|last: Blocking| answer.index < last.index);
            let allocation = newest(answer.value);
            let wait = if first && allocation.is_none() { FIRST_WAIT } else { WAIT };
            blocking =
                (!behind && answer.index > 0).then_some(Blocking { index: answer.index, wait });
            match allocation {
                Some(allocation) => {
                    self.note(&allocation).await?;
                    if allocation.is_over() {
                        return Ok(Some(allocation));
                    }
                    let due = peeked.is_none_or(|last| last.elapsed() >= PEEK_PAUSE);
                    if allocation.client_status == "running" && due {
                        if self.peek(&allocation).await? {
                            return Ok(None);
                        }
                        peeked = Some(Instant::now());
                    }
                }
                None if first => {}
                None => self.explain_wait().await?,
            }
        }
    }

    /// Says where it is, once that is known and when it changes.
    async fn note(&mut self, allocation: &Allocation) -> Result<(), Stop> {
        let known = (allocation.id.clone(), allocation.node_id.clone());
        if self.allocation.as_ref() == Some(&known) {
            return Ok(());
        }
        if self.next_seq > 0 {
            // What a replacement says does not go on from there.
            return Err(Stop::Lost(REPLACED.to_owned()));
        }
        self.allocation = Some(known.clone());
        let (allocation_id, node_id) = known;
        debug!(nomad.job_id = self.job_id, alloc.id = allocation_id, "Nomad placed an attempt");
        self.send(Update::Placement(Placement::Nomad {
            job_id: self.job_id.clone(),
            evaluation_id: self.evaluation_id.clone(),
            allocation_id: Some(allocation_id),
            node_id: Some(node_id),
        }))
        .await
    }

    /// Says what a child without an allocation waits for, when that is known and changes.
    async fn explain_wait(&mut self) -> Result<(), Stop> {
        match self.client.job(&self.job_id).await {
            Ok(Some(job)) if !job.stop => {}
            Ok(_) => return Err(Stop::Lost("its job was removed from Nomad".to_owned())),
            Err(_) => return Ok(()),
        }
        // Whatever keeps the evaluation from being read will be told by the next query.
        let Ok(Some(evaluation)) = self.client.evaluation(&self.evaluation_id, None).await else {
            return Ok(());
        };
        let waiting = sentences::waiting(&evaluation.value);
        if waiting == self.waiting {
            return Ok(());
        }
        self.waiting.clone_from(&waiting);
        match waiting {
            Some(sentence) => self.send(Update::Waiting(sentence)).await,
            None => Ok(()),
        }
    }

    /// Passes on what an allocation that runs has said until now: that its runner has begun, which
    /// ends the time of waiting, and some output. Says whether that was all of it.
    async fn peek(&mut self, allocation: &Allocation) -> Result<bool, Stop> {
        let Ok(log) = self.client.stdout(&allocation.id, TASK).await else { return Ok(false) };
        match self.pass_on(log).await {
            Ok(Reading::Finished) => Ok(true),
            Err(Unread::Unwanted) => Err(Stop::Unwanted),
            // It is not over yet: another reading will tell.
            Ok(Reading::Incomplete(_)) | Err(Unread::Nomad(_)) => Ok(false),
        }
    }

    /// Passes on what an allocation that is over has said.
    async fn read_events(&mut self, allocation: &Allocation) -> Result<(), Stop> {
        let begun = Instant::now();
        let mut away = Away::default();
        let incomplete = loop {
            match self.read_once(allocation).await {
                Ok(Reading::Finished) => return Ok(()),
                Ok(Reading::Incomplete(what)) => break what,
                Err(Unread::Unwanted) => return Err(Stop::Unwanted),
                Err(Unread::Nomad(error)) => {
                    let nomad_answers = error.problem().is_some();
                    if nomad_answers && begun.elapsed() > READ_DEADLINE {
                        break "its log cannot be read from its node";
                    }
                    away.pause(&self.job_id, &error).await;
                }
            }
        };
        warn!(
            nomad.job_id = self.job_id,
            alloc.id = allocation.id,
            reason = incomplete,
            nomad.events = sentences::details(allocation),
            "an allocation ended without a result"
        );
        Err(Stop::Lost(sentences::lost(allocation)))
    }

    /// Reads the log, and the copy when the log is not whole.
    async fn read_once(&mut self, allocation: &Allocation) -> Result<Reading, Unread> {
        let log = match self.client.stdout(&allocation.id, TASK).await {
            Ok(log) => self.pass_on(log).await?,
            Err(error) if is_absent(&error) => Reading::Incomplete("it has no log"),
            Err(error) => return Err(error.into()),
        };
        let Reading::Incomplete(what) = log else { return Ok(log) };
        match self.client.file(&allocation.id, COPY).await {
            Ok(copy) => self.pass_on(copy).await,
            // The token may lack read-fs: then there is no copy for us.
            Err(error) if is_absent(&error) || error.problem() == Some(Problem::Forbidden) => {
                Ok(Reading::Incomplete(what))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Passes on the events of a stream that were not passed on before.
    async fn pass_on(&mut self, mut stream: LogStream) -> Result<Reading, Unread> {
        let mut decoder = LineDecoder::new();
        while let Some(chunk) = stream.next().await? {
            decoder.push(&chunk);
            loop {
                let event = match decoder.next_event() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => return Ok(Reading::Incomplete(name(&error))),
                };
                if event.seq > self.next_seq {
                    return Ok(Reading::Incomplete("its head is missing"));
                }
                if event.seq < self.next_seq {
                    continue;
                }
                self.next_seq += 1;
                let finished = matches!(event.kind, EventKind::Finished { .. });
                let sent = self.updates.send(Update::Event(event)).await;
                sent.map_err(|_closed| Unread::Unwanted)?;
                if finished {
                    return Ok(Reading::Finished);
                }
            }
        }
        Ok(Reading::Incomplete(match decoder.finish() {
            Ok(()) => "it ends without the end of the run",
            Err(error) => name(&error),
        }))
    }
}

fn is_absent(error: &NomadError) -> bool {
    matches!(error.problem(), Some(Problem::NoLogs | Problem::NotFound))
}

fn name(error: &LineError) -> &'static str {
    match error {
        LineError::Malformed(_) => "it holds a line that is no event",
        LineError::Version { .. } => "it is of another version of braindrill",
        LineError::TooLong => "it holds a line that is too long",
        LineError::Torn { .. } => "it ends within a line",
    }
}

/// A time in which Nomad does not answer.
#[derive(Default)]
struct Away {
    failures: u32,
}

impl Away {
    /// Says so, once, and waits a while.
    async fn pause(&mut self, job_id: &str, error: &NomadError) {
        if self.failures == 0 {
            let reason = chain(error);
            warn!(nomad.job_id = job_id, reason, "Nomad cannot be asked about a job: trying on");
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6));
        self.failures += 1;
        tokio::time::sleep(pause.min(MAX_PAUSE)).await;
    }
}
