//! What happened during attempts, and the output of programs, which is kept here and nowhere else.
//! How output is read: `output.rs`.

use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::{Claim, Pending, Step, Store, StoreError, codec, files, writer::Write};
use crate::{
    protocol::Turns,
    sandbox::Stream,
    submission::{CompileReport, RunReport, StateName, SubmissionId, Timestamp},
};

/// Something to be stored of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The runner's number of it, or of the first where several are stored as one.
    pub seq: u64,
    /// The runner's number of the last that is stored as this one.
    pub last_seq: u64,
    /// When it reached us.
    pub at: Timestamp,
    /// What happened.
    pub data: EventData,
}

/// What happened in a runner, as far as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum EventData {
    /// It began.
    Started,
    /// The compile step is over.
    Compiled(CompileReport),
    /// A run wrote something.
    Output {
        /// Index of the run, from 0.
        run: u32,
        /// To which stream.
        stream: Stream,
        /// What.
        data: Bytes,
        /// How it alternates with the event behind it, which is output of the other stream; empty where
        /// it comes before all of that.
        turns: Turns,
    },
    /// What a file of the work directory holds. Kept apart from what happened, and numbered with it by the
    /// runner alone.
    File {
        /// Index in the `files` of the outcome.
        file: u32,
        /// What comes next of it.
        data: Bytes,
    },
    /// A run is over.
    RunFinished {
        /// Index of the run, from 0.
        run: u32,
        /// How it went.
        report: RunReport,
    },
    /// All is over; how, is in the submission's outcome.
    Finished,
}

impl EventData {
    fn kind(&self) -> &'static str {
        match self {
            EventData::Started => "started",
            EventData::Compiled(_) => "compiled",
            EventData::Output { stream, .. } => stream_kind(*stream),
            EventData::File { .. } => "file",
            EventData::RunFinished { .. } => "run_finished",
            EventData::Finished => "finished",
        }
    }

    fn run(&self) -> Option<u32> {
        match self {
            EventData::Output { run, .. } | EventData::RunFinished { run, .. } => Some(*run),
            _ => None,
        }
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            EventData::Output { data, .. } | EventData::File { data, .. } => Some(data.to_vec()),
            EventData::Compiled(report) => Some(codec::json(report).into_bytes()),
            EventData::RunFinished { report, .. } => Some(codec::json(report).into_bytes()),
            EventData::Started | EventData::Finished => None,
        }
    }

    fn turns(&self) -> Option<Vec<u8>> {
        match self {
            EventData::Output { turns, .. } if !turns.is_empty() => Some(turns.to_bytes()),
            _ => None,
        }
    }
}

pub(super) fn stream_kind(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

struct Append {
    pk: i64,
    id: SubmissionId,
    attempt: u32,
    lease: i64,
    /// The runner's number of the first of these.
    first: Option<u64>,
    events: Vec<NewEvent>,
    files: Vec<NewEvent>,
}

impl Store {
    /// Stores events of a running attempt, without waiting for the disk; at once where somebody follows
    /// the submission. Repeats are ignored.
    ///
    /// # Errors
    /// The store is closed. What becomes of it in the end may be [`StoreError::Gap`]: those before
    /// it could not be stored, so these are not either, and are to be sent once more behind them.
    pub async fn append(
        &self,
        claim: &Claim,
        mut events: Vec<NewEvent>,
    ) -> Result<Pending<Step>, StoreError> {
        let Claim { pk, id, attempt, lease, .. } = *claim;
        let first = events.first().map(|first| first.seq);
        let files = files::split_off(&mut events);
        let append = Append { pk, id, attempt, lease: lease.0, first, events, files };
        if self.is_followed(id) {
            self.inner.writer.write_soon(append).await
        } else {
            self.inner.writer.write_lazily(append).await
        }
    }
}

/// The runner's number that comes next in an attempt.
pub(super) async fn next_seq(
    conn: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
) -> Result<u64, StoreError> {
    let next: i64 = sqlx::query_scalar(
        "SELECT max(
             coalesce((SELECT max(last_seq) + 1 FROM events WHERE submission = ?1 AND attempt = ?2), 0),
             coalesce((SELECT max(seq) + 1 FROM files WHERE submission = ?1 AND attempt = ?2), 0))",
    )
    .bind(pk)
    .bind(attempt)
    .fetch_one(conn)
    .await?;
    Ok(next.max(0) as u64)
}

