//! Stored output, read piece by piece: of one stream, or of both in the order in which they were written.
//!
//! Where both streams wrote at nearly the same time, what each wrote is stored as one event of each, which
//! keeps no order between them. The first of two such events has their turns, and they are read together.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{
    StoreError,
    output::{Place, gone, kinds},
};
use crate::protocol::Turns;

/// Bytes after which no more is read at once. Rows are up to as long.
const PIECE_BYTES: usize = 64 << 10;

/// Reads stored output from its beginning. Holds nothing between two reads.
#[derive(Debug)]
pub struct OutputReader {
    readers: SqlitePool,
    place: Place,
    /// The number of the last event that was read.
    after: i64,
    left: u64,
}

/// An event of output.
struct Piece {
    is_stderr: bool,
    data: Bytes,
    turns: Turns,
}

/// What was read.
#[derive(Default)]
struct Read {
    pieces: Vec<Bytes>,
    length: usize,
}

impl OutputReader {
    pub(super) fn new(readers: SqlitePool, place: Place, left: u64) -> OutputReader {
        OutputReader { readers, place, after: 0, left }
    }

    /// What comes next, in order; `None` at the end. It is up to 192 KiB.
    ///
    /// # Errors
    /// The database failed, or the submission was removed meanwhile.
    pub async fn next(&mut self) -> Result<Option<Vec<Bytes>>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        let Place { pk, attempt, run, stream } = self.place;
        let [kind, other_kind] = kinds(stream);
        let mut rows = sqlx::query(
            "SELECT n, kind, data, turns FROM events
             WHERE submission = ? AND n > ? AND attempt = ? AND run = ? AND kind IN (?, ?)
             ORDER BY n",
        )
        .bind(pk)
        .bind(self.after)
        .bind(attempt)
        .bind(run)
        .bind(kind)
        .bind(other_kind)
        .fetch(&self.readers);
        let mut read = Read::default();
        // One that is read together with the next. Both were stored at once, so that is there.
        let mut first: Option<Piece> = None;
        while first.is_some() || read.length < PIECE_BYTES && self.left > 0 {
            let Some(row) = rows.try_next().await? else { break };
            self.after = row.try_get("n")?;
            let piece = Piece::of(&row)?;
            match first.take() {
                None if stream.is_none() && !piece.turns.is_empty() => first = Some(piece),
                None => read.add(piece.data, &mut self.left),
                Some(first) if first.is_stderr != piece.is_stderr => {
                    let joined = first.turns.join(&first.data, &piece.data);
                    read.add(joined.into(), &mut self.left);
                }
                Some(first) => {
                    read.add(first.data, &mut self.left);
                    read.add(piece.data, &mut self.left);
                }
            }
        }
        if let Some(first) = first {
            read.add(first.data, &mut self.left);
        }
        if read.length == 0 {
            return Err(gone());
        }
        Ok(Some(read.pieces))
    }
}

impl Piece {
    fn of(row: &SqliteRow) -> Result<Piece, StoreError> {
        let turns = row.try_get::<Option<&[u8]>, _>("turns")?;
        Ok(Piece {
            is_stderr: row.try_get::<&str, _>("kind")? == "stderr",
            data: Bytes::copy_from_slice(row.try_get("data")?),
            turns: turns.map(Turns::from_bytes).unwrap_or_default(),
        })
    }
}

impl Read {
    /// Adds what comes next, as far as it is wanted.
    fn add(&mut self, mut data: Bytes, left: &mut u64) {
        data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= data.len() as u64;
        self.length += data.len();
        if !data.is_empty() {
            self.pieces.push(data);
        }
    }
}
