//! The SQL twins of the transitions of [`crate::submission::State`], but for claim and finish,
//! which have files of their own. Each is guarded by the old state.

use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::{Claim, Pending, Store, StoreError, codec, events, placements, writer::Write};
use crate::submission::{Placement, StateName, SubmissionId, Timestamp};

/// Whether a guarded change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// It was.
    Done,
    /// It was not, and nothing was: the submission is no longer where the caller believed.
    Conflict,
}

impl Step {
    pub(super) fn of(rows_affected: u64) -> Step {
        if rows_affected == 0 { Step::Conflict } else { Step::Done }
    }
}

/// Why a submission goes back to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requeue {
    /// The backend was away and has placed nothing: the attempt never was.
    Away {
        /// What it waits for, as a sentence.
        waiting_for: String,
        /// Not to be claimed before.
        not_before: Timestamp,
    },
    /// The backend was away, and nothing of the attempt was found afterwards. Its number is spent,
    /// so that whatever may still turn up cannot be mistaken for the next.
    Vanished {
        /// What it waits for, as a sentence.
        waiting_for: String,
        /// Not to be claimed before.
        not_before: Timestamp,
    },
    /// It began, and its place had no room for it. Its number is spent, but it was not lost.
    NoRoom {
        /// What it waits for, as a sentence.
        waiting_for: String,
        /// Not to be claimed before.
        not_before: Timestamp,
    },
    /// The attempt was lost.
    Lost {
        /// Why, as a sentence.
        reason: String,
        /// Not to be claimed before; `None`: at once.
        not_before: Option<Timestamp>,
    },
    /// The daemon restarted, and the attempt ended with it.
    Restarted,
}

struct Place {
    claim: Claim,
    placement: Placement,
    now: Timestamp,
}

struct Replace {
    claim: Claim,
    placement: Placement,
}

struct Wait {
    claim: Claim,
    waiting_for: String,
}

struct RequeueWrite {
    claim: Claim,
    why: Requeue,
    now: Timestamp,
}

impl Store {
    /// Dispatching to running, without waiting for the disk: after a crash the claim alone leads
    /// to the placement.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn place(
        &self,
        claim: &Claim,
        placement: &Placement,
        now: Timestamp,
    ) -> Result<Pending<Step>, StoreError> {
        let place = Place { claim: claim.clone(), placement: placement.clone(), now };
        self.inner.writer.write_lazily(place).await
    }

    /// More is known of where a running attempt is.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn replace(
        &self,
        claim: &Claim,
        placement: &Placement,
    ) -> Result<Pending<Step>, StoreError> {
        let replace = Replace { claim: claim.clone(), placement: placement.clone() };
        self.inner.writer.write_lazily(replace).await
    }

    /// What a claimed or placed attempt waits for before it can begin.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn note_waiting(
        &self,
        claim: &Claim,
        waiting_for: String,
    ) -> Result<Pending<Step>, StoreError> {
        self.inner.writer.write_lazily(Wait { claim: claim.clone(), waiting_for }).await
    }

    /// Dispatching or running back to queued.
    ///
    /// # Errors
    /// The database failed; it is still where it was.
    pub async fn requeue(
        &self,
        claim: &Claim,
        why: Requeue,
        now: Timestamp,
    ) -> Result<Step, StoreError> {
        self.inner.writer.write(RequeueWrite { claim: claim.clone(), why, now }).await
    }
}

impl Write for Place {
    type Answer = Step;

    /// In one call, since each is a change of threads: every statement but the first acts only where the
    /// one before it has.
    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            let done = sqlx::query(
                "UPDATE submissions
                 SET state = 'running', placement = ?1, waiting_for = NULL, tries = 0
                 WHERE pk = ?2 AND state = 'dispatching' AND lease = ?3;
                 UPDATE placements SET placement = ?1
                 WHERE submission = ?2 AND attempt = ?4 AND changes() = 1;
                 INSERT INTO events (submission, n, attempt, at_ms, kind, data)
                 SELECT ?2, 1 + coalesce((SELECT max(n) FROM events WHERE submission = ?2), 0),
                        ?4, ?5, 'state', ?6
                 WHERE changes() = 1",
            )
            .bind(codec::json(&self.placement))
            .bind(self.claim.pk)
            .bind(self.claim.lease.0)
            .bind(self.claim.attempt)
            .bind(self.now.as_millis())
            .bind(StateName::Running.as_str().as_bytes())
            .execute(tx)
            .await?;
            Ok(Step::of(done.rows_affected()))
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        Some(self.claim.id)
    }
}

