//! Reading one submission.

use sqlx::Row as _;

use super::{
    Store, StoreError,
    codec::{self, submission_columns},
    events::{self, KeptOutput},
};
use crate::submission::{Outcome, Owner, State, Submission, SubmissionId};

impl Store {
    /// One submission, with the kept output of its runs when it was judged; of one instant.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(
        &self,
        owner: &Owner,
        id: SubmissionId,
    ) -> Result<Option<(Submission, Vec<KeptOutput>)>, StoreError> {
        let mut tx = self.inner.readers.begin().await?;
        let row = sqlx::query(concat!(
            "SELECT ",
            submission_columns!(),
            " FROM submissions s JOIN requests r ON r.submission = s.pk
             WHERE s.id = ? AND s.owner = ? AND s.deleted_ms IS NULL"
        ))
        .bind(codec::id_bytes(id))
        .bind(&owner.0)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let submission = codec::submission(&row)?;
        let outputs = match &submission.state {
            State::Finished { outcome: Outcome::Judged(report), .. } => {
                let pk = row.try_get("pk")?;
                events::outputs(&mut tx, pk, submission.attempt, report.runs.len()).await?
            }
            _ => Vec::new(),
        };
        tx.commit().await?;
        Ok(Some((submission, outputs)))
    }
}
