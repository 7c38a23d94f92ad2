//! Submissions followed as they happen, event by event.
//!
//! ```text
//!   writer ── after a commit: changed ──> Feed ── wakes ──> EventReader, one for each who follows
//!                                          └── tail: the latest events, read once for all of them
//! ```
//!
//! Events are read from the database alone, so that whoever follows sees what is stored, in its order and
//! under its numbers, before and after a restart alike. Who keeps up shares one read and one copy with all
//! others; who is behind reads pieces of its own, and holds up nobody.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};
use tokio::sync::watch;

use super::{EventData, Store, StoreError, codec};
use crate::{
    protocol::Turns,
    sandbox::Stream,
    submission::{Outcome, Owner, StateName, SubmissionId, Timestamp},
};

/// Weight of the events that are kept for all who follow a submission.
const TAIL_WEIGHT: usize = 128 << 10;

/// Weight after which no more is read at once. One event is up to as heavy.
const PAGE_WEIGHT: usize = 64 << 10;

/// What an event weighs beside its bytes.
const EVENT_WEIGHT: usize = 256;

/// An event as it is stored.
#[derive(Debug)]
pub struct StoredEvent {
    /// Its number in the submission: 0 for the acceptance, then from 1 without gaps.
    pub n: u64,
    /// In which attempt; 0 before the first.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// What.
    pub happened: Happened,
    /// How it is shown, once somebody has written that: the same bytes for all who follow.
    pub shown: OnceLock<Bytes>,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// The submission entered this state.
    State(StateName),
    /// Its runner said this, other than that all is over.
    Runner(EventData),
    /// It ended so. The last event.
    Ended(Box<Outcome>),
}

impl StoredEvent {
    /// An event as it would be stored.
    pub fn new(n: u64, attempt: u32, at: Timestamp, happened: Happened) -> StoredEvent {
        StoredEvent { n, attempt, at, happened, shown: OnceLock::new() }
    }

    fn weight(&self) -> usize {
        let bytes = match &self.happened {
            Happened::Runner(EventData::Output { data, .. }) => data.len(),
            Happened::Runner(EventData::Compiled(report)) => {
                report.stdout.data.len() + report.stderr.data.len()
            }
            _ => 0,
        };
        EVENT_WEIGHT + bytes
    }

    fn is_last(&self) -> bool {
        matches!(self.happened, Happened::Ended(_))
    }
}

type Events = Vec<Arc<StoredEvent>>;

/// Those who follow, by submission. Holds nothing of one that nobody follows.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    table: Mutex<HashMap<SubmissionId, Followed>>,
    /// How many there are, for the many commits that concern nobody.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Followed {
    feed: Arc<Feed>,
    readers: usize,
}

/// One submission that somebody follows.
#[derive(Debug)]
struct Feed {
    /// How many commits have changed it since it is followed.
    changes: watch::Sender<u64>,
    tail: tokio::sync::Mutex<Tail>,
}

/// The latest events.
#[derive(Debug, Default)]
struct Tail {
    events: VecDeque<Arc<StoredEvent>>,
    weight: usize,
    /// The number of the last that is or was among them; none before the first reader.
    end: Option<u64>,
    /// The number of changes by which there was nothing behind `end`.
    seen: Option<u64>,
}

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, HashMap<SubmissionId, Followed>> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn follow(&self, id: SubmissionId) -> Arc<Feed> {
        let mut table = self.lock();
        let new = || {
            let feed = Feed { changes: watch::Sender::new(0), tail: Default::default() };
            Followed { feed: Arc::new(feed), readers: 0 }
        };
        let followed = table.entry(id).or_insert_with(new);
        followed.readers += 1;
        let feed = followed.feed.clone();
        self.count.store(table.len(), Ordering::Release);
        feed
    }

    fn leave(&self, id: SubmissionId) {
        let mut table = self.lock();
        if let Some(followed) = table.get_mut(&id) {
            followed.readers -= 1;
            if followed.readers == 0 {
                table.remove(&id);
            }
        }
        self.count.store(table.len(), Ordering::Release);
    }

    /// Whether somebody follows a submission.
    pub(super) fn is_followed(&self, id: SubmissionId) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().contains_key(&id)
    }

    /// A commit has changed a submission.
    pub(super) fn changed(&self, id: SubmissionId) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(followed) = self.lock().get(&id)
        {
            followed.feed.changes.send_modify(|changes| *changes += 1);
        }
    }
}

