//! What can go wrong with the database, said so that an operator knows what to do.

use std::path::{Path, PathBuf};

/// The store could not be opened, or could not do what was asked.
///
/// `Clone`, since one failed commit is the answer to many commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The data folder cannot be made or written.
    #[error(
        "cannot use the data directory {path}: {reason}; \
         make it writable for this user or choose another with --data-dir"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// Another daemon uses the data folder.
    #[error(
        "the data directory {path} is in use by the braindrill with pid {pid}; \
         stop it or choose another directory with --data-dir"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// The file is no database, or its contents contradict each other.
    #[error(
        "the database file is damaged ({0}); restore it from a backup, or move it away together \
         with its -wal and -shm files to start with an empty one"
    )]
    Damaged(String),
    /// Another program holds the database's own lock.
    #[error(
        "the database is locked by another program; close whatever else has the file open \
         (an sqlite3 shell, a backup) and try again"
    )]
    Busy,
    /// No space is left.
    #[error("the disk that holds the database is full; free some space, nothing stored is lost")]
    Full,
    /// The file cannot be written.
    #[error("the database file cannot be opened or written ({0}); check its owner and permissions")]
    Unwritable(String),
    /// The device failed.
    #[error("the disk that holds the database reports an error ({0}); check it and the system log")]
    Device(String),
    /// The schema is of a later program.
    #[error(
        "the database was written by a newer braindrill (schema {0}); \
         start that version, or choose another directory with --data-dir"
    )]
    Newer(i64),
    /// The store is closed, or its writer broke.
    #[error("the store is closed")]
    Closed,
    /// Events that come before these are not stored.
    #[error("events that come before these are not stored")]
    Gap,
    /// A row does not say what it must.
    #[error("the database holds a row that cannot be understood: {0}")]
    Unreadable(String),
    /// Anything else that SQLite reports.
    #[error("the database failed: {0}")]
    Database(String),
}

impl StoreError {
    /// Whether SQLite may have rolled back the whole transaction, so that none of it stands.
    pub(super) fn ends_the_transaction(&self) -> bool {
        matches!(
            self,
            StoreError::Full
                | StoreError::Device(_)
                | StoreError::Damaged(_)
                | StoreError::Busy
                | StoreError::Unwritable(_)
                | StoreError::Closed
        )
    }

    /// What a client may read of it: no path, nothing inside.
    pub fn public(&self) -> &'static str {
        match self {
            StoreError::Full => "the disk is full",
            StoreError::Closed => "the service is shutting down",
            StoreError::Busy => "the database is locked by another program",
            _ => "the database failed",
        }
    }

    pub(super) fn folder(path: &Path, error: &std::io::Error) -> StoreError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return StoreError::Full;
        }
        StoreError::Folder { path: path.to_owned(), reason: error.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    /// By SQLite's primary result code, the low 8 bits of the extended one
    /// (<https://sqlite.org/rescode.html>).
    fn from(error: sqlx::Error) -> StoreError {
        let database = match error {
            sqlx::Error::Database(database) => database,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return StoreError::Closed,
            sqlx::Error::PoolTimedOut => {
                return StoreError::Device("no answer for 30 s".to_owned());
            }
            sqlx::Error::Io(error) => return StoreError::Device(error.to_string()),
            error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
                return StoreError::Unreadable(error.to_string());
            }
            other => return StoreError::Database(other.to_string()),
        };
        let extended = database.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or(0);
        let message = database.message().to_owned();
        match extended & 0xff {
            5 | 6 => StoreError::Busy,
            8 | 14 | 23 => StoreError::Unwritable(message),
            10 => StoreError::Device(message),
            11 | 26 => StoreError::Damaged(message),
            13 => StoreError::Full,
            _ => StoreError::Database(message),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> StoreError {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
                StoreError::Newer(version)
            }
            other => StoreError::Database(other.to_string()),
        }
    }
}
