//! What the API may ask of the engine. Cheap to clone; every method may be called at once by many.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    backend::Worker,
    sandbox::Stream,
    submission::{
        Blob, NewSubmission, Output, Owner, StateName, Submission, SubmissionId, Timestamp, Verdict,
    },
};

/// The engine as the API sees it.
#[derive(Debug, Clone)]
pub struct Handle {}

/// A submission with the output that is kept of its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The submission.
    pub submission: Submission,
    /// Kept output of the runs of the attempt that gave the outcome, in run order; empty until then.
    pub outputs: Vec<RunOutput>,
}

/// Kept output of one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunOutput {
    /// Of stdout.
    pub stdout: Blob,
    /// Of stderr.
    pub stderr: Blob,
}

/// What became of a submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The submission, new or that of the earlier request.
    pub view: View,
    /// Whether it is that of an earlier request with the same key.
    pub replayed: bool,
}

/// Which submissions to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<StateName>,
    /// Only in this language, by id.
    pub language: Option<String>,
    /// Only with this verdict.
    pub verdict: Option<Verdict>,
    /// Only older than this: the last of the page before.
    pub before: Option<SubmissionId>,
    /// At most so many, 1 to 100.
    pub limit: u32,
}

/// One line of a list: no request, no runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its identity.
    pub id: SubmissionId,
    /// Where it stands.
    pub state: StateName,
    /// The id of its language.
    pub language: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its latest attempt began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// How it ended.
    pub verdict: Option<Verdict>,
}

/// Part of a list, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The items.
    pub items: Vec<Summary>,
    /// The `before` of the next page, when there is one.
    pub next: Option<SubmissionId>,
}

/// Figures of the engine now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Submissions in each state; all four names are present.
    pub submissions: BTreeMap<&'static str, u64>,
    /// Accepted during the last minute.
    pub accepted_last_minute: u64,
    /// Finished during the last minute.
    pub finished_last_minute: u64,
    /// From accept to finish, over the last hour at the most, of those finished since the start:
    /// p50, p90, p99; absent while there are none.
    pub latency: Option<[Duration; 3]>,
}

/// Whether submissions are taken, and how each part is.
#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    /// Whether submissions are taken.
    pub accepting: bool,
    /// `store`, `backend`, `dispatcher`, each with how it is.
    pub parts: BTreeMap<&'static str, PartStatus>,
}

/// How one part is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartStatus {
    /// As it should.
    Ok,
    /// Not as it should, in a sentence that names nothing inside.
    Degraded(String),
}

/// Why a submission was not accepted. Nothing of it is stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; try again later.
    #[error("the queue is full: {limit} submissions wait")]
    QueueFull {
        /// The most that may wait.
        limit: u64,
    },
    /// The key was used before, with another request.
    #[error("this idempotency key belongs to another request")]
    KeyReused,
    /// The key's submission was deleted less than 24 h ago.
    #[error("the submission of this idempotency key was deleted")]
    KeyGone,
    /// The store cannot write now: disk full, or shutting down.
    #[error("submissions cannot be stored now: {0}")]
    Unavailable(String),
}

/// Why a submission could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is none with this id for this owner.
    #[error("no such submission")]
    NotFound,
    /// There is no such run.
    #[error("no such test")]
    NoSuchTest,
    /// It is finished already (cancel only).
    #[error("the submission is finished already")]
    Finished,
    /// The store cannot answer now.
    #[error("the store cannot answer now: {0}")]
    Unavailable(String),
}

impl Handle {
    /// Accepts a submission: when this returns, it is on disk.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(&self, new: NewSubmission) -> Result<Submitted, SubmitError> {
        let _ = new;
        todo!()
    }

    /// Accepts many at once, each for itself; answers in order.
    pub async fn submit_batch(
        &self,
        new: Vec<NewSubmission>,
    ) -> Vec<Result<Submitted, SubmitError>> {
        let _ = new;
        todo!()
    }

    /// One submission as it stands.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn get(&self, owner: &Owner, id: SubmissionId) -> Result<View, ReadError> {
        let _ = (owner, id);
        todo!()
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
        let _ = (owner, id, timeout);
        todo!()
    }

    /// The owner's submissions, newest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn list(&self, owner: &Owner, filter: &Filter) -> Result<Page, ReadError> {
        let _ = (owner, filter);
        todo!()
    }

    /// What is kept of one stream of one run (from 0) until now, in the latest attempt.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn output(
        &self,
        owner: &Owner,
        id: SubmissionId,
        run: u32,
        stream: Stream,
    ) -> Result<Output, ReadError> {
        let _ = (owner, id, run, stream);
        todo!()
    }

    /// Ends a submission, in whatever state. When this returns the cancellation is on disk, and the
    /// program is being ended.
    ///
    /// # Errors
    /// [`ReadError::Finished`] when it has ended before.
    pub async fn cancel(&self, owner: &Owner, id: SubmissionId) -> Result<View, ReadError> {
        let _ = (owner, id);
        todo!()
    }

    /// Removes a submission: cancelled if need be, hidden at once, gone when its placements are clean.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn delete(&self, owner: &Owner, id: SubmissionId) -> Result<(), ReadError> {
        let _ = (owner, id);
        todo!()
    }

    /// The places that code can run on.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] when the backend cannot be asked.
    pub async fn workers(&self) -> Result<Vec<Worker>, ReadError> {
        todo!()
    }

    /// Figures of the engine now.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn stats(&self) -> Result<Stats, ReadError> {
        todo!()
    }

    /// Whether submissions are taken, and how each part is.
    pub async fn readiness(&self) -> Readiness {
        todo!()
    }
}
