//! A user ends a submission, or removes it.

use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqliteConnection};

use super::{Store, StoreError, codec, finish, keys, placements, writer::Write};
use crate::submission::{Outcome, Owner, SubmissionId, Timestamp};

/// What became of a cancel or a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It was ended by this.
    Now {
        /// The number of its latest attempt.
        attempt: u32,
        /// When it was accepted.
        created_at: Timestamp,
    },
    /// It had ended before; a delete has removed it all the same.
    Before,
    /// There is none with this id for this owner.
    NotFound,
}

struct Cancel {
    owner: Owner,
    id: SubmissionId,
    delete: bool,
    now: Timestamp,
}

impl Store {
    /// Any state but finished to finished, on a user's request. On disk when it returns; what runs
    /// of it is still to be ended.
    ///
    /// # Errors
    /// The database failed; it is still where it was.
    pub async fn cancel(
        &self,
        owner: &Owner,
        id: SubmissionId,
        now: Timestamp,
    ) -> Result<Cancelled, StoreError> {
        self.inner.writer.write(Cancel { owner: owner.clone(), id, delete: false, now }).await
    }

    /// Hides a submission, ended first if need be, and removes it as soon as nothing of it is
    /// placed. On disk when it returns; what runs of it is still to be ended.
    ///
    /// # Errors
    /// The database failed; it is still there.
    pub async fn delete(
        &self,
        owner: &Owner,
        id: SubmissionId,
        now: Timestamp,
    ) -> Result<Cancelled, StoreError> {
        self.inner.writer.write(Cancel { owner: owner.clone(), id, delete: true, now }).await
    }
}

impl Write for Cancel {
    type Answer = Cancelled;

    fn run<'a>(
        &'a self,
        tx: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<Cancelled, StoreError>> {
        Box::pin(async move {
            let found = sqlx::query(
                "SELECT pk, state, attempt, created_ms FROM submissions
                 WHERE id = ? AND owner = ? AND deleted_ms IS NULL",
            )
            .bind(codec::id_bytes(self.id))
            .bind(&self.owner.0)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(row) = found else { return Ok(Cancelled::NotFound) };
            let (pk, attempt) = (row.try_get("pk")?, row.try_get("attempt")?);
            let created_at = Timestamp::from_millis(row.try_get("created_ms")?);
            let unfinished = row.try_get::<&str, _>("state")? != "finished";
            if unfinished {
                self.finish(tx, pk).await?;
                finish::insert_finished(tx, pk, attempt, self.now).await?;
            }
            if self.delete {
                self.hide(tx, pk).await?;
                keys::mark_deleted(tx, self.id, self.now).await?;
                placements::remove_deleted(tx, pk).await?;
            }
            Ok(if unfinished { Cancelled::Now { attempt, created_at } } else { Cancelled::Before })
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        Some(self.id)
    }
}

impl Cancel {
    async fn finish(&self, tx: &mut SqliteConnection, pk: i64) -> Result<(), StoreError> {
        let outcome = Outcome::Cancelled;
        sqlx::query(
            "UPDATE submissions
             SET state = 'finished', lease = NULL, waiting_for = NULL, not_before_ms = 0,
                 finished_ms = ?, verdict = ?, outcome = ?
             WHERE pk = ? AND state <> 'finished'",
        )
        .bind(self.now.as_millis())
        .bind(outcome.verdict().as_str())
        .bind(codec::json(&outcome))
        .bind(pk)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn hide(&self, tx: &mut SqliteConnection, pk: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE submissions SET deleted_ms = ? WHERE pk = ?")
            .bind(self.now.as_millis())
            .bind(pk)
            .execute(tx)
            .await?;
        Ok(())
    }
}
