//! Step 2, and what else the API may ask of the engine. Cheap to clone; every method may be called
//! at once by many.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{
    core::{Core, Ended},
    error::{ReadError, SubmitError},
    views::{
        Filter, MinuteStats, Page, PartStatus, Readiness, Stats, StreamView, Submitted, Summary,
        View,
    },
};
use crate::{
    backend::{BackendError, Worker},
    protocol::ExecutionRequest,
    sandbox::Stream,
    store::{
        self, Cancelled, EventReader, FileReader, Inserted, Kept, KeptOutput, Listed, OutputReader,
        Selection, StoredOutput,
    },
    submission::{
        CollectedFile, NewSubmission, Outcome, Owner, State, StateName, StreamSummary, Submission,
        SubmissionId,
    },
};

/// The most that a page holds.
const MAX_PAGE: u32 = 100;

/// The engine as the API sees it.
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn new(core: Arc<Core>) -> Handle {
        Handle { core }
    }

    /// Accepts a submission: when this returns, it is on disk.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(&self, new: NewSubmission) -> Result<Submitted, SubmitError> {
        self.submit_as(SubmissionId::new(self.core.now()), new).await
    }

    /// Accepts a submission, and waits until it is finished, or `patience` is over.
    ///
    /// # Errors
    /// See [`SubmitError`]; one that was accepted and cannot be read is [`SubmitError::Unavailable`].
    pub async fn submit_and_wait(
        &self,
        new: NewSubmission,
        patience: impl Future<Output = ()>,
    ) -> Result<Submitted, SubmitError> {
        let (mut id, owner) = (SubmissionId::new(self.core.now()), new.owner.clone());
        // Before it is there, so that its end is not missed and need not be looked for.
        let waiter = self.core.waiters.subscribe(id);
        let finished = waiter.finished();
        let submitted = self.submit_as(id, new).await?;
        if submitted.replayed {
            id = submitted.view.submission.id;
            let end = self.wait(&owner, id, Duration::MAX);
            tokio::select! { _ = end => {}, () = patience => {} }
        } else {
            tokio::select! { () = finished => {}, () = patience => {} }
        }
        match self.get(&owner, id).await {
            Ok(view) => Ok(Submitted { view, ..submitted }),
            // Deleted meanwhile; it was accepted as it was then.
            Err(ReadError::NotFound) => Ok(submitted),
            Err(ReadError::Unavailable(reason)) => Err(SubmitError::Unavailable(reason)),
            Err(error) => Err(SubmitError::Unavailable(error.to_string())),
        }
    }

    async fn submit_as(
        &self,
        id: SubmissionId,
        new: NewSubmission,
    ) -> Result<Submitted, SubmitError> {
        let core = &self.core;
        if core.soft.is_cancelled() {
            return Err(SubmitError::Unavailable("the service is shutting down".to_owned()));
        }
        let owner = new.owner.clone();
        let now = core.now();
        match core.store.insert_as(id, new, now).await? {
            Inserted::New(submission) => {
                tracing::info!(
                    submission.id = %submission.id,
                    language = submission.request.language,
                    "submission accepted"
                );
                core.observer.accepted(&submission.request.language);
                core.figures.accepted(now);
                core.wake();
                Ok(Submitted { view: self.view(*submission, Vec::new()), replayed: false })
            }
            Inserted::Replayed(id) => match self.get(&owner, id).await {
                Ok(view) => Ok(Submitted { view, replayed: true }),
                // Deleted since the key was looked up.
                Err(ReadError::BackendAway(reason)) => Err(SubmitError::Unavailable(reason)),
                Err(_) => Err(SubmitError::KeyGone),
            },
            Inserted::KeyReused => Err(SubmitError::KeyReused),
            Inserted::KeyGone => Err(SubmitError::KeyGone),
            Inserted::QueueFull => Err(SubmitError::QueueFull { limit: core.store.queue_limit() }),
        }
    }

    /// Accepts many at once, each for itself; answers in order.
    pub async fn submit_batch(
        &self,
        new: Vec<NewSubmission>,
    ) -> Vec<Result<Submitted, SubmitError>> {
        join_all(new.into_iter().map(|new| self.submit(new))).await
    }

    /// One submission as it stands.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn get(&self, owner: &Owner, id: SubmissionId) -> Result<View, ReadError> {
        let found = self.core.store.get(owner, id).await?;
        let (submission, outputs) = found.ok_or(ReadError::NotFound)?;
        Ok(self.view(submission, outputs))
    }

    /// One submission as soon as it is finished, or as it stands after `timeout`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn wait(
        &self,
        owner: &Owner,
        id: SubmissionId,
        timeout: Duration,
    ) -> Result<View, ReadError> {
        // Before the look, so that an end after it is not missed.
        let waiter = self.core.waiters.subscribe(id);
        let finished = waiter.finished();
        let view = self.get(owner, id).await?;
        if view.submission.state.name() == StateName::Finished {
            return Ok(view);
        }
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep(timeout) => {}
            () = self.core.hard.cancelled() => {}
        }
        self.get(owner, id).await
    }

    /// The owner's submissions, newest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn list(&self, owner: &Owner, filter: &Filter) -> Result<Page, ReadError> {
        let limit = filter.limit.clamp(1, MAX_PAGE);
        let selection = Selection {
            state: filter.state,
            language: filter.language.clone(),
            verdict: filter.verdict,
            before: filter.before,
        };
        // One more than asked for tells whether there is another page.
        let mut listed = self.core.store.list(owner, &selection, limit + 1).await?;
        let more = listed.len() > limit as usize;
        listed.truncate(limit as usize);
        let next = if more { listed.last().map(|last| last.id) } else { None };
        Ok(Page { items: listed.into_iter().map(summary).collect(), next })
    }

    /// The same submission, with [`View::both`].
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn with_both(&self, mut view: View) -> Result<View, ReadError> {
        let Submission { id, attempt, state, .. } = &view.submission;
        if let State::Finished { outcome: Outcome::Judged(report), .. } = state {
            for (run, report) in (0..).zip(&report.runs) {
                view.both.push(match store::written(report, None).bytes {
                    0 => Kept::default(),
                    _ => self.core.store.both(*id, *attempt, run).await?,
                });
            }
        }
        Ok(view)
    }

    /// What is kept of one stream of one run (from 0) until now, in the latest attempt; of both, in the
    /// order in which they were written, where no stream is named.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn output(
        &self,
        owner: &Owner,
        id: SubmissionId,
        run: u32,
        stream: Option<Stream>,
    ) -> Result<StreamView, ReadError> {
        let found = self.core.store.find(owner, id).await?;
        let submission = found.ok_or(ReadError::NotFound)?;
        let index = run as usize;
        if index >= submission.request.tests.len().max(1) {
            return Err(ReadError::NoSuchTest);
        }
        let (kept, mut size) = self.core.store.output(id, submission.attempt, run, stream).await?;
        if let State::Finished { outcome: Outcome::Judged(report), .. } = &submission.state {
            size = report.runs.get(index).map(|report| store::written(report, stream));
        }
        let so_far = StreamSummary { bytes: kept.bytes(), truncated: false };
        let StreamSummary { bytes, truncated } = size.unwrap_or(so_far);
        Ok(StreamView { kept, bytes, truncated })
    }

    /// A file of the work directory that was taken, with its size.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn file(
        &self,
        owner: &Owner,
        id: SubmissionId,
        path: &str,
    ) -> Result<(FileReader, u64), ReadError> {
        let found = self.core.store.find(owner, id).await?;
        let submission = found.ok_or(ReadError::NotFound)?;
        let State::Finished { outcome: Outcome::Judged(report), .. } = &submission.state else {
            return Err(ReadError::NoSuchFile);
        };
        let is_it = |(_, file): &(u32, &CollectedFile)| file.path == path && file.missed.is_none();
        let found = (0..).zip(&report.files).find(is_it);
        let (index, file) = found.ok_or(ReadError::NoSuchFile)?;
        Ok((self.core.store.read_file(id, index, file.bytes).await?, file.bytes))
    }

    /// What the runner of an attempt is to do, while the attempt is dispatching or running, whoever's
    /// it is. `None` for every other.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn request_in_flight(
        &self,
        id: SubmissionId,
        attempt: u32,
    ) -> Result<Option<Arc<ExecutionRequest>>, ReadError> {
        let sent = self.core.store.request_in_flight(id, attempt).await?;
        // For a runner that ends with it, and keeps nothing.
        let whole =
            |request| self.core.execution_request(id, attempt, Ok(request), false, None).ok();
        Ok(sent.and_then(whole))
    }

    /// Passes on that the runner of an attempt has said its last word; see [`crate::backend::Backend::nudge`].
    pub fn nudge(&self, id: SubmissionId, attempt: u32) {
        self.core.backend.nudge(id, attempt);
    }

    /// Follows a submission from its acceptance, or from behind the event with number `after`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn follow(
        &self,
        owner: &Owner,
        id: SubmissionId,
        after: Option<u64>,
    ) -> Result<EventReader, ReadError> {
        let found = self.core.store.follow(owner, id, after).await?;
        found.ok_or(ReadError::NotFound)
    }

    /// Reads the first `bytes` bytes of stored output, piece by piece.
    pub fn read(&self, output: &StoredOutput, bytes: u64) -> OutputReader {
        self.core.store.read_output(output, bytes)
    }

    /// Ends a submission, in whatever state. When this returns the cancellation is on disk, and the
    /// program is being ended.
    ///
    /// # Errors
    /// [`ReadError::Finished`] when it has ended before.
    pub async fn cancel(&self, owner: &Owner, id: SubmissionId) -> Result<View, ReadError> {
        let now = self.core.now();
        match self.core.store.cancel(owner, id, now).await? {
            Cancelled::Now { attempt, created_at } => {
                self.core.live.cancel(id);
                let outcome = &Outcome::Cancelled;
                self.core.announce(&Ended { id, attempt, created_at, at: now, outcome });
                self.get(owner, id).await
            }
            Cancelled::Before => Err(ReadError::Finished),
            Cancelled::NotFound => Err(ReadError::NotFound),
        }
    }

    /// Removes a submission: cancelled if need be, hidden at once, gone when its placements are clean.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn delete(&self, owner: &Owner, id: SubmissionId) -> Result<(), ReadError> {
        let now = self.core.now();
        match self.core.store.delete(owner, id, now).await? {
            Cancelled::Now { attempt, created_at } => {
                self.core.live.cancel(id);
                let outcome = &Outcome::Cancelled;
                self.core.announce(&Ended { id, attempt, created_at, at: now, outcome });
                Ok(())
            }
            Cancelled::Before => Ok(()),
            Cancelled::NotFound => Err(ReadError::NotFound),
        }
    }

    /// The places that code can run on.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] when the backend cannot be asked.
    pub async fn workers(&self) -> Result<Vec<Worker>, ReadError> {
        let asked = self.core.backend.workers().await;
        asked.map_err(|BackendError(reason)| ReadError::BackendAway(reason))
    }

    /// Figures of the engine now.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn stats(&self) -> Result<Stats, ReadError> {
        let counts = self.core.store.counts().await?;
        let figures = self.core.figures.snapshot(self.core.now());
        Ok(Stats {
            submissions: counts.into_iter().map(|(state, n)| (state.as_str(), n)).collect(),
            accepted_last_minute: figures.accepted_last_minute,
            finished_last_minute: figures.finished_last_minute,
            latency: figures.latency,
        })
    }

    /// What happened in each minute of the last hour since the start, oldest first.
    pub fn history(&self) -> Vec<MinuteStats> {
        self.core.figures.history(self.core.now())
    }

    /// Whether submissions are taken, and how each part is.
    pub async fn readiness(&self) -> Readiness {
        let core = &self.core;
        let mut store = core.store.trouble();
        if store.is_some() {
            // Nothing else may be writing that would show that it works again.
            store = core.store.probe().await.err();
        }
        let draining = core.soft.is_cancelled();
        let accepting = store.is_none() && !draining;
        let status = |trouble: Option<String>| match trouble {
            None => PartStatus::Ok,
            Some(reason) => PartStatus::Degraded(reason),
        };
        let parts = BTreeMap::from([
            ("store", status(store.map(|error| error.public().to_owned()))),
            ("backend", status(core.breaker.reason().or_else(|| core.backend.trouble()))),
            ("dispatcher", status(draining.then(|| "shutting down".to_owned()))),
        ]);
        Readiness { accepting, parts }
    }

    fn view(&self, mut submission: Submission, outputs: Vec<KeptOutput>) -> View {
        if submission.state == State::Queued && submission.waiting_for.is_none() {
            submission.waiting_for = self.core.breaker.reason();
        }
        View { submission, outputs, both: Vec::new() }
    }
}

fn summary(listed: Listed) -> Summary {
    let Listed { id, state, language, created_at, started_at, finished_at, attempt, verdict } =
        listed;
    Summary { id, state, language, created_at, started_at, finished_at, attempt, verdict }
}
