//! The output of programs, as it is read: small output whole, large output piece by piece, by
//! `output_reader.rs`.
//!
//! Output of a submission is up to 16 MiB, and a reader may be slow: what holds all of it while it is
//! sent would be gigabytes for a few dozen readers. What was stored of an attempt never changes, so
//! each piece is a read of its own, and no connection is held between two.

use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::{
    Store, StoreError, codec, events::stream_kind, output_reader::OutputReader, utf8::Utf8,
};
use crate::{
    sandbox::Stream,
    submission::{Blob, RunReport, StreamSummary, SubmissionId},
};

/// Output of a whole submission that is read with it: nearly all is smaller.
const WHOLE_BYTES: u64 = 32 << 10;

/// Output of one stream that is read at once where a submission has more than [`WHOLE_BYTES`]: a
/// hundred runs that say a line each are not worth a read each.
const SMALL_BYTES: u64 = 1 << 10;

/// Large outputs that are looked through at once. Each takes a reader for as long as it lasts, some
/// ten milliseconds, and others must find one free.
pub(super) const LOOKS: usize = 2;

/// What is kept of one stream of one run.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// All of it.
    Here(Blob),
    /// So much that it is read when it is wanted.
    Stored(StoredOutput),
}

/// Where output is kept, and what it is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOutput {
    place: Place,
    /// How many bytes there are.
    pub bytes: u64,
    /// How many of them are UTF-8, where the rest is at the most the beginning of one more character.
    /// `None` where it is not, or where nobody has looked.
    pub text_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pk: i64,
    pub(super) attempt: u32,
    pub(super) run: u32,
    /// Both where it is none.
    pub(super) stream: Option<Stream>,
}

/// What is kept of one run's output.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeptOutput {
    /// Of stdout.
    pub stdout: Kept,
    /// Of stderr.
    pub stderr: Kept,
}

impl Default for Kept {
    fn default() -> Self {
        Kept::Here(Blob::default())
    }
}

impl Kept {
    /// How many bytes it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Kept::Here(blob) => blob.len() as u64,
            Kept::Stored(stored) => stored.bytes,
        }
    }

    /// All of it, where that is little.
    pub fn here(&self) -> Option<&Blob> {
        match self {
            Kept::Here(blob) => Some(blob),
            Kept::Stored(_) => None,
        }
    }
}

