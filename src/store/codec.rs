//! Rows to values and back.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::StoreError;
use crate::submission::{
    Lease, Outcome, Owner, Placement, State, StateName, Submission, SubmissionId,
    SubmissionRequest, Timestamp, Verdict,
};

/// Requests shorter than this stay JSON: zstd's frame would eat the gain.
const COMPRESS_FROM: usize = 512;

/// The first bytes of every zstd frame (RFC 8878, section 3.1.1); JSON never begins with them.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The longest request that is read back: the body limit with room for what defaults add.
const MAX_REQUEST_BYTES: u64 = 256 << 20;

/// The columns that [`submission`] reads, joined with the request.
macro_rules! submission_columns {
    () => {
        "s.pk, s.id, s.owner, s.state, s.attempt, s.lease, s.created_ms, s.started_ms, \
         s.finished_ms, s.waiting_for, s.placement, s.outcome, r.request"
    };
}
pub(super) use submission_columns;

/// 62 random bits, from the generator that makes ids.
pub(super) fn random() -> i64 {
    let id = SubmissionId::new(Timestamp::from_millis(0)).as_uuid().as_u128();
    // The two bits above are the UUID's variant; the counter's and the random bits are mixed, so
    // that any part of the result is as good as any other.
    let hash = blake3::hash(&id.to_le_bytes());
    let bytes = hash.as_bytes();
    i64::from_le_bytes([
        bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7],
    ]) & i64::MAX
}

/// The 16 bytes of an id.
pub(super) fn id_bytes(id: SubmissionId) -> Vec<u8> {
    id.as_uuid().as_bytes().to_vec()
}

/// An id from its 16 bytes.
pub(super) fn id_from(bytes: &[u8]) -> Result<SubmissionId, StoreError> {
    Uuid::from_slice(bytes)
        .map(SubmissionId::from_uuid)
        .map_err(|_| StoreError::Unreadable("an id is not 16 bytes long".to_owned()))
}

/// JSON of a value of ours.
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our types have string keys and finite numbers")
}

/// A value of ours from its JSON.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Unreadable(format!("{what}: {error}")))
}

/// The canonical bytes of a request: what is stored and what identifies it.
pub(super) fn canonical(request: &SubmissionRequest) -> Vec<u8> {
    json(request).into_bytes()
}

/// As stored: in zstd where that is shorter.
pub(super) fn pack(json: Vec<u8>) -> Vec<u8> {
    if json.len() < COMPRESS_FROM {
        return json;
    }
    match zstd::bulk::compress(&json, 1) {
        Ok(packed) if packed.len() < json.len() => packed,
        _ => json,
    }
}

/// A request as stored.
pub(super) fn unpack(stored: &[u8]) -> Result<SubmissionRequest, StoreError> {
    let json = if stored.starts_with(&ZSTD_MAGIC) {
        let unreadable = |what: &str| StoreError::Unreadable(format!("a request: {what}"));
        let length = match zstd::zstd_safe::get_frame_content_size(stored) {
            Ok(Some(length)) if length <= MAX_REQUEST_BYTES => length as usize,
            _ => return Err(unreadable("its length is not known")),
        };
        let json = zstd::bulk::decompress(stored, length)
            .map_err(|error| unreadable(&error.to_string()))?;
        Cow::Owned(json)
    } else {
        Cow::Borrowed(stored)
    };
    from_json("a request", &json)
}

/// A state by its word.
pub(super) fn state_name(word: &str) -> Result<StateName, StoreError> {
    [StateName::Queued, StateName::Dispatching, StateName::Running, StateName::Finished]
        .into_iter()
        .find(|name| name.as_str() == word)
        .ok_or_else(|| StoreError::Unreadable(format!("no state is called {word}")))
}

/// A verdict by its word.
pub(super) fn verdict(word: String) -> Result<Verdict, StoreError> {
    serde_json::from_value(serde_json::Value::String(word))
        .map_err(|error| StoreError::Unreadable(format!("a verdict: {error}")))
}

/// A point in time in a column that may be empty.
pub(super) fn timestamp(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis))
}

/// A submission from the columns of [`submission_columns`].
pub(super) fn submission(row: &SqliteRow) -> Result<Submission, StoreError> {
    let missing = |what| StoreError::Unreadable(format!("a submission without its {what}"));
    let id = id_from(row.try_get("id")?)?;
    let attempt: u32 = row.try_get("attempt")?;
    let placement: Option<Placement> = row
        .try_get::<Option<&str>, _>("placement")?
        .map(|json| from_json("a placement", json.as_bytes()))
        .transpose()?;
    let state = match state_name(row.try_get("state")?)? {
        StateName::Queued => State::Queued,
        StateName::Dispatching => {
            let lease: Option<i64> = row.try_get("lease")?;
            State::Dispatching { attempt, lease: Lease(lease.ok_or_else(|| missing("lease"))?) }
        }
        StateName::Running => {
            let placement = placement.clone().ok_or_else(|| missing("placement"))?;
            State::Running { attempt, placement }
        }
        StateName::Finished => {
            let outcome: Option<&str> = row.try_get("outcome")?;
            let outcome = outcome.ok_or_else(|| missing("outcome"))?;
            let at = timestamp(row, "finished_ms")?.ok_or_else(|| missing("end"))?;
            State::Finished { outcome: from_json::<Outcome>("an outcome", outcome.as_bytes())?, at }
        }
    };
    Ok(Submission {
        id,
        owner: Owner(row.try_get("owner")?),
        request: unpack(row.try_get("request")?)?,
        state,
        created_at: Timestamp::from_millis(row.try_get("created_ms")?),
        started_at: timestamp(row, "started_ms")?,
        attempt,
        waiting_for: row.try_get("waiting_for")?,
        placement,
    })
}
