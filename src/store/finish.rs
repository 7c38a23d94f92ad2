//! Step 9: a submission ends, for good.

use std::sync::LazyLock;

use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqliteConnection};

use super::{
    Claim, EventData, NewEvent, Step, Store, StoreError, codec, events, files, transitions,
    writer::Write,
};
use crate::submission::{Outcome, SubmissionId, Timestamp};

/// How a claimed submission ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// The outcome.
    pub outcome: Outcome,
    /// Events of the attempt that may not be stored yet; repeats are ignored.
    pub events: Vec<NewEvent>,
    /// Why this attempt was lost, when that is what ends the submission.
    pub loss: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A submission that has waited too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    pk: i64,
    /// Which.
    pub id: SubmissionId,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Since when it waits.
    pub queued_at: Timestamp,
    /// What for, as a sentence, where that is known.
    pub waiting_for: Option<String>,
}

struct FinishWrite {
    claim: Claim,
    finish: Finish,
    files: Vec<NewEvent>,
}

struct FinishOverdue {
    overdue: Overdue,
    outcome: Outcome,
    at: Timestamp,
}

impl Store {
    /// Dispatching or running to finished, with the attempt's remaining events in the same
    /// transaction. On disk when it returns.
    ///
    /// # Errors
    /// The database failed; it is still where it was.
    pub async fn finish(&self, claim: &Claim, mut finish: Finish) -> Result<Step, StoreError> {
        let files = files::split_off(&mut finish.events);
        self.inner.writer.write(FinishWrite { claim: claim.clone(), finish, files }).await
    }

    /// Submissions that wait since before `queued_before`, the oldest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn overdue(
        &self,
        queued_before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Overdue>, StoreError> {
        let rows = sqlx::query(
            "SELECT pk, id, attempt, created_ms, queued_ms, waiting_for FROM submissions
             WHERE state = 'queued' AND queued_ms < ? ORDER BY queued_ms LIMIT ?",
        )
        .bind(queued_before.as_millis())
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Overdue {
                    pk: row.try_get("pk")?,
                    id: codec::id_from(row.try_get("id")?)?,
                    attempt: row.try_get("attempt")?,
                    created_at: Timestamp::from_millis(row.try_get("created_ms")?),
                    queued_at: Timestamp::from_millis(row.try_get("queued_ms")?),
                    waiting_for: row.try_get("waiting_for")?,
                })
            })
            .collect()
    }

    /// Queued to finished, for a submission that has waited too long.
    ///
    /// # Errors
    /// The database failed; it still waits.
    pub async fn finish_overdue(
        &self,
        overdue: &Overdue,
        outcome: Outcome,
        at: Timestamp,
    ) -> Result<Step, StoreError> {
        let finish = FinishOverdue { overdue: overdue.clone(), outcome, at };
        self.inner.writer.write(finish).await
    }
}

impl Write for FinishWrite {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            let (claim, finish) = (&self.claim, &self.finish);
            let early = finish.events.len().saturating_sub(events::TOGETHER);
            let (early, late) = finish.events.split_at(early);
            files::insert(tx, claim.pk, claim.lease.0, &self.files).await?;
            events::insert(tx, claim.pk, claim.lease.0, early).await?;
            let step = self.end(tx, late).await?;
            if step == Step::Conflict {
                return Ok(step);
            }
            if let Some(reason) = &finish.loss {
                transitions::insert_loss(tx, claim, reason, finish.at).await?;
            }
            // The runner's last word is the last event, new or stored before.
            if finish.events.last().is_none_or(|last| last.data != EventData::Finished) {
                insert_finished(tx, claim.pk, claim.attempt, finish.at).await?;
            }
            Ok(step)
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        Some(self.claim.id)
    }
}

impl FinishWrite {
    /// The last events and the end in one call, since each is a change of threads. The end is what takes
    /// the lease away that the events go by, so it comes last; its row says that it was made.
    async fn end(&self, tx: &mut SqliteConnection, late: &[NewEvent]) -> Result<Step, StoreError> {
        static ENDS: LazyLock<[String; events::TOGETHER + 1]> = LazyLock::new(|| {
            events::inserts(
                "UPDATE submissions
                 SET state = 'finished', lease = NULL, waiting_for = NULL, finished_ms = ?,
                     started_ms = coalesce(?, started_ms), lost_attempts = lost_attempts + ?,
                     verdict = ?, outcome = ?
                 WHERE pk = ? AND lease = ? RETURNING 1",
            )
        });
        let (claim, Finish { outcome, events, loss, at }) = (&self.claim, &self.finish);
        let query = sqlx::query(ENDS[late.len()].as_str());
        let ended = events::bind(query, claim.pk, claim.lease.0, late)
            .bind(at.as_millis())
            .bind(events::started(events).map(Timestamp::as_millis))
            .bind(i64::from(loss.is_some()))
            .bind(outcome.verdict().as_str())
            .bind(codec::json(outcome))
            .bind(claim.pk)
            .bind(claim.lease.0)
            .fetch_optional(tx)
            .await?;
        Ok(if ended.is_some() { Step::Done } else { Step::Conflict })
    }
}

impl Write for FinishOverdue {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            let step = self.submission(tx).await?;
            if step == Step::Done {
                insert_finished(tx, self.overdue.pk, self.overdue.attempt, self.at).await?;
            }
            Ok(step)
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        Some(self.overdue.id)
    }
}

impl FinishOverdue {
    async fn submission(&self, tx: &mut SqliteConnection) -> Result<Step, StoreError> {
        let done = sqlx::query(
            "UPDATE submissions
             SET state = 'finished', waiting_for = NULL, not_before_ms = 0, finished_ms = ?,
                 verdict = ?, outcome = ?
             WHERE pk = ? AND id = ? AND state = 'queued' AND queued_ms = ?",
        )
        .bind(self.at.as_millis())
        .bind(self.outcome.verdict().as_str())
        .bind(codec::json(&self.outcome))
        .bind(self.overdue.pk)
        .bind(codec::id_bytes(self.overdue.id))
        .bind(self.overdue.queued_at.as_millis())
        .execute(tx)
        .await?;
        Ok(Step::of(done.rows_affected()))
    }
}

/// Stores that all is over, unless the runner's own word for it is stored already.
pub(super) async fn insert_finished(
    tx: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO events (submission, n, attempt, at_ms, kind)
         SELECT ?1, 1 + coalesce((SELECT max(n) FROM events WHERE submission = ?1), 0),
                ?2, ?3, 'finished'
         WHERE NOT EXISTS (
             SELECT 1 FROM events
             WHERE submission = ?1 AND kind = 'finished'
               AND n = (SELECT max(n) FROM events WHERE submission = ?1)
         )",
    )
    .bind(pk)
    .bind(attempt)
    .bind(at.as_millis())
    .execute(tx)
    .await?;
    Ok(())
}