impl Tail {
    /// What it has of the events behind number `after`; `None` where `after` is not inside of it.
    fn behind(&self, after: u64) -> Option<Events> {
        let end = self.end?;
        let first = self.events.front().map_or(end + 1, |event| event.n);
        if after > end || after + 1 < first {
            return None;
        }
        let mut weight = 0;
        let behind = self.events.iter().skip((after + 1 - first) as usize);
        let page = behind.take_while(|event| {
            let fits = weight < PAGE_WEIGHT;
            weight += event.weight();
            fits
        });
        Some(page.cloned().collect())
    }

    fn extend(&mut self, events: &Events) {
        for event in events {
            self.weight += event.weight();
            self.end = Some(event.n);
            self.events.push_back(event.clone());
        }
        while self.weight > TAIL_WEIGHT
            && let Some(event) = self.events.pop_front()
        {
            self.weight -= event.weight();
        }
    }
}

/// Reads the events of one submission, those to come too, until its end. Holds nothing of the database
/// between two reads.
#[derive(Debug)]
pub struct EventReader {
    store: Store,
    id: SubmissionId,
    pk: i64,
    /// The event that the database does not hold: the acceptance.
    first: Option<StoredEvent>,
    after: u64,
    has_ended: bool,
    changes: watch::Receiver<u64>,
    feed: Arc<Feed>,
}

impl Store {
    /// Follows a submission from its acceptance, or from behind the event with number `after`. `None`
    /// where there is no such submission of this owner.
    ///
    /// # Errors
    /// The database failed.
    pub async fn follow(
        &self,
        owner: &Owner,
        id: SubmissionId,
        after: Option<u64>,
    ) -> Result<Option<EventReader>, StoreError> {
        let found = sqlx::query(
            "SELECT pk, created_ms, state = 'finished' AS is_finished,
                    (SELECT coalesce(max(n), 0) FROM events
                     WHERE submission = submissions.pk) AS latest
             FROM submissions WHERE id = ? AND owner = ? AND deleted_ms IS NULL",
        )
        .bind(codec::id_bytes(id))
        .bind(&owner.0)
        .fetch_optional(&self.inner.readers)
        .await?;
        let Some(row) = found else { return Ok(None) };
        let created_at = Timestamp::from_millis(row.try_get("created_ms")?);
        let accepted = Happened::State(StateName::Queued);
        let latest = row.try_get::<i64, _>("latest")?.max(0) as u64;
        let first = after.is_none().then(|| StoredEvent::new(0, 0, created_at, accepted));
        let (pk, is_finished) = (row.try_get("pk")?, row.try_get("is_finished")?);
        let feed = self.inner.feeds.follow(id);
        Ok(Some(EventReader {
            store: self.clone(),
            id,
            pk,
            first,
            // A number that was never given must not hide what comes.
            after: after.unwrap_or(0).min(latest),
            has_ended: after >= Some(latest) && is_finished,
            changes: feed.changes.subscribe(),
            feed,
        }))
    }

    /// Whether somebody follows a submission now, and so waits for what happens to it.
    pub fn is_followed(&self, id: SubmissionId) -> bool {
        self.inner.feeds.is_followed(id)
    }
}