impl KeptOutput {
    fn of(&mut self, stream: Stream) -> &mut Kept {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// What is to be shown of the runs of an attempt, once the transaction that it was found in is over.
pub(super) enum Found {
    /// This.
    All(Vec<KeptOutput>),
    /// So much that it is looked through apart: how many bytes each stream of each run has.
    Large { pk: i64, attempt: u32, sizes: Vec<[u64; 2]> },
}

/// Finds what the runs of a finished attempt wrote, by run; `None` when it is gone. What their reports
/// say of it is believed when it is nothing, and else only tells what to try first.
pub(super) async fn find(
    conn: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
    runs: &[RunReport],
) -> Result<Option<Found>, StoreError> {
    let said: u64 = runs
        .iter()
        .map(|run| run.stdout.bytes.saturating_add(run.stderr.bytes))
        .fold(0, u64::saturating_add);
    if said == 0 {
        return Ok(Some(Found::All(vec![KeptOutput::default(); runs.len()])));
    }
    if said <= WHOLE_BYTES {
        match read_whole(conn, pk, attempt, runs.len()).await? {
            Whole::Read(outputs) => return Ok(Some(Found::All(outputs))),
            Whole::Gone => return Ok(None),
            Whole::Larger => {}
        }
    }
    let mut tx = conn.begin().await?;
    let rows = sqlx::query(
        "SELECT run, kind, sum(length(data)) AS bytes FROM submissions s LEFT JOIN events e
             ON e.submission = s.pk AND e.attempt = ? AND kind IN ('stdout', 'stderr')
         WHERE s.pk = ? GROUP BY run, kind",
    )
    .bind(attempt)
    .bind(pk)
    .fetch_all(&mut *tx)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut sizes = vec![[0; 2]; runs.len()];
    for row in rows {
        if row.try_get::<Option<u32>, _>("run")?.is_none() {
            continue;
        }
        if let Some(sizes) = sizes.get_mut(row.try_get::<u32, _>("run")? as usize) {
            let bytes: i64 = row.try_get("bytes")?;
            sizes[stream_of(row.try_get("kind")?) as usize] = bytes.max(0) as u64;
        }
    }
    if sizes.iter().flatten().sum::<u64>() > WHOLE_BYTES {
        return Ok(Some(Found::Large { pk, attempt, sizes }));
    }
    Ok(Some(Found::All(look_through(&mut tx, pk, attempt, &sizes).await?)))
}

/// What becomes of an attempt to read all output.
enum Whole {
    Read(Vec<KeptOutput>),
    /// It is more than is shown whole.
    Larger,
    /// The submission is gone.
    Gone,
}

/// Reads all output of an attempt, if that is little, in one statement, and so of one instant.
async fn read_whole(
    conn: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
    runs: usize,
) -> Result<Whole, StoreError> {
    let mut rows = sqlx::query(
        "SELECT run, kind, data FROM submissions s LEFT JOIN events e
             ON e.submission = s.pk AND e.attempt = ? AND kind IN ('stdout', 'stderr')
         WHERE s.pk = ? ORDER BY seq",
    )
    .bind(attempt)
    .bind(pk)
    .fetch(conn);
    let mut bytes: Vec<[Vec<u8>; 2]> = vec![Default::default(); runs];
    let mut seen = None;
    while let Some(row) = rows.try_next().await? {
        let seen = seen.get_or_insert(0);
        let Some(kind) = row.try_get::<Option<&str>, _>("kind")? else { continue };
        let data: &[u8] = row.try_get("data")?;
        *seen += data.len() as u64;
        if *seen > WHOLE_BYTES {
            return Ok(Whole::Larger);
        }
        if let Some(streams) = bytes.get_mut(row.try_get::<u32, _>("run")? as usize) {
            streams[stream_of(kind) as usize].extend_from_slice(data);
        }
    }
    if seen.is_none() {
        return Ok(Whole::Gone);
    }
    let kept = |bytes: Vec<u8>| Kept::Here(bytes.into());
    let of_run =
        |[stdout, stderr]: [Vec<u8>; 2]| KeptOutput { stdout: kept(stdout), stderr: kept(stderr) };
    Ok(Whole::Read(bytes.into_iter().map(of_run).collect()))
}

/// The kinds of the events that hold it.
pub(super) fn kinds(stream: Option<Stream>) -> [&'static str; 2] {
    match stream {
        Some(stream) => [stream_kind(stream); 2],
        None => [Stream::Stdout, Stream::Stderr].map(stream_kind),
    }
}

fn stream_of(kind: &str) -> Stream {
    if kind == "stdout" { Stream::Stdout } else { Stream::Stderr }
}

/// What is known of one stream while it is looked through.
#[derive(Default)]
struct Look {
    bytes: Vec<u8>,
    seen: u64,
    utf8: Utf8,
}

/// Reads all output of an attempt once, and keeps of each stream what is small.
async fn look_through(
    conn: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
    sizes: &[[u64; 2]],
) -> Result<Vec<KeptOutput>, StoreError> {
    let whole = sizes.iter().flatten().sum::<u64>() <= WHOLE_BYTES;
    let keeps = |size: u64| whole || size <= SMALL_BYTES;
    let mut looks: Vec<[Look; 2]> = sizes.iter().map(|_| Default::default()).collect();
    let mut rows = sqlx::query(
        "SELECT run, kind, data FROM events
         WHERE submission = ? AND attempt = ? AND kind IN ('stdout', 'stderr') ORDER BY seq",
    )
    .bind(pk)
    .bind(attempt)
    .fetch(conn);
    while let Some(row) = rows.try_next().await? {
        let (run, stream) =
            (row.try_get::<u32, _>("run")? as usize, stream_of(row.try_get("kind")?));
        let Some(look) = looks.get_mut(run) else { continue };
        let (look, size) = (&mut look[stream as usize], sizes[run][stream as usize]);
        let data: &[u8] = row.try_get("data")?;
        look.seen += data.len() as u64;
        if keeps(size) {
            look.bytes.extend_from_slice(data);
        } else {
            look.utf8.push(data);
        }
    }
    let mut outputs = Vec::with_capacity(looks.len());
    for (run, (looks, sizes)) in (0..).zip(looks.into_iter().zip(sizes)) {
        let mut output = KeptOutput::default();
        for (stream, look) in [Stream::Stdout, Stream::Stderr].into_iter().zip(looks) {
            let size = sizes[stream as usize];
            if look.seen != size {
                return Err(gone());
            }
            *output.of(stream) = if keeps(size) {
                Kept::Here(look.bytes.into())
            } else {
                let place = Place { pk, attempt, run, stream: Some(stream) };
                Kept::Stored(StoredOutput { place, bytes: size, text_bytes: look.utf8.end() })
            };
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// How much a run wrote to a stream, or to both.
pub fn written(report: &RunReport, stream: Option<Stream>) -> StreamSummary {
    let (stdout, stderr) = (report.stdout, report.stderr);
    match stream {
        Some(Stream::Stdout) => stdout,
        Some(Stream::Stderr) => stderr,
        None => StreamSummary {
            bytes: stdout.bytes.saturating_add(stderr.bytes),
            truncated: stdout.truncated || stderr.truncated,
        },
    }
}

pub(super) fn gone() -> StoreError {
    StoreError::Unreadable("output that was there is gone".to_owned())
}

impl Store {
    /// What was found, once nothing else is held.
    pub(super) async fn look(&self, found: Found) -> Result<Vec<KeptOutput>, StoreError> {
        match found {
            Found::All(outputs) => Ok(outputs),
            Found::Large { pk, attempt, sizes } => {
                let turn = self.inner.looks.acquire().await;
                let _turn = turn.expect("the semaphore is never closed");
                let mut conn = self.inner.readers.acquire().await?;
                look_through(&mut conn, pk, attempt, &sizes).await
            }
        }
    }

    /// What one run wrote to one stream in an attempt, or to both, in the order in which it did, as far
    /// as it is stored; with its size once the run is over. Whether it is text is not looked at.
    ///
    /// # Errors
    /// The database failed.
    pub async fn output(
        &self,
        id: SubmissionId,
        attempt: u32,
        run: u32,
        stream: Option<Stream>,
    ) -> Result<(Kept, Option<StreamSummary>), StoreError> {
        let [kind, other_kind] = kinds(stream);
        let row = sqlx::query(
            "SELECT s.pk,
                    (SELECT sum(length(e.data)) FROM events e WHERE e.submission = s.pk
                         AND e.attempt = ?2 AND e.run = ?3 AND e.kind IN (?4, ?5)) AS bytes,
                    (SELECT e.data FROM events e WHERE e.submission = s.pk
                         AND e.attempt = ?2 AND e.run = ?3 AND e.kind = 'run_finished') AS report
             FROM submissions s WHERE s.id = ?1",
        )
        .bind(codec::id_bytes(id))
        .bind(attempt)
        .bind(run)
        .bind(kind)
        .bind(other_kind)
        .fetch_optional(&self.inner.readers)
        .await?;
        let Some(row) = row else { return Ok(Default::default()) };
        let report: Option<RunReport> = row
            .try_get::<Option<&[u8]>, _>("report")?
            .map(|json| codec::from_json("a run's report", json))
            .transpose()?;
        let summary = report.map(|report| written(&report, stream));
        let place = Place { pk: row.try_get("pk")?, attempt, run, stream };
        let bytes = row.try_get::<Option<i64>, _>("bytes")?.unwrap_or(0).max(0) as u64;
        let stored = StoredOutput { place, bytes, text_bytes: None };
        if bytes > WHOLE_BYTES {
            return Ok((Kept::Stored(stored), summary));
        }
        let mut reader = self.read_output(&stored, bytes);
        let mut whole = Vec::with_capacity(bytes as usize);
        while let Some(pieces) = reader.next().await? {
            pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        }
        Ok((Kept::Here(whole.into()), summary))
    }

    /// What one run wrote to both streams in an attempt, as [`Store::output`]; also whether that is text.
    ///
    /// # Errors
    /// The database failed, or the submission was removed meanwhile.
    pub async fn both(&self, id: SubmissionId, attempt: u32, run: u32) -> Result<Kept, StoreError> {
        let (kept, _) = self.output(id, attempt, run, None).await?;
        let Kept::Stored(stored) = kept else { return Ok(kept) };
        let _turn = self.inner.looks.acquire().await.expect("the semaphore is never closed");
        let (mut reader, mut utf8) = (self.read_output(&stored, stored.bytes), Utf8::default());
        while let Some(pieces) = reader.next().await? {
            pieces.iter().for_each(|piece| utf8.push(piece));
        }
        Ok(Kept::Stored(StoredOutput { text_bytes: utf8.end(), ..stored }))
    }

    /// Reads the first `bytes` bytes of stored output, piece by piece.
    pub fn read_output(&self, output: &StoredOutput, bytes: u64) -> OutputReader {
        let left = bytes.min(output.bytes);
        OutputReader::new(self.inner.readers.clone(), output.place, left)
    }
}
