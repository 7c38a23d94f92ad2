//! Opening the database: connections, schema, instance id.

use std::{path::Path, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{StoreError, writer::Write};

/// The database file in the data folder.
pub const DATABASE_FILE: &str = "braindrill.db";

/// How long to wait for another program's lock on the file: a shell or a backup is soon done.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers at once. Each read is short; more would only take turns on the disk.
const READERS: u32 = 4;

/// Rows that are read ahead of whoever takes them: a row of output is 64 KiB.
const ROWS_AHEAD: usize = 4;

/// How the store is set up.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Submissions that may wait at once. Default 10,000.
    pub queue_limit: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions { queue_limit: 10_000 }
    }
}

pub(super) struct Opened {
    pub(super) instance: String,
    pub(super) writer: SqliteConnection,
    pub(super) readers: SqlitePool,
}

pub(super) async fn open(data_dir: &Path) -> Result<Opened, StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(data_dir.join(DATABASE_FILE))
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(256)
        .row_buffer_size(ROWS_AHEAD);
    let mut writer = options
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    sqlx::migrate!("./migrations").run(&mut writer).await?;
    let instance = instance(&mut writer).await?;
    let readers = SqlitePoolOptions::new()
        // All are opened now and kept: opening a file can take as long as the disk is busy, which a
        // read of what is in memory must not wait for. One that is open does not go bad.
        .min_connections(READERS)
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.read_only(true))
        .await?;
    Ok(Opened { instance, writer, readers })
}

async fn instance(conn: &mut SqliteConnection) -> Result<String, StoreError> {
    let fresh = format!("{:08x}", super::codec::random() as u32);
    sqlx::query("INSERT INTO instance (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING")
        .bind(fresh)
        .execute(&mut *conn)
        .await?;
    Ok(sqlx::query_scalar("SELECT id FROM instance").fetch_one(conn).await?)
}

/// Writes the instance id over itself.
pub(super) struct Probe;

impl Write for Probe {
    type Answer = ();

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            sqlx::query("UPDATE instance SET id = id").execute(tx).await?;
            Ok(())
        })
    }
}
