//! An engine in a folder of its own.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use braindrill::{
    dispatcher::{Dispatcher, DispatcherError, Handle, NoObserver, Parts, Settings, View},
    language::Catalog,
    store::{DATABASE_FILE, Store, StoreOptions},
    submission::{
        Checker, Limits, NewSubmission, Outcome, Owner, State, SubmissionId, SubmissionRequest,
        SystemClock, Test, Timestamp,
    },
};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::fake::{FakeBackend, World};

/// Longer than anything here takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Engine {
    pub(super) store: Store,
    pub(super) handle: Handle,
    pub(super) backend: Arc<FakeBackend>,
    pub(super) soft: CancellationToken,
    pub(super) hard: CancellationToken,
    running: JoinHandle<Result<(), DispatcherError>>,
}

/// Quick ones, so that nothing here waits for a timer.
pub(super) fn settings() -> Settings {
    Settings {
        backoff_first: Duration::from_millis(5),
        backoff_longest: Duration::from_millis(20),
        reap_every: Duration::from_millis(20),
        sweep_every: Duration::from_millis(20),
        ..Settings::default()
    }
}

impl Engine {
    pub(super) async fn start(folder: &Path, backend: FakeBackend) -> Engine {
        Engine::start_with(folder, backend, settings(), StoreOptions::default()).await
    }

    pub(super) async fn start_with(
        folder: &Path,
        backend: FakeBackend,
        settings: Settings,
        options: StoreOptions,
    ) -> Engine {
        let catalog = Catalog::load(None).unwrap();
        Engine::start_knowing(catalog, folder, backend, settings, options).await
    }

    /// One that knows these languages.
    pub(super) async fn start_knowing(
        catalog: Catalog,
        folder: &Path,
        backend: FakeBackend,
        settings: Settings,
        options: StoreOptions,
    ) -> Engine {
        let store = Store::open(folder, options).await.unwrap();
        let backend = Arc::new(backend);
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let (handle, dispatcher) = Dispatcher::start(Parts {
            store: store.clone(),
            backend: backend.clone(),
            catalog,
            clock: Arc::new(SystemClock),
            settings,
            observer: Arc::new(NoObserver),
            soft: soft.clone(),
            hard: hard.clone(),
        })
        .await
        .unwrap();
        let running = TaskTracker::new().spawn(dispatcher.run());
        Engine { store, handle, backend, soft, hard, running }
    }

    /// An engine over a lasting backend with four slots.
    pub(super) async fn lasting(folder: &Path) -> Engine {
        Engine::start(folder, FakeBackend::new(Arc::<World>::default(), true, 4)).await
    }

    pub(super) async fn submit(&self, source: &str) -> SubmissionId {
        self.handle.submit(new(source)).await.unwrap().view.submission.id
    }

    pub(super) async fn finished(&self, id: SubmissionId) -> View {
        let view = self.handle.wait(&owner(), id, DEADLINE).await.unwrap();
        assert!(is_finished(&view), "{id} is {:?}", view.submission.state);
        view
    }

    pub(super) async fn get(&self, id: SubmissionId) -> View {
        self.handle.get(&owner(), id).await.unwrap()
    }

    /// Waits until nothing is placed and nothing is noted as placed.
    pub(super) async fn clean(&self) {
        eventually("nothing is left", async || {
            let here = self.store.leftovers(1).await.unwrap().is_empty()
                && self.store.interrupted().await.unwrap().is_empty();
            here && super::fake::lock(&self.backend.world.placed).is_empty()
        })
        .await;
    }

    /// Ends it as a signal would, at once.
    pub(super) async fn stop(self) {
        self.soft.cancel();
        self.hard.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap().unwrap();
        self.store.close().await;
    }

    /// Ends it as a signal would, when what runs has ended.
    pub(super) async fn drain(self) {
        self.soft.cancel();
        tokio::time::timeout(DEADLINE, self.running).await.unwrap().unwrap().unwrap();
        self.store.close().await;
    }
}

pub(super) fn owner() -> Owner {
    Owner::anonymous()
}

pub(super) fn new(source: &str) -> NewSubmission {
    NewSubmission {
        owner: owner(),
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

pub(super) fn new_of(name: &str, source: &str, priority: u8) -> NewSubmission {
    let mut new = new(source);
    new.owner = Owner(name.to_owned());
    new.request.priority = priority;
    new
}

pub(super) fn with_tests(source: &str, tests: usize) -> NewSubmission {
    let mut new = new(source);
    new.request.tests = (1..=tests)
        .map(|number| Test {
            name: number.to_string(),
            stdin: String::new(),
            args: Vec::new(),
            expected_output: None,
            checker: Checker::Tokens,
            points: 1.0,
        })
        .collect();
    new
}

pub(super) fn is_finished(view: &View) -> bool {
    matches!(view.submission.state, State::Finished { .. })
}

pub(super) fn outcome(view: &View) -> &Outcome {
    match &view.submission.state {
        State::Finished { outcome, .. } => outcome,
        other => panic!("not finished but {other:?}"),
    }
}

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Waits until a condition holds.
pub(super) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The data folder as a kill at this instant would leave it: the files of the database, of which
/// SQLite disregards what was half written.
pub(super) fn copy_as_killed(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{DATABASE_FILE}{suffix}");
        if from.join(&name).exists() {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
    to.to_owned()
}
