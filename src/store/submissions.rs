//! Reading one submission.

use sqlx::{Row as _, SqliteConnection};

use super::{
    Store, StoreError,
    codec::{self, submission_columns},
    output::{self, Found, KeptOutput},
};
use crate::submission::{Outcome, Owner, State, Submission, SubmissionId, SubmissionRequest};

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
        let Some((submission, found)) = self.find_with_output(owner, id).await? else {
            return Ok(None);
        };
        Ok(Some((submission, self.look(found).await?)))
    }

    async fn find_with_output(
        &self,
        owner: &Owner,
        id: SubmissionId,
    ) -> Result<Option<(Submission, Found)>, StoreError> {
        let mut conn = self.inner.readers.acquire().await?;
        let Some((pk, submission)) = find(&mut conn, owner, id).await? else { return Ok(None) };
        let State::Finished { outcome: Outcome::Judged(report), .. } = &submission.state else {
            return Ok(Some((submission, Found::All(Vec::new()))));
        };
        // What is finished can but be removed, which shows in what is found then.
        let found = output::find(&mut conn, pk, submission.attempt, &report.runs).await?;
        Ok(found.map(|found| (submission, found)))
    }

    /// One submission without the output of its runs.
    ///
    /// # Errors
    /// The database failed.
    pub async fn find(
        &self,
        owner: &Owner,
        id: SubmissionId,
    ) -> Result<Option<Submission>, StoreError> {
        let mut conn = self.inner.readers.acquire().await?;
        Ok(find(&mut conn, owner, id).await?.map(|(_, submission)| submission))
    }

    /// What was sent, while this attempt of it is dispatching or running; for whoever runs it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn request_in_flight(
        &self,
        id: SubmissionId,
        attempt: u32,
    ) -> Result<Option<SubmissionRequest>, StoreError> {
        let request: Option<Vec<u8>> = sqlx::query_scalar(
            "SELECT r.request FROM submissions s JOIN requests r ON r.submission = s.pk
             WHERE s.id = ? AND s.attempt = ? AND s.state IN ('dispatching', 'running')",
        )
        .bind(codec::id_bytes(id))
        .bind(attempt)
        .fetch_optional(&self.inner.readers)
        .await?;
        request.map(|request| codec::unpack(&request)).transpose()
    }
}

async fn find(
    conn: &mut SqliteConnection,
    owner: &Owner,
    id: SubmissionId,
) -> Result<Option<(i64, Submission)>, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT ",
        submission_columns!(),
        " FROM submissions s JOIN requests r ON r.submission = s.pk
         WHERE s.id = ? AND s.owner = ? AND s.deleted_ms IS NULL"
    ))
    .bind(codec::id_bytes(id))
    .bind(&owner.0)
    .fetch_optional(conn)
    .await?;
    row.map(|row| Ok((row.try_get("pk")?, codec::submission(&row)?))).transpose()
}
