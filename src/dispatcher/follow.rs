//! Step 8: an attempt's events, from the backend into the store, until its end.
//!
//! ```text
//!   backend ── Update ──> Follower ── append, at 50 ms or 64 KiB ──> store (lazily)
//!                            └── at the end, whatever is not known to be stored, with the outcome
//! ```

mod buffer;
mod patience;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{buffer::Buffer, patience::Patience};
use super::{attempt::Resume, core::Core, reaper};
use crate::{
    backend::{Execution, Update},
    protocol::{
        Event, EventKind, ExecutionRequest, ExecutionResult, MAX_CHUNK_BYTES,
        MAX_KEPT_OUTPUT_BYTES, Turns, VERSION,
    },
    sandbox::{MAX_TAKEN_BYTES, MAX_TAKEN_FILES, Stream},
    store::{Claim, EventData, NewEvent, Pending, Step, StoreError},
    submission::{Blob, Placement, SubmissionRequest},
};

/// How long events wait to be stored together.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// The same where somebody follows the submission, who is shown events once they are stored.
const FLUSH_FOLLOWED: Duration = Duration::from_millis(5);

/// The weight of events that are stored together.
const FLUSH_WEIGHT: usize = 64 << 10;

/// The weight of events handed to the store and not known to be stored; past it the program waits.
const UNCONFIRMED_WEIGHT: usize = 1 << 20;

/// How following ended.
pub(super) enum Follow {
    /// The runner has said its last word.
    Finished {
        /// What it was.
        result: Box<ExecutionResult>,
        /// Events that may not be stored yet.
        events: Vec<NewEvent>,
    },
    /// The attempt is lost, as a sentence: why.
    Lost(String),
    /// It was placed but did not begin in time, as a sentence: what it waited for.
    Overdue(String),
    /// Its user has ended it.
    Cancelled,
    /// The process is ending.
    Stopped,
}

/// Follows an execution to its end. `execution` is kept, with its latest placement.
pub(super) async fn follow(
    core: &Core,
    claim: &Claim,
    request: &ExecutionRequest,
    execution: &mut Execution,
    cancelled: &CancellationToken,
    resume: Resume,
) -> Follow {
    let mut follower = Follower::new(core, claim, request, execution.placement.clone(), resume);
    if !resume.placed {
        follower.place().await;
    }
    loop {
        let step = tokio::select! {
            biased;
            () = core.hard.cancelled() => return Follow::Stopped,
            () = cancelled.cancelled() => return Follow::Cancelled,
            () = tokio::time::sleep_until(follower.due) => follower.flush().await,
            update = execution.events.recv() => match update {
                Some(Update::Event(event)) => follower.event(event).await,
                Some(Update::Placement(placement)) => {
                    execution.placement = placement.clone();
                    follower.moved(placement).await
                }
                Some(Update::Waiting(waiting_for)) => follower.waiting(waiting_for).await,
                Some(Update::Reachable(yes)) => follower.reachable(yes),
                Some(Update::Lost(reason)) => Err(Follow::Lost(reason)),
                None => Err(Follow::Lost("its events ended without a result".to_owned())),
            },
            () = tokio::time::sleep_until(follower.patience.deadline()) => Err(follower.late()),
        };
        if let Err(end) = step {
            return end;
        }
    }
}

struct Follower<'a> {
    core: &'a Core,
    claim: &'a Claim,
    budget: Duration,
    runs: u32,
    request: &'a SubmissionRequest,
    /// Pieces of files that came.
    pieces: usize,
    started: bool,
    next_seq: u64,
    output: u64,
    placement: Placement,
    waiting_for: Option<String>,
    placing: Option<Pending<Step>>,
    /// Not handed to the store yet.
    buffer: Buffer,
    /// Handed over and not stored, older than all that follow; with their weight.
    failed: (Vec<NewEvent>, usize),
    /// Handed over, not known to be stored.
    unconfirmed: VecDeque<(Pending<Step>, Vec<NewEvent>, usize)>,
    /// When the buffer is to be handed over.
    due: Instant,
    patience: Patience,
}

/// Pieces of files that an honest runner sends at the most.
const MOST_PIECES: usize = MAX_TAKEN_FILES + MAX_TAKEN_BYTES as usize / MAX_CHUNK_BYTES;

/// Far enough away to mean never.
const NEVER: Duration = Duration::from_hours(24 * 365);

