//! The words of the exchange: paths, headers, and what both ends say beside requests and events.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{protocol::VERSION, sandbox::Layer};

/// What both ends must be of: the release, then the version of the protocol. A worker of another one
/// refuses, since limits and verdicts may differ where lines do not.
pub const RELEASE: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

// The literal above has no other way to know.
const _: () = assert!(VERSION == 1);

/// The header with the sender's [`RELEASE`].
pub(super) const RELEASE_HEADER: &str = "braindrill-release";

/// The header of an answer that names the lease.
pub(super) const LEASE_HEADER: &str = "braindrill-lease";

/// Where requests go.
pub(super) const EXECUTIONS: &str = "v1/executions";

/// What is behind the name of a lease where its program's input goes.
pub(super) const INPUT: &str = "input";

/// Where a worker says what it is.
pub(super) const WORKER: &str = "v1/worker";

/// Where anybody may ask whether it is there: Consul's check.
pub(super) const HEALTH: &str = "healthz/live";

/// How often a worker says something while the program does not, so that silence means trouble.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long a worker may be silent before its run is given up: five heartbeats.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// How long a daemon may take nothing of what a worker sends before the worker ends its run
/// (TCP_USER_TIMEOUT, tcp(7)).
pub(super) const UNREAD: Duration = Duration::from_secs(10);

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Names it; another after a restart.
    pub id: String,
    /// For people.
    pub name: String,
    /// Its [`RELEASE`].
    pub release: String,
    /// Attempts at once.
    pub slots: usize,
    /// Attempts now.
    pub busy: usize,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// The languages whose tool chains it has, by id.
    pub languages: Vec<String>,
    /// What its sandbox is made of.
    pub layers: Vec<Layer>,
}

/// Why a worker does not take an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// All slots are taken.
    Busy,
    /// It is about to end.
    Draining,
    /// It is of another release.
    Release,
    /// The secret is not its own.
    Secret,
    /// Its disk has no room for compiled programs.
    NoRoom,
    /// The request is none.
    Malformed,
}

/// The body of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) refused: RefusalKind,
    /// A sentence, for logs.
    pub(super) detail: String,
}
