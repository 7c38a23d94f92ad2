//! Places where something of an attempt may still be.
//!
//! A row is made with the claim and removed when the backend has confirmed that nothing is left.
//! It outlives the submission's end, and holds back the removal of a deleted submission.

use futures_util::future::BoxFuture;
use sqlx::{Row as _, SqliteConnection};

use super::{Claim, Pending, Store, StoreError, codec, writer::Write};
use crate::submission::{Placement, SubmissionId, SubmissionRequest};

/// A placement that no attempt acts for any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Leftover {
    pk: i64,
    /// Of which submission.
    pub id: SubmissionId,
    /// Of which attempt.
    pub attempt: u32,
    /// Where it is.
    pub place: Whereabouts,
}

/// Where a leftover is.
#[derive(Debug, Clone, PartialEq)]
pub enum Whereabouts {
    /// There.
    At(Placement),
    /// It is not known whether the attempt was placed. The backend can look with what was sent,
    /// where that can be read.
    Unknown(Result<SubmissionRequest, StoreError>),
}

/// Removes the submission `?1` where it is deleted and nothing of it is placed any more.
macro_rules! remove_deleted {
    () => {
        "DELETE FROM submissions WHERE pk = ?1 AND deleted_ms IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM placements WHERE submission = ?1)"
    };
}

struct Forget {
    pk: i64,
    attempt: u32,
}

impl Store {
    /// Placements of attempts that are over.
    ///
    /// # Errors
    /// The database failed.
    pub async fn leftovers(&self, limit: u32) -> Result<Vec<Leftover>, StoreError> {
        // One statement: the next could find the submission removed.
        let rows = sqlx::query(
            "SELECT p.submission, s.id, p.attempt, p.placement,
                    CASE WHEN p.placement IS NULL THEN r.request END AS request
             FROM placements p
             JOIN submissions s ON s.pk = p.submission
             JOIN requests r ON r.submission = p.submission
             WHERE s.lease IS NULL OR p.attempt <> s.attempt
             ORDER BY p.submission, p.attempt LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let placement: Option<&str> = row.try_get("placement")?;
                let place = match placement {
                    Some(json) => {
                        Whereabouts::At(codec::from_json("a placement", json.as_bytes())?)
                    }
                    None => Whereabouts::Unknown(codec::unpack(row.try_get("request")?)),
                };
                let id = codec::id_from(row.try_get("id")?)?;
                let (pk, attempt) = (row.try_get("submission")?, row.try_get("attempt")?);
                Ok(Leftover { pk, id, attempt, place })
            })
            .collect()
    }

    /// Whether something of an attempt may be placed, as far as is known here.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_placed(&self, id: SubmissionId, attempt: u32) -> Result<bool, StoreError> {
        let row = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM placements p JOIN submissions s ON s.pk = p.submission
                            WHERE s.id = ? AND p.attempt = ?)",
        )
        .bind(codec::id_bytes(id))
        .bind(attempt)
        .fetch_one(&self.inner.readers)
        .await?;
        Ok(row)
    }

    /// Nothing is left of an attempt's placement. Removes its submission too, when that is deleted
    /// and this was the last. Does not wait for the disk: forgetting twice is harmless.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn forget(&self, claim: &Claim) -> Result<Pending<()>, StoreError> {
        let forget = Forget { pk: claim.pk, attempt: claim.attempt };
        self.inner.writer.write_lazily(forget).await
    }

    /// The same for a leftover.
    ///
    /// # Errors
    /// The store is closed.
    pub async fn forget_leftover(&self, leftover: &Leftover) -> Result<Pending<()>, StoreError> {
        let forget = Forget { pk: leftover.pk, attempt: leftover.attempt };
        self.inner.writer.write_lazily(forget).await
    }
}

impl Write for Forget {
    type Answer = ();

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query(concat!(
                "DELETE FROM placements WHERE submission = ?1 AND attempt = ?2; ",
                remove_deleted!()
            ))
            .bind(self.pk)
            .bind(self.attempt)
            .execute(tx)
            .await?;
            Ok(())
        })
    }
}

/// Saves where an attempt is.
pub(super) async fn set(
    tx: &mut SqliteConnection,
    claim: &Claim,
    placement: &Placement,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE placements SET placement = ? WHERE submission = ? AND attempt = ?")
        .bind(codec::json(placement))
        .bind(claim.pk)
        .bind(claim.attempt)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn remove(
    tx: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM placements WHERE submission = ? AND attempt = ?")
        .bind(pk)
        .bind(attempt)
        .execute(tx)
        .await?;
    Ok(())
}

/// Removes a deleted submission of which nothing is placed any more.
pub(super) async fn remove_deleted(tx: &mut SqliteConnection, pk: i64) -> Result<(), StoreError> {
    sqlx::query(remove_deleted!()).bind(pk).execute(tx).await?;
    Ok(())
}
