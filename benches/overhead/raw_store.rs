//! What the disk and SQLite give: the rows of a submission, written by a loop that does nothing else,
//! with the daemon's schema and pragmas.

use std::time::Instant;

use anyhow::Result;
use braindrill::submission::SubmissionId;
use braindrill::submission::{Clock as _, SystemClock};
use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::row::Turn;

/// The request of a Python hello as it is stored.
const REQUEST: &str = r#"{"language":"python","source":"print('hello')","entrypoint":"","stdin":"",
"args":[],"env":{},"compile_args":[],"limits":{"cpu_time_ms":5000,"wall_time_ms":10000,
"memory_bytes":268435456,"processes":64,"output_bytes":1048576,"disk_bytes":67108864},"tests":[],
"stop_on_failure":false,"priority":50}"#;

/// Inserts so many rows, so many a commit, into a new file.
pub(crate) async fn turn(count: usize, a_commit: usize) -> Result<Turn> {
    let folder = tempfile::tempdir()?;
    let mut conn = SqliteConnectOptions::new()
        .filename(folder.path().join("rows.db"))
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    sqlx::migrate!("./migrations").run(&mut conn).await?;
    let begun = Instant::now();
    let mut left = count;
    while left > 0 {
        let rows = left.min(a_commit);
        sqlx::query("BEGIN IMMEDIATE").execute(&mut conn).await?;
        for _ in 0..rows {
            let now = SystemClock.now();
            sqlx::query(
                "INSERT INTO submissions
                     (id, owner, language, state, priority, created_ms, queued_ms)
                 VALUES (?1, 'anonymous', 'python', 'queued', 50, ?2, ?2)",
            )
            .bind(SubmissionId::new(now).as_uuid().as_bytes().to_vec())
            .bind(now.as_millis())
            .execute(&mut conn)
            .await?;
            sqlx::query(
                "INSERT INTO requests (submission, request) VALUES (last_insert_rowid(), ?)",
            )
            .bind(REQUEST.as_bytes())
            .execute(&mut conn)
            .await?;
        }
        sqlx::query("COMMIT").execute(&mut conn).await?;
        left -= rows;
    }
    let elapsed = begun.elapsed();
    conn.close().await?;
    Ok(Turn::of_rate(count, elapsed))
}