impl EventReader {
    /// Whether nothing is to come any more.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The events that come next, as soon as there are any: at least one. `None` after the last, or when
    /// the submission was removed. May be dropped while it waits.
    ///
    /// # Errors
    /// The database failed.
    pub async fn next(&mut self) -> Result<Option<Events>, StoreError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(vec![Arc::new(first)]));
        }
        while !self.has_ended() {
            // Before the look, so that a change after it is seen.
            let changes = *self.changes.borrow_and_update();
            let page = match self.page(changes).await? {
                Page::Events(page) => page,
                Page::Gone => return Ok(None),
            };
            if let Some(last) = page.last() {
                self.after = last.n;
                self.has_ended = last.is_last();
                return Ok(Some(page));
            }
            // The sender is there as long as the feed, which is ours too.
            let _ = self.changes.changed().await;
        }
        Ok(None)
    }

    /// What is there behind the last that was read; nothing where that is the latest.
    async fn page(&self, changes: u64) -> Result<Page, StoreError> {
        let mut tail = self.feed.tail.lock().await;
        tail.end.get_or_insert(self.after);
        match tail.behind(self.after) {
            Some(page) if !page.is_empty() => return Ok(Page::Events(page)),
            Some(_) if tail.seen == Some(changes) => return Ok(Page::Events(Vec::new())),
            Some(_) => {}
            None => {
                drop(tail);
                return read(&self.store.inner.readers, self.pk, self.after).await;
            }
        }
        let page = read(&self.store.inner.readers, self.pk, self.after).await?;
        if let Page::Events(events) = &page {
            tail.extend(events);
            if events.is_empty() {
                tail.seen = Some(changes);
            }
        }
        Ok(page)
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.store.inner.feeds.leave(self.id);
    }
}

enum Page {
    Events(Events),
    /// The submission is hidden, or no more.
    Gone,
}

/// Reads events behind number `after`.
async fn read(readers: &SqlitePool, pk: i64, after: u64) -> Result<Page, StoreError> {
    let mut rows = sqlx::query(
        "SELECT e.n, e.attempt, e.at_ms, e.kind, e.run, e.data,
                CASE e.kind WHEN 'finished' THEN s.outcome END AS outcome
         FROM submissions s LEFT JOIN events e ON e.submission = s.pk AND e.n > ?
         WHERE s.pk = ? AND s.deleted_ms IS NULL ORDER BY e.n",
    )
    .bind(after as i64)
    .bind(pk)
    .fetch(readers);
    let (mut events, mut weight, mut is_there) = (Vec::new(), 0, false);
    while weight < PAGE_WEIGHT
        && let Some(row) = rows.try_next().await?
    {
        is_there = true;
        let Some(event) = event(&row)? else { break };
        weight += event.weight();
        events.push(Arc::new(event));
    }
    Ok(if is_there { Page::Events(events) } else { Page::Gone })
}

/// The event in a row; `None` where the row is only that of its submission, or a last word whose outcome
/// is still to be stored.
fn event(row: &SqliteRow) -> Result<Option<StoredEvent>, StoreError> {
    let Some(n) = row.try_get::<Option<i64>, _>("n")? else { return Ok(None) };
    let run = row.try_get::<Option<u32>, _>("run")?.unwrap_or(0);
    let data = row.try_get::<Option<&[u8]>, _>("data")?.unwrap_or_default();
    let output = |stream| {
        let data = Bytes::copy_from_slice(data);
        Happened::Runner(EventData::Output { run, stream, data, turns: Turns::default() })
    };
    let happened = match row.try_get("kind")? {
        "state" => Happened::State(codec::state_name(&String::from_utf8_lossy(data))?),
        "started" => Happened::Runner(EventData::Started),
        "compiled" => {
            let report = codec::from_json("a compile report", data)?;
            Happened::Runner(EventData::Compiled(report))
        }
        "stdout" => output(Stream::Stdout),
        "stderr" => output(Stream::Stderr),
        "run_finished" => {
            let report = codec::from_json("a run's report", data)?;
            Happened::Runner(EventData::RunFinished { run, report })
        }
        "finished" => {
            let Some(outcome) = row.try_get::<Option<&str>, _>("outcome")? else { return Ok(None) };
            Happened::Ended(Box::new(codec::from_json("an outcome", outcome.as_bytes())?))
        }
        other => return Err(StoreError::Unreadable(format!("there is no event `{other}`"))),
    };
    let at = Timestamp::from_millis(row.try_get("at_ms")?);
    Ok(Some(StoredEvent::new(n.max(0) as u64, row.try_get("attempt")?, at, happened)))
}
