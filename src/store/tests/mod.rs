//! What can only be seen from inside of the store. The rest is in `tests/it/engine`.

mod instance;
mod law;
mod output;
mod queue;
mod transitions;
mod writer;

use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;
use tempfile::TempDir;

use super::{Claim, Inserted, Store, StoreError, StoreOptions, writer::Write};
use crate::submission::{Limits, NewSubmission, Owner, Submission, SubmissionRequest, Timestamp};

async fn open() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).await.unwrap();
    (folder, store)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn new(source: &str) -> NewSubmission {
    NewSubmission {
        owner: Owner::anonymous(),
        request: SubmissionRequest {
            language: "python".to_owned(),
            source: Some(source.to_owned()),
            files: Vec::new(),
            entrypoint: "main.py".to_owned(),
            stdin: String::new(),
            args: Vec::new(),
            env: Default::default(),
            compile_args: Vec::new(),
            limits: Limits::DEFAULT,
            tests: Vec::new(),
            stop_on_failure: false,
            priority: 50,
            collect: Vec::new(),
            interactive: None,
        },
        idempotency_key: None,
    }
}

async fn insert(store: &Store) -> Submission {
    match store.insert(new("x"), at(1)).await.unwrap() {
        Inserted::New(submission) => *submission,
        other => panic!("{other:?}"),
    }
}

async fn claim(store: &Store) -> Claim {
    store.claim_next(1, at(2)).await.unwrap().remove(0).claim
}

/// Any statement, as a command.
struct Sql(&'static str);

impl Write for Sql {
    type Answer = u64;

    fn run<'a>(&'a self, tx: &'a mut SqliteConnection) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move { Ok(sqlx::query(self.0).execute(tx).await?.rows_affected()) })
    }
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&store.inner.readers).await.unwrap()
}
