//! The only SQL: submissions, their events and their placements, in one SQLite file.
//!
//! ```text
//!   dispatcher ── write(command) ──> queue ──> writer task ── BEGIN .. COMMIT ──> braindrill.db
//!        │                                      up to 256 commands a commit          │
//!        └───────────────── read pool, read-only connections <──────────────────────┘
//! ```
//!
//! Every write is a command for the one writer; many share a commit, and each answer is given after
//! it, so that an answer means "on disk". Commands marked lazy wait for company, at most
//! [`LAZY_WRITE`]. Not here: what a step means, and when it is taken; that is the dispatcher's.

mod cancel;
mod claim;
mod codec;
mod error;
mod events;
mod feed;
mod files;
mod finish;
mod insert;
mod keys;
mod list;
mod lock;
mod open;
mod output;
mod output_reader;
mod placements;
mod recovery;
mod submissions;
#[cfg(test)]
mod tests;
mod transitions;
mod trouble;
mod utf8;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use sqlx::SqlitePool;
use tokio::sync::Semaphore;

pub use cancel::Cancelled;
pub use claim::{Claim, Claimed, Outlook, Trace};
pub use error::StoreError;
pub use events::{EventData, NewEvent};
pub use feed::{EventReader, Happened, StoredEvent};
pub use files::FileReader;
pub use finish::{Finish, Overdue};
pub use insert::Inserted;
pub use list::{Listed, Selection};
pub use open::{DATABASE_FILE, StoreOptions};
pub use output::{Kept, KeptOutput, StoredOutput, written};
pub use output_reader::OutputReader;
pub use placements::{Leftover, Whereabouts};
pub use recovery::Interrupted;
pub use transitions::{Requeue, Step};
pub use writer::{LAZY_WRITE, Pending};

use crate::{protocol::RequestSecret, submission::Timestamp};

/// The store. Cheap to clone; the file is closed when the last clone is gone, or by
/// [`Store::close`].
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instance: String,
    secret: RequestSecret,
    queue_limit: AtomicU64,
    writer: writer::Writer,
    readers: SqlitePool,
    feeds: Arc<feed::Feeds>,
    /// Turns at looking through large outputs.
    looks: Semaphore,
    /// Held for its lock.
    lock: Mutex<Option<lock::DirectoryLock>>,
}

impl Store {
    /// Opens the database in `data_dir`, which is made if it does not exist, brings its schema up
    /// to date and starts the writer.
    ///
    /// # Errors
    /// [`StoreError`], each with what to do about it: another daemon holds the folder, it cannot
    /// be written, the file is damaged, busy, or of a newer version, the disk is full.
    pub async fn open(data_dir: &Path, options: StoreOptions) -> Result<Store, StoreError> {
        let lock = lock::DirectoryLock::take(data_dir)?;
        let opened = open::open(data_dir).await?;
        let feeds = Arc::<feed::Feeds>::default();
        let inner = Inner {
            instance: opened.instance,
            secret: opened.secret,
            queue_limit: AtomicU64::new(options.queue_limit),
            writer: writer::Writer::start(opened.writer, data_dir, feeds.clone()),
            readers: opened.readers,
            feeds,
            looks: Semaphore::new(output::LOOKS),
            lock: Mutex::new(Some(lock)),
        };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// 8 hex digits that name this installation, chosen when the database was made.
    pub fn instance(&self) -> &str {
        &self.inner.instance
    }

    /// What this installation's addresses of requests are made from, chosen likewise.
    pub fn request_secret(&self) -> &RequestSecret {
        &self.inner.secret
    }

    /// [`Store::instance`] of a data folder that a daemon may be using now; `None` where there is no
    /// database yet. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn peek_instance(data_dir: &Path) -> Result<Option<String>, StoreError> {
        open::peek(data_dir).await
    }

    /// The most submissions that may wait at once.
    pub fn queue_limit(&self) -> u64 {
        self.inner.queue_limit.load(Ordering::Relaxed)
    }

    /// Has at the most `limit` submissions wait, from the next insert on. More that wait already stay.
    pub fn set_queue_limit(&self, limit: u64) {
        self.inner.queue_limit.store(limit, Ordering::Relaxed);
    }

    /// Writes what is queued, closes the file and gives the folder free. Later calls of any clone
    /// fail with [`StoreError::Closed`].
    pub async fn close(&self) {
        // The last connection to be closed brings the log into the database file, which one that may
        // only read cannot.
        self.inner.readers.close().await;
        self.inner.writer.close().await;
        let lock = self.inner.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        drop(lock);
    }

    /// Returns when the writer has ended, which before [`Store::close`] means that it broke.
    pub async fn closed(&self) {
        self.inner.writer.ended().await;
    }

    /// Why writing failed last, if nothing was written since.
    pub fn trouble(&self) -> Option<StoreError> {
        self.inner.writer.trouble()
    }

    /// Writes a little, to see whether the disk takes it.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.inner.writer.write(open::Probe).await?;
        self.trouble().map_or(Ok(()), Err)
    }

    /// Removes what has been kept long enough: keys of submissions deleted 24 h ago.
    ///
    /// # Errors
    /// The database failed.
    pub async fn expire(&self, now: Timestamp) -> Result<(), StoreError> {
        self.inner.writer.write(keys::Expire { now }).await
    }
}
