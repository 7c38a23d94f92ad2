//! Idempotency keys: a client's own names for its requests.
//!
//! A key lives as long as its submission and 24 h past a delete; in that time it answers "gone".

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqliteConnection};

use super::{StoreError, codec, writer::Write};
use crate::submission::{Owner, SubmissionId, Timestamp};

/// How long a key outlives its deleted submission, so that a late repeat does not run again.
pub(super) const GRACE: Duration = Duration::from_hours(24);

/// What is known of a key.
pub(super) enum Known {
    /// It names this submission, of a request with this hash.
    Used { submission: SubmissionId, hash: Vec<u8> },
    /// Its submission was deleted less than [`GRACE`] ago.
    Gone,
}

pub(super) async fn find(
    tx: &mut SqliteConnection,
    owner: &Owner,
    key: &str,
    now: Timestamp,
) -> Result<Option<Known>, StoreError> {
    let row = sqlx::query(
        "SELECT hash, submission, deleted_ms FROM idempotency_keys WHERE owner = ? AND key = ?",
    )
    .bind(&owner.0)
    .bind(key)
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    match codec::timestamp(&row, "deleted_ms")? {
        None => {
            let submission = codec::id_from(row.try_get("submission")?)?;
            Ok(Some(Known::Used { submission, hash: row.try_get("hash")? }))
        }
        Some(deleted) if now.since(deleted) < GRACE => Ok(Some(Known::Gone)),
        Some(_) => {
            sqlx::query("DELETE FROM idempotency_keys WHERE owner = ? AND key = ?")
                .bind(&owner.0)
                .bind(key)
                .execute(tx)
                .await?;
            Ok(None)
        }
    }
}

pub(super) async fn add(
    tx: &mut SqliteConnection,
    owner: &Owner,
    key: &str,
    hash: &[u8],
    submission: SubmissionId,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO idempotency_keys (owner, key, hash, submission) VALUES (?, ?, ?, ?)")
        .bind(&owner.0)
        .bind(key)
        .bind(hash)
        .bind(codec::id_bytes(submission))
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn mark_deleted(
    tx: &mut SqliteConnection,
    submission: SubmissionId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE idempotency_keys SET deleted_ms = ? WHERE submission = ?")
        .bind(now.as_millis())
        .bind(codec::id_bytes(submission))
        .execute(tx)
        .await?;
    Ok(())
}

/// Removes the keys whose time is over.
pub(super) struct Expire {
    pub(super) now: Timestamp,
}

impl Write for Expire {
    type Answer = ();

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query("DELETE FROM idempotency_keys WHERE deleted_ms <= ?")
                .bind(self.now.as_millis().saturating_sub(GRACE.as_millis() as i64))
                .execute(tx)
                .await?;
            Ok(())
        })
    }
}