impl Write for Replace {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            // The row of `placements` first: it is right even when the submission has moved on.
            placements::set(tx, &self.claim, &self.placement).await?;
            let done = sqlx::query(
                "UPDATE submissions SET placement = ?
                 WHERE pk = ? AND state = 'running' AND lease = ?",
            )
            .bind(codec::json(&self.placement))
            .bind(self.claim.pk)
            .bind(self.claim.lease.0)
            .execute(tx)
            .await?;
            Ok(Step::of(done.rows_affected()))
        })
    }
}

impl Write for Wait {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            let done =
                sqlx::query("UPDATE submissions SET waiting_for = ? WHERE pk = ? AND lease = ?")
                    .bind(&self.waiting_for)
                    .bind(self.claim.pk)
                    .bind(self.claim.lease.0)
                    .execute(tx)
                    .await?;
            Ok(Step::of(done.rows_affected()))
        })
    }
}

impl Write for RequeueWrite {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            let claim = &self.claim;
            let step = self.submission(tx).await?;
            if step == Step::Conflict {
                return Ok(step);
            }
            match &self.why {
                Requeue::Away { .. } | Requeue::Vanished { .. } | Requeue::Restarted => {
                    placements::remove(tx, claim.pk, claim.attempt).await?;
                }
                // Its placement is the reaper's, as after a loss.
                Requeue::NoRoom { .. } => {}
                Requeue::Lost { reason, .. } => {
                    insert_loss(tx, claim, reason, self.now).await?;
                }
            }
            if !matches!(self.why, Requeue::Away { .. }) {
                let queued = StateName::Queued;
                events::insert_state(tx, claim.pk, claim.attempt, queued, self.now).await?;
            }
            Ok(step)
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        Some(self.claim.id)
    }
}

impl RequeueWrite {
    async fn submission(&self, tx: &mut SqliteConnection) -> Result<Step, StoreError> {
        // What each reason adds to the attempt's number, the tries in a row, the losses and the
        // restarts. A wait goes on through an absence of the backend; otherwise it begins anew.
        let (waiting_for, not_before, [attempt, tries, lost, restarts]) = match &self.why {
            Requeue::Away { waiting_for, not_before } => {
                (Some(waiting_for), not_before.as_millis(), [-1, 1, 0, 0])
            }
            Requeue::Vanished { waiting_for, not_before }
            | Requeue::NoRoom { waiting_for, not_before } => {
                (Some(waiting_for), not_before.as_millis(), [0, 1, 0, 0])
            }
            Requeue::Lost { not_before, .. } => {
                (None, not_before.map_or(0, Timestamp::as_millis), [0, 0, 1, 0])
            }
            Requeue::Restarted => (None, 0, [0, 0, 0, 1]),
        };
        let queued_at = if waiting_for.is_some() { self.claim.queued_at } else { self.now };
        let done = sqlx::query(
            "UPDATE submissions
             SET state = 'queued', lease = NULL, placement = NULL, waiting_for = ?1,
                 not_before_ms = ?2, attempt = attempt + ?3,
                 tries = CASE ?4 WHEN 0 THEN 0 ELSE tries + ?4 END,
                 lost_attempts = lost_attempts + ?5, restarts = restarts + ?6, queued_ms = ?7
             WHERE pk = ?8 AND lease = ?9",
        )
        .bind(waiting_for)
        .bind(not_before)
        .bind(attempt)
        .bind(tries)
        .bind(lost)
        .bind(restarts)
        .bind(queued_at.as_millis())
        .bind(self.claim.pk)
        .bind(self.claim.lease.0)
        .execute(tx)
        .await?;
        Ok(Step::of(done.rows_affected()))
    }
}

/// Notes why an attempt was lost.
pub(super) async fn insert_loss(
    tx: &mut SqliteConnection,
    claim: &Claim,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO attempt_losses (submission, attempt, at_ms, reason) VALUES (?, ?, ?, ?)",
    )
    .bind(claim.pk)
    .bind(claim.attempt)
    .bind(now.as_millis())
    .bind(reason)
    .execute(tx)
    .await?;
    Ok(())
}
