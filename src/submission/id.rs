//! Who and which: the identity of a submission and of its owner.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// The identity of a submission: a UUIDv7 (RFC 9562), lower-case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SubmissionId(Uuid);

impl SubmissionId {
    /// A new id for a submission accepted at `now`; ids made later sort later.
    pub fn new(now: Timestamp) -> Self {
        let millis = now.as_millis().max(0) as u64;
        let (seconds, nanos) = (millis / 1000, (millis % 1000) as u32 * 1_000_000);
        SubmissionId(Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::ContextV7::new(),
            seconds,
            nanos,
        )))
    }

    /// From a UUID that is already known to be one of ours.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        SubmissionId(uuid)
    }

    /// As a UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for SubmissionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for SubmissionId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(SubmissionId).map_err(|_| InvalidId)
    }
}

/// A text that is not the id of any submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a submission id")]
pub struct InvalidId;

/// Whom a submission belongs to; `anonymous` until there are tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

impl Owner {
    /// The owner of everything sent without a token.
    pub fn anonymous() -> Self {
        Owner("anonymous".to_owned())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
