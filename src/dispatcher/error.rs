//! Why the engine did not do what the API asked of it.

use crate::store::StoreError;

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
    /// There is no such file, or not yet.
    #[error("no such file")]
    NoSuchFile,
    /// It is finished already (cancel only).
    #[error("the submission is finished already")]
    Finished,
    /// Its program cannot be talked to (attach only).
    #[error("the submission is not interactive")]
    NotInteractive,
    /// The store cannot answer now.
    #[error("the store cannot answer now: {0}")]
    Unavailable(String),
    /// The backend cannot answer now, as a sentence.
    #[error("{0}")]
    BackendAway(String),
}

impl From<StoreError> for SubmitError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a submission could not be stored");
        SubmitError::Unavailable(error.public().to_owned())
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the store could not answer");
        ReadError::Unavailable(error.public().to_owned())
    }
}
