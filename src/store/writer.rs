//! The one task that writes: commands in, commits out.
//!
//! A batch is one transaction. When a command fails, the batch is rolled back and run again with
//! a savepoint around each command, so that the failing one fails alone; commands therefore keep
//! nothing outside of the database. When the disk is full, each is tried in a transaction of its
//! own; after any other error that makes SQLite give the whole transaction up, all of the batch get
//! that error.

use std::{
    future::Future,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StoreError, feed::Feeds, trouble::Trouble};
use crate::submission::SubmissionId;

/// Commands in one commit at the most: past it the cost of the disk's flush is well shared.
const BATCH: usize = 256;

/// Commands that may wait for the writer: a few batches, then senders wait.
const QUEUE: usize = 1024;

/// How long a lazy command waits for another that pays the commit.
pub const LAZY_WRITE: Duration = Duration::from_millis(50);

/// One change of the database. All state is in the database, so that it can be run again.
pub(super) trait Write: Send + Sync + 'static {
    /// What the caller learns; a refusal is an answer too, given before anything was changed.
    type Answer: Send + 'static;

    /// Makes the change. On an error nothing of it will stand.
    fn run<'a>(
        &'a self,
        tx: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<Self::Answer, StoreError>>;

    /// Whether its answer means that it is on disk. Else it means that the kernel has it: a process that
    /// is killed does not lose it, a machine that falls may.
    fn waits_for_disk(&self) -> bool {
        true
    }

    /// The submission that it adds events to or hides: those who follow it look again after the commit.
    fn changes(&self) -> Option<SubmissionId> {
        None
    }
}

/// How soon a change is to be made, and what its answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// With others, and on disk.
    Durably,
    /// At once, without waiting for the disk.
    Soon,
    /// With the next that does not wait, at the latest after [`LAZY_WRITE`].
    Lazily,
}

/// A [`Write`] of any kind, with its answer and the way back to its caller.
trait Command: Send {
    fn run<'a>(&'a mut self, tx: &'a mut SqliteConnection)
    -> BoxFuture<'a, Result<(), StoreError>>;
    fn waits_for_disk(&self) -> bool;
    fn changes(&self) -> Option<SubmissionId>;
    fn reply(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Call<W: Write> {
    write: W,
    pace: Pace,
    answer: Option<W::Answer>,
    reply: oneshot::Sender<Result<W::Answer, StoreError>>,
}

impl<W: Write> Command for Call<W> {
    fn run<'a>(
        &'a mut self,
        tx: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.answer = None;
            self.answer = Some(self.write.run(tx).await?);
            Ok(())
        })
    }

    fn waits_for_disk(&self) -> bool {
        self.pace == Pace::Durably && self.write.waits_for_disk()
    }

    fn changes(&self) -> Option<SubmissionId> {
        self.write.changes()
    }

    fn reply(self: Box<Self>, committed: Result<(), StoreError>) {
        let Call { answer, reply, .. } = *self;
        let answer = committed.map(|()| answer.expect("a command that ran has an answer"));
        // A caller that went away does not want it.
        let _ = reply.send(answer);
    }
}

struct Queued {
    command: Box<dyn Command>,
    lazy: bool,
}