impl Write for Append {
    type Answer = Step;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<Step, StoreError>> {
        Box::pin(async move {
            if !self.is_current(tx).await? {
                return Ok(Step::Conflict);
            }
            let next = next_seq(tx, self.pk, self.attempt).await?;
            if self.first.is_some_and(|first| first > next) {
                return Err(StoreError::Gap);
            }
            if let Some(at) = started(&self.events) {
                self.mark_started(tx, at).await?;
            }
            files::insert(tx, self.pk, self.lease, &self.files).await?;
            insert(tx, self.pk, self.lease, &self.events).await?;
            Ok(Step::Done)
        })
    }

    fn changes(&self) -> Option<SubmissionId> {
        // Those who follow are told nothing of files.
        (!self.events.is_empty()).then_some(self.id)
    }
}

impl Append {
    async fn is_current(&self, tx: &mut SqliteConnection) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM submissions WHERE pk = ? AND lease = ?")
            .bind(self.pk)
            .bind(self.lease)
            .fetch_optional(tx)
            .await?;
        Ok(row.is_some())
    }

    async fn mark_started(
        &self,
        tx: &mut SqliteConnection,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE submissions SET started_ms = ?, waiting_for = NULL WHERE pk = ?")
            .bind(at.as_millis())
            .bind(self.pk)
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// When the runner began, if that is among these events.
pub(super) fn started(events: &[NewEvent]) -> Option<Timestamp> {
    events.iter().find(|event| event.data == EventData::Started).map(|event| event.at)
}

/// Stores one event, and numbers it, while its attempt is current; one that is stored already is passed
/// over.
const INSERT: &str = "\
    INSERT INTO events (submission, n, attempt, seq, last_seq, at_ms, kind, run, data, turns)
    SELECT s.pk, 1 + coalesce((SELECT max(n) FROM events WHERE submission = s.pk), 0),
           s.attempt, ?, ?, ?, ?, ?, ?, ?
    FROM submissions s WHERE s.pk = ? AND s.lease = ?
    ON CONFLICT (submission, attempt, seq) DO NOTHING;";

/// Events that are stored in one call: each call is a change of threads, and each number of events a
/// statement that SQLite keeps prepared. A small program has two or three, those of a long one are few
/// beside its output.
pub(super) const TOGETHER: usize = 8;

/// [`INSERT`] never, once, twice and so on, and then `last`.
pub(super) fn inserts(last: &str) -> [String; TOGETHER + 1] {
    std::array::from_fn(|count| INSERT.repeat(count) + last)
}

static INSERTS: LazyLock<[String; TOGETHER + 1]> = LazyLock::new(|| inserts(""));

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Numbers and stores events of a current attempt; those that are stored already are passed over.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    pk: i64,
    lease: i64,
    events: &[NewEvent],
) -> Result<(), StoreError> {
    for events in events.chunks(TOGETHER) {
        let query = sqlx::query(INSERTS[events.len()].as_str());
        bind(query, pk, lease, events).execute(&mut *tx).await?;
    }
    Ok(())
}

/// What each [`INSERT`] of a query wants.
pub(super) fn bind(mut query: Query, pk: i64, lease: i64, events: &[NewEvent]) -> Query {
    for event in events {
        let data = &event.data;
        query = query
            .bind(seq_column(event.seq))
            .bind(seq_column(event.last_seq))
            .bind(event.at.as_millis())
            .bind(data.kind())
            .bind(data.run())
            .bind(data.bytes())
            .bind(data.turns())
            .bind(pk)
            .bind(lease);
    }
    query
}

fn seq_column(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Stores what we say ourselves: a new state.
pub(super) async fn insert_state(
    tx: &mut SqliteConnection,
    pk: i64,
    attempt: u32,
    state: StateName,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO events (submission, n, attempt, at_ms, kind, data)
         SELECT ?1, 1 + coalesce((SELECT max(n) FROM events WHERE submission = ?1), 0),
                ?2, ?3, 'state', ?4",
    )
    .bind(pk)
    .bind(attempt)
    .bind(now.as_millis())
    .bind(state.as_str().as_bytes())
    .execute(tx)
    .await?;
    Ok(())
}