impl<'a> Follower<'a> {
    fn new(
        core: &'a Core,
        claim: &'a Claim,
        request: &'a ExecutionRequest,
        placement: Placement,
        resume: Resume,
    ) -> Follower<'a> {
        let now = Instant::now();
        let budget = core.budget(request);
        let patience = if resume.started {
            budget
        } else {
            core.settings.queue_timeout.saturating_sub(core.now().since(claim.queued_at))
        };
        Follower {
            core,
            claim,
            budget,
            runs: request.request.tests.len().max(1) as u32,
            request: &request.request,
            pieces: 0,
            started: resume.started,
            next_seq: resume.next_seq,
            output: 0,
            placement,
            waiting_for: None,
            placing: None,
            buffer: Buffer::default(),
            failed: Default::default(),
            unconfirmed: VecDeque::new(),
            due: now + NEVER,
            patience: Patience::new(now, patience, core.settings.queue_timeout),
        }
    }

    async fn place(&mut self) {
        // A failure shows at the next flush.
        let placing = self.core.store.place(self.claim, &self.placement, self.core.now()).await;
        self.placing = placing.ok();
        self.due = Instant::now() + FLUSH_AFTER;
    }

    async fn moved(&mut self, placement: Placement) -> Result<(), Follow> {
        self.placement = placement;
        let _ = self.core.store.replace(self.claim, &self.placement).await;
        Ok(())
    }

    async fn waiting(&mut self, waiting_for: String) -> Result<(), Follow> {
        if !self.started && self.waiting_for.as_ref() != Some(&waiting_for) {
            let _ = self.core.store.note_waiting(self.claim, waiting_for.clone()).await;
            self.waiting_for = Some(waiting_for);
        }
        Ok(())
    }

    /// An attempt that has not begun waits for the backend anyway, and its time goes on.
    fn reachable(&mut self, yes: bool) -> Result<(), Follow> {
        match yes {
            true => self.patience.resume(Instant::now()),
            false if self.started => self.patience.pause(Instant::now()),
            false => {}
        }
        Ok(())
    }

    fn late(&self) -> Follow {
        if self.patience.is_paused() {
            let seconds = self.core.settings.queue_timeout.as_secs();
            return Follow::Lost(format!("it could not be asked about for {seconds} s"));
        }
        if self.started {
            let seconds = self.budget.as_secs();
            return Follow::Lost(format!("it gave no result within {seconds} s"));
        }
        let waited = self.core.now().since(self.claim.queued_at);
        Follow::Overdue(reaper::overdue_message(waited, self.waiting_for.as_deref()))
    }

    async fn event(&mut self, event: Event) -> Result<(), Follow> {
        if event.v != VERSION {
            let theirs = event.v;
            return Err(Follow::Lost(format!("its runner speaks version {theirs}, not {VERSION}")));
        }
        if event.seq < self.next_seq {
            return self.repeated(event);
        }
        if event.seq > self.next_seq {
            let (missing, next) = (self.next_seq, event.seq);
            return Err(Follow::Lost(format!("events {missing} to {} did not arrive", next - 1)));
        }
        self.next_seq += 1;
        let at = self.core.now();
        let data = match event.kind {
            EventKind::Started => {
                self.started = true;
                self.patience.begin(Instant::now(), self.budget);
                EventData::Started
            }
            EventKind::Compiled { compile } => {
                self.core.observer.compiled(compile.cached);
                EventData::Compiled(compile)
            }
            EventKind::Stdout { run, data, turns } => {
                self.output(run, Stream::Stdout, data, turns)?
            }
            EventKind::Stderr { run, data, turns } => {
                self.output(run, Stream::Stderr, data, turns)?
            }
            EventKind::File { file, data } => {
                self.pieces += 1;
                // An honest runner fills each but the last of a file.
                if self.request.collect.is_empty() || self.pieces > MOST_PIECES {
                    return Err(Follow::Lost("its runner sent files that nobody wants".to_owned()));
                }
                EventData::File { file, data: self.within_what_is_kept(data) }
            }
            EventKind::RunFinished { run, report } => {
                EventData::RunFinished { run: self.known_run(run)?, report }
            }
            EventKind::Finished { result } => {
                self.buffer.push(event.seq, at, EventData::Finished);
                return Err(self.finished(result));
            }
        };
        if self.buffer.is_empty() {
            let followed = self.core.store.is_followed(self.claim.id);
            let wait = if followed { FLUSH_FOLLOWED } else { FLUSH_AFTER };
            self.due = self.due.min(Instant::now() + wait);
        }
        self.buffer.push(event.seq, at, data);
        let weight = self.buffer.weight() + self.failed.1;
        if weight >= FLUSH_WEIGHT { self.flush().await } else { Ok(()) }
    }

    /// A repeat is nothing new, but for a last word whose outcome was not stored with it.
    fn repeated(&mut self, event: Event) -> Result<(), Follow> {
        match event.kind {
            EventKind::Finished { result } => Err(self.finished(result)),
            _ => Ok(()),
        }
    }

    /// A last word. What it says of files has to be of those that were asked for: clients save them by these
    /// names.
    fn finished(&mut self, result: ExecutionResult) -> Follow {
        if let ExecutionResult::Report(report) = &result
            && !report.files.iter().all(|file| self.request.asks_for(&file.path))
        {
            return Follow::Lost("its runner took files that nobody asked for".to_owned());
        }
        Follow::Finished { result: Box::new(result), events: self.unstored() }
    }

    fn known_run(&self, run: u32) -> Result<u32, Follow> {
        if run < self.runs {
            return Ok(run);
        }
        Err(Follow::Lost(format!("its runner spoke of run {run}, of {} in all", self.runs)))
    }

    fn output(
        &mut self,
        run: u32,
        stream: Stream,
        data: Blob,
        turns: Turns,
    ) -> Result<EventData, Follow> {
        let run = self.known_run(run)?;
        Ok(EventData::Output { run, stream, data: self.within_what_is_kept(data), turns })
    }

    /// The runner cuts at this bound too; an honest one never comes here with more.
    fn within_what_is_kept(&mut self, data: Blob) -> Bytes {
        let room = MAX_KEPT_OUTPUT_BYTES.saturating_sub(self.output);
        let kept = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.output += kept as u64;
        data.0.slice(..kept)
    }

    /// Hands the buffer to the store, and looks what became of what was handed over before.
    async fn flush(&mut self) -> Result<(), Follow> {
        self.confirm_placing().await?;
        self.confirm()?;
        while self.unconfirmed.iter().map(|(_, _, weight)| weight).sum::<usize>()
            > UNCONFIRMED_WEIGHT
        {
            let Some((pending, _, _)) = self.unconfirmed.front_mut() else { break };
            let hard = self.core.hard.cancelled();
            let stored = tokio::select! {
                stored = pending.done() => stored,
                () = hard => return Err(Follow::Stopped),
            };
            self.settle(stored)?;
        }
        // After a failure, those behind it fail too; all of them are sent once more, in order.
        let in_order = self.failed.0.is_empty() || self.unconfirmed.is_empty();
        if in_order && !(self.failed.0.is_empty() && self.buffer.is_empty()) {
            let (mut events, weight) = std::mem::take(&mut self.failed);
            let (more, more_weight) = self.buffer.take();
            events.extend(more);
            let weight = weight + more_weight;
            match self.core.store.append(self.claim, events.clone()).await {
                Ok(pending) => self.unconfirmed.push_back((pending, events, weight)),
                Err(_) => return Err(Follow::Stopped),
            }
        }
        let open = self.placing.is_some() || !self.unconfirmed.is_empty() || !in_order;
        self.due = Instant::now() + if open { FLUSH_AFTER } else { NEVER };
        Ok(())
    }

    async fn confirm_placing(&mut self) -> Result<(), Follow> {
        match self.placing.as_mut().and_then(Pending::peek) {
            None => Ok(()),
            Some(Ok(Step::Done)) => {
                self.placing = None;
                Ok(())
            }
            Some(Ok(Step::Conflict)) => Err(Follow::Cancelled),
            Some(Err(StoreError::Closed)) => Err(Follow::Stopped),
            Some(Err(_)) => {
                self.place().await;
                Ok(())
            }
        }
    }

    fn confirm(&mut self) -> Result<(), Follow> {
        while let Some((pending, _, _)) = self.unconfirmed.front_mut() {
            match pending.peek() {
                None => break,
                Some(stored) => self.settle(stored)?,
            }
        }
        Ok(())
    }

    /// Takes note of what became of the oldest that was handed over.
    fn settle(&mut self, stored: Result<Step, StoreError>) -> Result<(), Follow> {
        let Some((_, events, weight)) = self.unconfirmed.pop_front() else { return Ok(()) };
        match stored {
            Ok(Step::Done) => Ok(()),
            Ok(Step::Conflict) => Err(Follow::Cancelled),
            Err(StoreError::Closed) => Err(Follow::Stopped),
            Err(_) => {
                self.failed.0.extend(events);
                self.failed.1 += weight;
                Ok(())
            }
        }
    }

    fn unstored(&mut self) -> Vec<NewEvent> {
        let handed_over = self.unconfirmed.drain(..).flat_map(|(_, events, _)| events);
        self.failed.0.drain(..).chain(handed_over).chain(self.buffer.take().0).collect()
    }
}
