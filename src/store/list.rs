//! Reading many submissions, and counting them.

use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{Store, StoreError, codec};
use crate::submission::{Owner, StateName, SubmissionId, Timestamp, Verdict};

/// Which submissions to list; absent is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// In this state.
    pub state: Option<StateName>,
    /// In this language.
    pub language: Option<String>,
    /// With this verdict.
    pub verdict: Option<Verdict>,
    /// Older than this.
    pub before: Option<SubmissionId>,
}

/// One submission in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its identity.
    pub id: SubmissionId,
    /// Where it stands.
    pub state: StateName,
    /// Its language.
    pub language: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its latest attempt began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// How it ended.
    pub verdict: Option<Verdict>,
}

impl Store {
    /// An owner's submissions, newest first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(
        &self,
        owner: &Owner,
        selection: &Selection,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = query(owner, selection, limit).build().fetch_all(&self.inner.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(Listed {
                    id: codec::id_from(row.try_get("id")?)?,
                    state: codec::state_name(row.try_get("state")?)?,
                    language: row.try_get("language")?,
                    created_at: Timestamp::from_millis(row.try_get("created_ms")?),
                    started_at: codec::timestamp(row, "started_ms")?,
                    finished_at: codec::timestamp(row, "finished_ms")?,
                    attempt: row.try_get("attempt")?,
                    verdict: row
                        .try_get::<Option<String>, _>("verdict")?
                        .map(codec::verdict)
                        .transpose()?,
                })
            })
            .collect()
    }

    /// How many submissions are in each state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn counts(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        let rows =
            sqlx::query("SELECT state, n FROM counts").fetch_all(&self.inner.readers).await?;
        rows.iter()
            .map(|row| {
                let n: i64 = row.try_get("n")?;
                Ok((codec::state_name(row.try_get("state")?)?, n.max(0) as u64))
            })
            .collect()
    }
}

fn query(owner: &Owner, selection: &Selection, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "SELECT id, state, language, created_ms, started_ms, finished_ms, attempt, verdict
         FROM submissions ",
    );
    let open = selection.state.is_some_and(|state| state != StateName::Finished);
    if open {
        // Few are open and most are not, which SQLite cannot know without statistics.
        query.push("INDEXED BY submissions_open ");
    }
    query.push("WHERE owner = ").push_bind(owner.0.clone()).push(" AND deleted_ms IS NULL");
    if open {
        query.push(" AND finished_ms IS NULL");
    }
    if let Some(state) = selection.state {
        query.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(language) = &selection.language {
        query.push(" AND language = ").push_bind(language.clone());
    }
    if let Some(verdict) = selection.verdict {
        query.push(" AND verdict = ").push_bind(verdict.as_str());
    }
    if let Some(before) = selection.before {
        query.push(" AND id < ").push_bind(codec::id_bytes(before));
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
    query
}
