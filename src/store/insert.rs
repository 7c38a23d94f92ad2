//! Step 3: a submission is accepted. When `insert` returns, it is on disk.

use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::{
    Store, StoreError, codec,
    keys::{self, Known},
    writer::Write,
};
use crate::submission::{NewSubmission, Owner, Submission, SubmissionId, Timestamp};

/// What became of an insert.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// It is stored and queued.
    New(Box<Submission>),
    /// The same request came before under this key, and this is its submission.
    Replayed(SubmissionId),
    /// The key belongs to another request. Nothing was stored.
    KeyReused,
    /// The key's submission was deleted less than 24 h ago. Nothing was stored.
    KeyGone,
    /// As many wait as may. Nothing was stored.
    QueueFull,
}

enum Answer {
    New,
    Replayed(SubmissionId),
    KeyReused,
    KeyGone,
    QueueFull,
}

struct Insert {
    id: SubmissionId,
    owner: Owner,
    language: String,
    priority: u8,
    request: Vec<u8>,
    key: Option<(String, [u8; 32])>,
    now: Timestamp,
    queue_limit: i64,
}

impl Store {
    /// Stores a new submission as queued, or finds the one that an earlier request with the same
    /// key made. A key is looked up in the transaction that stores, so that of two equal requests
    /// at once one is stored.
    ///
    /// # Errors
    /// The database failed; nothing is stored.
    pub async fn insert(&self, new: NewSubmission, now: Timestamp) -> Result<Inserted, StoreError> {
        self.insert_as(SubmissionId::new(now), new, now).await
    }

    /// [`Store::insert`] under a fresh id that is known before, to whoever waits for its end.
    ///
    /// # Errors
    /// The database failed; nothing is stored.
    pub async fn insert_as(
        &self,
        id: SubmissionId,
        new: NewSubmission,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let NewSubmission { owner, request, idempotency_key } = new;
        let canonical = codec::canonical(&request);
        let key = idempotency_key.map(|key| (key, *blake3::hash(&canonical).as_bytes()));
        let insert = Insert {
            id,
            owner: owner.clone(),
            language: request.language.clone(),
            priority: request.priority,
            request: codec::pack(canonical),
            key,
            now,
            queue_limit: i64::try_from(self.queue_limit()).unwrap_or(i64::MAX),
        };
        Ok(match self.inner.writer.write(insert).await? {
            Answer::New => Inserted::New(Box::new(Submission::queued(id, owner, request, now))),
            Answer::Replayed(id) => Inserted::Replayed(id),
            Answer::KeyReused => Inserted::KeyReused,
            Answer::KeyGone => Inserted::KeyGone,
            Answer::QueueFull => Inserted::QueueFull,
        })
    }
}

impl Write for Insert {
    type Answer = Answer;

    fn run<'a>(
        &'a self,
        tx: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<Answer, StoreError>> {
        Box::pin(async move {
            if let Some((key, hash)) = &self.key {
                match keys::find(tx, &self.owner, key, self.now).await? {
                    Some(Known::Used { submission, hash: used }) if used == hash => {
                        return Ok(Answer::Replayed(submission));
                    }
                    Some(Known::Used { .. }) => return Ok(Answer::KeyReused),
                    Some(Known::Gone) => return Ok(Answer::KeyGone),
                    None => {}
                }
            }
            if !self.rows(tx).await? {
                return Ok(Answer::QueueFull);
            }
            if let Some((key, hash)) = &self.key {
                keys::add(tx, &self.owner, key, hash, self.id).await?;
            }
            Ok(Answer::New)
        })
    }
}

impl Insert {
    /// Whether there was room in the queue. Both rows in one call: each is a change of threads.
    async fn rows(&self, tx: &mut SqliteConnection) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO submissions (id, owner, language, state, priority, created_ms, queued_ms)
             SELECT ?1, ?2, ?3, 'queued', ?4, ?5, ?5
             WHERE (SELECT n FROM counts WHERE state = 'queued') < ?6;
             INSERT INTO requests (submission, request)
             SELECT last_insert_rowid(), ?7 WHERE changes() = 1",
        )
        .bind(codec::id_bytes(self.id))
        .bind(&self.owner.0)
        .bind(&self.language)
        .bind(self.priority)
        .bind(self.now.as_millis())
        .bind(self.queue_limit)
        .bind(&self.request[..])
        .execute(tx)
        .await?;
        Ok(done.rows_affected() > 0)
    }
}
