//! The vocabulary: what a submission is, which states it passes and how it can end.
//!
//! Pure data and pure functions, no I/O. Everything else in the crate speaks these words; see
//! `docs/states.md` for the picture of the states.

mod blob;
mod clock;
mod id;
mod limits;
mod outcome;
mod request;
mod state;

pub use blob::Blob;
pub use clock::{Clock, SystemClock, Timestamp};
pub use id::{InvalidId, Owner, SubmissionId};
pub use limits::{
    LimitViolation, Limits, MAX_CUSTOM_CHECKERS, MAX_INTERACTIVE_WALL_MS, MAX_TOTAL_WALL_MS,
    MAXIMUM, MINIMUM_MEMORY_BYTES,
};
pub use outcome::{
    CollectedFile, CompileReport, Fault, FaultKind, Outcome, Output, Report, RunReport,
    StreamSummary, Verdict,
};
pub use request::{
    Checker, Encoding, Interactive, NewSubmission, SourceFile, SubmissionRequest, Test,
};
pub use state::{InvalidTransition, Lease, Placement, State, StateName};

/// One submission as the store knows it: what a user sent, where it stands and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Its identity, a UUIDv7, so that ids sort by age.
    pub id: SubmissionId,
    /// Whom it belongs to.
    pub owner: Owner,
    /// What was sent, with every default filled in.
    pub request: SubmissionRequest,
    /// Where it stands.
    pub state: State,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its latest attempt began to run; absent while it never has.
    pub started_at: Option<Timestamp>,
    /// The number of the latest attempt, from 1; 0 while it was never claimed.
    pub attempt: u32,
    /// What a queued submission waits for, as a sentence.
    pub waiting_for: Option<String>,
    /// Where the latest attempt was placed; kept after the end.
    pub placement: Option<Placement>,
}

impl Submission {
    /// One that was just accepted.
    pub fn queued(
        id: SubmissionId,
        owner: Owner,
        request: SubmissionRequest,
        now: Timestamp,
    ) -> Submission {
        Submission {
            id,
            owner,
            request,
            state: State::Queued,
            created_at: now,
            started_at: None,
            attempt: 0,
            waiting_for: None,
            placement: None,
        }
    }
}
