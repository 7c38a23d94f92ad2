//! What clients were promised, kept across the deaths of the daemon.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::{
    answer::Answer,
    app::TestApp,
    mix::{self, Case},
};

/// All submissions that clients have sent, each with an idempotency key of its own.
#[derive(Debug)]
pub(super) struct Ledger {
    marker: String,
    entries: Mutex<Vec<Entry>>,
    accepted: AtomicUsize,
    more: Notify,
    stopped: AtomicBool,
}

#[derive(Debug, Clone)]
struct Entry {
    case: Case,
    /// Once a 201 has been read.
    id: Option<String>,
    /// What was read when it had finished.
    ended: Option<Value>,
}

/// No answer came: the daemon is gone, or going.
struct Gone;

impl Ledger {
    pub(super) fn new(marker: &str) -> Ledger {
        Ledger {
            marker: marker.to_owned(),
            entries: Mutex::default(),
            accepted: AtomicUsize::new(0),
            more: Notify::new(),
            stopped: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap()
    }

    /// How many were accepted until now.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until so many were accepted.
    pub(super) async fn until_accepted(&self, number: usize) {
        loop {
            let more = self.more.notified();
            if self.accepted() >= number {
                return;
            }
            more.await;
        }
    }

    /// Tells clients to send nothing more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Clients that submit until the daemon is gone or they are told to stop.
    pub(super) async fn clients(&self, app: &TestApp, number: usize) {
        join_all((0..number).map(|_| async {
            loop {
                if self.stopped.load(Ordering::SeqCst) || self.one(app).await.is_err() {
                    break;
                }
            }
        }))
        .await;
    }

    /// Sends one submission; waits for the end of every other one.
    async fn one(&self, app: &TestApp) -> Result<(), Gone> {
        let index = {
            let mut entries = self.lock();
            let case = mix::case(entries.len(), &self.marker);
            entries.push(Entry { case, id: None, ended: None });
            entries.len() - 1
        };
        let id = self.send(app, index).await?;
        self.cancel(app, index, &id).await?;
        if index.is_multiple_of(2) {
            return Ok(());
        }
        loop {
            let read = get(app, Method::GET, &format!("/v1/submissions/{id}?wait=60")).await?;
            assert_eq!(read.status, StatusCode::OK, "{}", read.text());
            let submission = read.json();
            if submission["state"] == "finished" {
                self.lock()[index].ended = Some(submission);
                return Ok(());
            }
            if self.stopped.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
    }

    /// Sends an entry, for the first time or again.
    async fn send(&self, app: &TestApp, index: usize) -> Result<String, Gone> {
        let Entry { case, id: known, .. } = self.lock()[index].clone();
        let request = app
            .request(Method::POST, "/v1/submissions")
            .header("Idempotency-Key", format!("key-{index}"))
            .json(&case.request);
        let answer = app.try_send(request).await.ok_or(Gone)?;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Gone);
        }
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        match known {
            Some(known) => {
                assert_eq!(id, known, "number {index} was accepted twice");
                assert_eq!(answer.header("idempotent-replayed"), "true");
            }
            None => {
                self.lock()[index].id = Some(id.clone());
                self.accepted.fetch_add(1, Ordering::SeqCst);
                self.more.notify_waiters();
            }
        }
        Ok(id)
    }

    /// Ends an entry, if it is one that has to be ended.
    async fn cancel(&self, app: &TestApp, index: usize, id: &str) -> Result<(), Gone> {
        if !self.lock()[index].case.is_to_be_cancelled() {
            return Ok(());
        }
        let cancelled = get(app, Method::POST, &format!("/v1/submissions/{id}/cancel")).await?;
        match cancelled.status {
            // By an earlier try, whose answer was lost.
            StatusCode::OK | StatusCode::CONFLICT => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => Err(Gone),
            other => panic!("{other}: {}", cancelled.text()),
        }
    }

    /// Sends what was not answered once more, and ends what has to be ended.
    pub(super) async fn settle(&self, app: &TestApp) {
        let length = self.lock().len();
        for index in 0..length {
            let Entry { case, id, .. } = self.lock()[index].clone();
            if id.is_some() && !case.is_to_be_cancelled() {
                continue;
            }
            let sent = async {
                let id = self.send(app, index).await?;
                self.cancel(app, index, &id).await
            };
            assert!(sent.await.is_ok(), "the daemon is gone:\n{}", app.log());
        }
    }

    /// Asserts that each entry is one submission that has ended as it must, once, and that there are
    /// no other submissions.
    pub(super) async fn check_all(&self, app: &TestApp) {
        self.settle(app).await;
        let entries = self.lock().clone();
        let mut ids = BTreeSet::new();
        for (index, entry) in entries.iter().enumerate() {
            let Ok(id) = self.send(app, index).await else {
                panic!("the daemon is gone:\n{}", app.log())
            };
            let submission = app.finished(&id).await;
            entry.case.check(&submission);
            if let Some(ended) = &entry.ended {
                assert_eq!(ended, &submission, "it ended once, and differently later");
            }
            assert!(ids.insert(id), "two entries are one submission");
        }
        assert_eq!(app.all().await.len(), entries.len(), "no more than were sent");
        assert_eq!(app.get("/v1/stats").await.json()["submissions"]["finished"], entries.len());
    }
}

async fn get(app: &TestApp, method: Method, path: &str) -> Result<Answer, Gone> {
    app.try_send(app.request(method, path)).await.ok_or(Gone)
}