/// The way to the writer task.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    trouble: Arc<Trouble>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// A lazy command that was handed over.
#[derive(Debug)]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// What became of it, once it is known.
    pub fn peek(&mut self) -> Option<Result<T, StoreError>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(StoreError::Closed)),
        }
    }

    /// Waits until it is stored, or is known not to be. After a lazy command that means that a process that
    /// is killed does not lose it; the disk has it with the next that is not lazy.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn done(&mut self) -> Result<T, StoreError> {
        (&mut self.0).await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Writer {
    /// Starts the task. `data_dir` is where the database is.
    pub(super) fn start(conn: SqliteConnection, data_dir: &Path, feeds: Arc<Feeds>) -> Writer {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let trouble = Arc::new(Trouble::new(data_dir));
        let ended = CancellationToken::new();
        let tasks = TaskTracker::new();
        // Dropped also when the task panics.
        let guard = ended.clone().drop_guard();
        let task = run(conn, receiver, trouble.clone(), feeds);
        tasks.spawn(async move {
            let _guard = guard;
            task.await;
        });
        tasks.close();
        Writer { queue: Mutex::new(Some(sender)), trouble, tasks, ended }
    }

    /// Has a change made and waits until it is on disk.
    pub(super) async fn write<W: Write>(&self, write: W) -> Result<W::Answer, StoreError> {
        self.send(write, Pace::Durably).await?.done().await
    }

    /// Hands a change over that need not be on disk at once; waits only while the queue is full.
    /// Changes are made in the order in which they are handed over, lazy or not.
    pub(super) async fn write_lazily<W: Write>(
        &self,
        write: W,
    ) -> Result<Pending<W::Answer>, StoreError> {
        self.send(write, Pace::Lazily).await
    }

    /// [`Writer::write_lazily`], for what somebody waits for: it is made at once, and everything that was
    /// handed over before it.
    pub(super) async fn write_soon<W: Write>(
        &self,
        write: W,
    ) -> Result<Pending<W::Answer>, StoreError> {
        self.send(write, Pace::Soon).await
    }

    fn send<W: Write>(
        &self,
        write: W,
        pace: Pace,
    ) -> impl Future<Output = Result<Pending<W::Answer>, StoreError>> + use<W> {
        let queue = self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        async move {
            let (reply, receiver) = oneshot::channel();
            let command = Box::new(Call { write, pace, answer: None, reply });
            let lazy = pace == Pace::Lazily;
            let queue = queue.ok_or(StoreError::Closed)?;
            queue.send(Queued { command, lazy }).await.map_err(|_| StoreError::Closed)?;
            Ok(Pending(receiver))
        }
    }

    pub(super) fn trouble(&self) -> Option<StoreError> {
        self.trouble.now()
    }

    pub(super) async fn close(&self) {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        self.tasks.wait().await;
    }

    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

async fn run(
    conn: SqliteConnection,
    mut queue: mpsc::Receiver<Queued>,
    trouble: Arc<Trouble>,
    feeds: Arc<Feeds>,
) {
    let mut conn = Connection { conn, syncs: None };
    let mut waiting: Vec<Queued> = Vec::with_capacity(BATCH);
    let mut due: Option<Instant> = None;
    loop {
        let room = BATCH.saturating_sub(waiting.len());
        let received = match due {
            None => queue.recv_many(&mut waiting, room).await,
            Some(due) => {
                match tokio::time::timeout_at(due, queue.recv_many(&mut waiting, room)).await {
                    Ok(received) => received,
                    Err(_) => usize::MAX,
                }
            }
        };
        let closed = received == 0;
        if waiting.is_empty() {
            break;
        }
        let now = Instant::now();
        let deadline = *due.get_or_insert(now + LAZY_WRITE);
        let urgent = waiting.iter().any(|queued| !queued.lazy);
        if !urgent && !closed && waiting.len() < BATCH && now < deadline {
            continue;
        }
        due = None;
        let batch = waiting.drain(..).map(|queued| queued.command).collect();
        commit(&mut conn, batch, &trouble, &feeds).await;
        if closed {
            break;
        }
    }
    if let Err(error) = conn.conn.close().await {
        tracing::warn!(%error, "closing the database failed");
    }
}

/// The one connection that writes.
struct Connection {
    conn: SqliteConnection,
    /// Whether a commit waits for the disk: SQLite's `synchronous` is FULL, else NORMAL. Not known after
    /// a failure.
    syncs: Option<bool>,
}

impl Connection {
    /// Begins a transaction whose commit waits for the disk or does not. One that does brings all
    /// before it there too.
    async fn begin(&mut self, syncs: bool) -> Result<(), StoreError> {
        if self.syncs == Some(syncs) {
            return execute(&mut self.conn, "BEGIN IMMEDIATE").await;
        }
        let sql = if syncs {
            "PRAGMA synchronous = FULL; BEGIN IMMEDIATE"
        } else {
            "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE"
        };
        // It may act although the transaction behind it does not begin.
        self.syncs = None;
        // The pragma acts when it is prepared, so it must be anew each time.
        sqlx::query(sql).persistent(false).execute(&mut self.conn).await?;
        self.syncs = Some(syncs);
        Ok(())
    }
}

async fn commit(
    conn: &mut Connection,
    mut batch: Vec<Box<dyn Command>>,
    trouble: &Trouble,
    feeds: &Feeds,
) {
    let results = match transaction(conn, &mut batch, false).await {
        // What is too big for what is left of the disk must not take the small ones with it.
        Err(StoreError::Full) if batch.len() > 1 => alone(conn, &mut batch).await,
        Err(error) if !error.ends_the_transaction() && batch.len() > 1 => {
            let length = batch.len();
            transaction(conn, &mut batch, true)
                .await
                .unwrap_or_else(|error| vec![Err(error); length])
        }
        Err(error) => vec![Err(error); batch.len()],
        Ok(results) => results,
    };
    // A command's own failure says nothing about the next.
    match results.iter().find(|result| matches!(result, Err(error) if error.ends_the_transaction()))
    {
        Some(failed) => trouble.note(failed),
        None if results.iter().any(Result::is_ok) => trouble.note(&Ok(())),
        None => {}
    }
    for (command, result) in batch.into_iter().zip(results) {
        if let (Ok(()), Some(id)) = (&result, command.changes()) {
            feeds.changed(id);
        }
        command.reply(result);
    }
}

/// Runs each command of a batch in a transaction of its own.
async fn alone(
    conn: &mut Connection,
    batch: &mut [Box<dyn Command>],
) -> Vec<Result<(), StoreError>> {
    let mut results = Vec::with_capacity(batch.len());
    for index in 0..batch.len() {
        results.push(transaction(conn, &mut batch[index..=index], false).await.map(|_| ()));
    }
    results
}

/// Runs a batch in one transaction and commits it. With `apart`, commands that fail are undone
/// alone; without, the first failure undoes all.
async fn transaction(
    conn: &mut Connection,
    batch: &mut [Box<dyn Command>],
    apart: bool,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let result = statements(conn, batch, apart).await;
    if result.is_err() {
        // SQLite may have rolled back already; then this says so, which is all right.
        let _ = execute(&mut conn.conn, "ROLLBACK").await;
    }
    result
}

async fn statements(
    conn: &mut Connection,
    batch: &mut [Box<dyn Command>],
    apart: bool,
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let mut results = Vec::with_capacity(batch.len());
    let syncs = batch.iter().any(|command| command.waits_for_disk());
    conn.begin(syncs).await?;
    let conn = &mut conn.conn;
    for command in batch {
        if !apart {
            command.run(conn).await?;
            results.push(Ok(()));
            continue;
        }
        execute(conn, "SAVEPOINT command").await?;
        let result = command.run(conn).await;
        if let Err(error) = &result {
            if error.ends_the_transaction() {
                return Err(error.clone());
            }
            execute(conn, "ROLLBACK TO command").await?;
        }
        execute(conn, "RELEASE command").await?;
        results.push(result);
    }
    execute(conn, "COMMIT").await?;
    Ok(results)
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::query(sql).execute(conn).await?;
    Ok(())
}
