//! Opening the database: connections, schema, what names this installation.

use std::{fs::File, io::Read as _, path::Path, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions as _, Connection as _, Row as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{StoreError, writer::Write};
use crate::protocol::RequestSecret;

/// The database file in the data folder.
pub const DATABASE_FILE: &str = "braindrill.db";

/// How long to wait for another program's lock on the file: a shell or a backup is soon done.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers at once. Each read is short; more would only take turns on the disk.
const READERS: u32 = 4;

/// Of the database in memory for the writer: negative, in KiB. Most of what a submission touches lies at the ends of
/// indices, of which there are as many however long they are.
const WRITER_CACHE: &str = "-4096";

/// The same for a reader, which has to forget it all at the next commit.
const READER_CACHE: &str = "-256";

/// Rows that are read ahead of whoever takes them: a row of output is 64 KiB.
const ROWS_AHEAD: usize = 4;

/// What a call of several statements answers, a row or a count each, without waiting for whoever takes them.
const ANSWERS_AHEAD: usize = 16;

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
    pub(super) secret: RequestSecret,
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
        .row_buffer_size(ANSWERS_AHEAD)
        .pragma("cache_size", WRITER_CACHE)
        .connect()
        .await?;
    sqlx::migrate!("./migrations").run(&mut writer).await?;
    let (instance, secret) = instance(&mut writer).await?;
    let readers = SqlitePoolOptions::new()
        // All are opened now and kept: opening a file can take as long as the disk is busy, which a
        // read of what is in memory must not wait for. One that is open does not go bad.
        .min_connections(READERS)
        .max_connections(READERS)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.read_only(true).pragma("cache_size", READER_CACHE))
        .await?;
    Ok(Opened { instance, secret, writer, readers })
}

async fn instance(conn: &mut SqliteConnection) -> Result<(String, RequestSecret), StoreError> {
    let fresh = format!("{:08x}", super::codec::random() as u32);
    sqlx::query("INSERT INTO instance (one, id) VALUES (1, ?) ON CONFLICT DO NOTHING")
        .bind(fresh)
        .execute(&mut *conn)
        .await?;
    let fresh = random_secret().map_err(|error| StoreError::Device(error.to_string()))?;
    sqlx::query("UPDATE instance SET secret = ? WHERE secret IS NULL")
        .bind(fresh.as_slice())
        .execute(&mut *conn)
        .await?;
    let row = sqlx::query("SELECT id, secret FROM instance").fetch_one(conn).await?;
    let secret: &[u8] = row.try_get("secret")?;
    let unreadable = |_| StoreError::Unreadable("the installation's secret".to_owned());
    Ok((row.try_get("id")?, RequestSecret::new(secret.try_into().map_err(unreadable)?)))
}

/// From the kernel, since it must be hard to guess.
fn random_secret() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The instance id of a data folder, whoever uses it now; none where there is no database yet.
pub(super) async fn peek(data_dir: &Path) -> Result<Option<String>, StoreError> {
    let file = data_dir.join(DATABASE_FILE);
    if !file.exists() {
        return Ok(None);
    }
    // Where nobody has it open, SQLite would make the files of a log only to read it.
    let is_unused = !data_dir.join(format!("{DATABASE_FILE}-wal")).exists();
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(BUSY_TIMEOUT);
    let mut conn = options.read_only(true).immutable(is_unused).connect().await?;
    let id = sqlx::query_scalar("SELECT id FROM instance").fetch_optional(&mut conn).await?;
    conn.close().await?;
    Ok(id)
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
