//! Where a submission stands, and the only ways from one state to the next.
//!
//! Each transition has one twin in SQL (`claim`, `transitions`, `finish` and
//! `cancel` in `store/`), guarded by the old state.

use serde::{Deserialize, Serialize};

use super::{Outcome, Timestamp};

/// Where a submission stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Accepted and waiting.
    Queued,
    /// Claimed: a backend is being asked to run it.
    Dispatching {
        /// From 1.
        attempt: u32,
        /// The right to act for this attempt.
        lease: Lease,
    },
    /// Placed: its program runs, or is about to.
    Running {
        /// From 1.
        attempt: u32,
        /// Where.
        placement: Placement,
    },
    /// Over, for good.
    Finished {
        /// How.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

/// The name of a [`State`], as it stands in JSON and SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// [`State::Queued`].
    Queued,
    /// [`State::Dispatching`].
    Dispatching,
    /// [`State::Running`].
    Running,
    /// [`State::Finished`].
    Finished,
}

impl StateName {
    /// The word as it stands in JSON and SQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            StateName::Queued => "queued",
            StateName::Dispatching => "dispatching",
            StateName::Running => "running",
            StateName::Finished => "finished",
        }
    }
}

impl std::fmt::Display for StateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The right of one daemon process to act for one attempt: a random number, new with each claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(pub i64);

/// Where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Placement {
    /// In a slot of the daemon's own machine; gone with the daemon.
    Local,
    /// In a Nomad allocation.
    Nomad {
        /// The dispatched child job.
        job_id: String,
        /// The evaluation that the dispatch made.
        evaluation_id: String,
        /// The allocation, once there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allocation_id: Option<String>,
        /// The node it is on, once known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_id: Option<String>,
    },
    /// In a slot of a warm worker; gone with the connection to it.
    Pool {
        /// The worker's id, another after a restart.
        worker_id: String,
        /// Where it is: a URL.
        address: String,
        /// Names the slot to the worker.
        lease: String,
    },
}

/// A step that the states do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {from} submission cannot {step}")]
pub struct InvalidTransition {
    /// The state it is in.
    pub from: StateName,
    /// What was tried: claim, place, requeue or finish.
    pub step: &'static str,
}

impl State {
    /// The name of this state.
    pub const fn name(&self) -> StateName {
        match self {
            State::Queued => StateName::Queued,
            State::Dispatching { .. } => StateName::Dispatching,
            State::Running { .. } => StateName::Running,
            State::Finished { .. } => StateName::Finished,
        }
    }

    fn refuse(&self, step: &'static str) -> InvalidTransition {
        InvalidTransition { from: self.name(), step }
    }

    /// Queued to dispatching: the dispatcher takes it for attempt number `attempt`.
    ///
    /// # Errors
    /// From any other state.
    pub fn claim(self, attempt: u32, lease: Lease) -> Result<State, InvalidTransition> {
        match self {
            State::Queued => Ok(State::Dispatching { attempt, lease }),
            other => Err(other.refuse("claim")),
        }
    }

    /// Dispatching to running: the backend has placed it.
    ///
    /// # Errors
    /// From any other state.
    pub fn place(self, placement: Placement) -> Result<State, InvalidTransition> {
        match self {
            State::Dispatching { attempt, .. } => Ok(State::Running { attempt, placement }),
            other => Err(other.refuse("place")),
        }
    }

    /// Dispatching or running back to queued: the attempt was lost, or the backend was away.
    ///
    /// # Errors
    /// From any other state.
    pub fn requeue(self) -> Result<State, InvalidTransition> {
        match self {
            State::Dispatching { .. } | State::Running { .. } => Ok(State::Queued),
            other => Err(other.refuse("requeue")),
        }
    }

    /// Any state but finished to finished.
    ///
    /// # Errors
    /// When it is finished already: the first outcome stays.
    pub fn finish(self, outcome: Outcome, at: Timestamp) -> Result<State, InvalidTransition> {
        match self {
            State::Finished { .. } => Err(self.refuse("finish")),
            _ => Ok(State::Finished { outcome, at }),
        }
    }
}
