//! The files of the work directory that a submission asked for, beside its events.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::{EventData, NewEvent, Store, StoreError, codec};
use crate::submission::SubmissionId;

/// Bytes after which no more is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Takes the pieces of files out of what is to be stored.
pub(super) fn split_off(events: &mut Vec<NewEvent>) -> Vec<NewEvent> {
    events.extract_if(.., |event| matches!(event.data, EventData::File { .. })).collect()
}

/// Stores pieces of files of a current attempt; those that are stored already are passed over.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    pk: i64,
    lease: i64,
    pieces: &[NewEvent],
) -> Result<(), StoreError> {
    for piece in pieces {
        let EventData::File { file, data } = &piece.data else { continue };
        sqlx::query(
            "INSERT INTO files (submission, attempt, seq, file, data)
             SELECT s.pk, s.attempt, ?, ?, ? FROM submissions s WHERE s.pk = ? AND s.lease = ?
             ON CONFLICT DO NOTHING",
        )
        .bind(i64::try_from(piece.seq).unwrap_or(i64::MAX))
        .bind(file)
        .bind(&data[..])
        .bind(pk)
        .bind(lease)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Reads a file of the last attempt of a finished submission, of so many bytes, piece by piece.
    ///
    /// # Errors
    /// The database failed, or the submission was removed.
    pub async fn read_file(
        &self,
        id: SubmissionId,
        file: u32,
        bytes: u64,
    ) -> Result<FileReader, StoreError> {
        let row = sqlx::query("SELECT pk, attempt FROM submissions WHERE id = ?")
            .bind(codec::id_bytes(id))
            .fetch_optional(&self.inner.readers)
            .await?
            .ok_or_else(gone)?;
        let (pk, attempt) = (row.try_get("pk")?, row.try_get("attempt")?);
        let readers = self.inner.readers.clone();
        Ok(FileReader { readers, pk, attempt, file, after: -1, left: bytes })
    }
}

fn gone() -> StoreError {
    StoreError::Unreadable("a file that was there is gone".to_owned())
}

/// Reads a stored file from its beginning. Holds nothing between two reads.
#[derive(Debug)]
pub struct FileReader {
    readers: SqlitePool,
    pk: i64,
    attempt: i64,
    file: u32,
    /// The number of the last piece that was read.
    after: i64,
    left: u64,
}

impl FileReader {
    /// What comes next, in order; `None` at the end. It is up to 128 KiB.
    ///
    /// # Errors
    /// The database failed, or the submission was removed meanwhile.
    pub async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut rows = sqlx::query(
            "SELECT seq, data FROM files
             WHERE submission = ? AND attempt = ? AND seq > ? AND file = ? ORDER BY seq",
        )
        .bind(self.pk)
        .bind(self.attempt)
        .bind(self.after)
        .bind(self.file)
        .fetch(&self.readers);
        let (mut pieces, mut length) = (Vec::new(), 0);
        while length < PIECE_BYTES {
            let Some(row) = rows.try_next().await? else { break };
            self.after = row.try_get("seq")?;
            let data: &[u8] = row.try_get("data")?;
            length += data.len();
            pieces.push(Bytes::copy_from_slice(data));
        }
        self.left = self.left.checked_sub(length as u64).filter(|_| length > 0).ok_or_else(gone)?;
        Ok(Some(pieces))
    }
}
