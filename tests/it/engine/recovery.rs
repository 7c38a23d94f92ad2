//! The daemon ends at any instant and is started again.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
};

use braindrill::{
    language::Catalog,
    sandbox::Stream,
    store::StoreOptions,
    submission::{FaultKind, Outcome, StateName, SubmissionId, Verdict},
};

use super::{
    fake::{FakeBackend, World, lock},
    support::{Engine, copy_as_killed, eventually, new, outcome, owner, settings, with_tests},
};

/// What a kill would leave at one instant.
struct Snapshot {
    step: String,
    data: PathBuf,
    accepted: Vec<SubmissionId>,
    placed: BTreeSet<(SubmissionId, u32)>,
}

/// Runs a few submissions and takes a snapshot at every step that the backend sees.
async fn snapshots(folder: &tempfile::TempDir, lasting: bool) -> Vec<Snapshot> {
    let data = folder.path().join("data");
    let world = Arc::<World>::default();
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let snapshots = Arc::new(Mutex::new(Vec::new()));
    let mut backend = FakeBackend::new(world.clone(), lasting, 2);
    backend.hook = Arc::new({
        let (data, copies) = (data.clone(), folder.path().join("copies"));
        let (accepted, snapshots) = (accepted.clone(), snapshots.clone());
        move |step| {
            let mut snapshots = lock(&snapshots);
            // The list first: what is accepted meanwhile may or may not be in the copy.
            let accepted = lock(&accepted).clone();
            let to = copies.join(snapshots.len().to_string());
            // Both of one instant: what is released during the copy would else stay for ever.
            let (placed, data) = loop {
                let placed = lock(&world.placed).clone();
                let data = copy_as_killed(&data, &to);
                if *lock(&world.placed) == placed {
                    break (placed, data);
                }
            };
            snapshots.push(Snapshot { step: step.to_owned(), data, accepted, placed });
        }
    });
    let engine = Engine::start(&data, backend).await;
    let mut ids = Vec::new();
    for source in ["succeed", "lose once", "ambiguous, placed", "succeed"] {
        let id = engine.handle.submit(with_tests(source, 2)).await.unwrap().view.submission.id;
        lock(&accepted).push(id);
        ids.push(id);
    }
    for id in ids {
        engine.finished(id).await;
    }
    engine.clean().await;
    engine.stop().await;
    std::mem::take(&mut lock(&snapshots))
}

async fn ends_each_once(snapshot: &Snapshot, lasting: bool) {
    let world = Arc::<World>::default();
    if lasting {
        lock(&world.placed).extend(&snapshot.placed);
    }
    let backend = FakeBackend::new(world.clone(), lasting, 2);
    let engine = Engine::start(&snapshot.data, backend).await;
    let step = &snapshot.step;
    for id in &snapshot.accepted {
        let view = engine.finished(*id).await;
        assert_eq!(outcome(&view).verdict(), Verdict::Accepted, "killed at {step}");
        assert_eq!(view.outputs.len(), 2, "killed at {step}");
        for (run, output) in view.outputs.iter().enumerate() {
            let expected = format!("out of run {run}");
            assert_eq!(&output.stdout.here().unwrap()[..], expected.as_bytes(), "killed at {step}");
        }
        assert!(view.submission.attempt <= 4, "killed at {step}");
    }
    engine.clean().await;
    for key in lock(&world.starts).keys() {
        assert!(!snapshot.placed.contains(key) || !lasting, "{key:?} was begun twice ({step})");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_nothing_where_attempts_end_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = snapshots(&folder, false).await;
    assert!(snapshots.len() > 20, "{} steps", snapshots.len());
    for snapshot in &snapshots {
        ends_each_once(snapshot, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_step_loses_nothing_where_attempts_outlive_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = snapshots(&folder, true).await;
    assert!(snapshots.len() > 20, "{} steps", snapshots.len());
    for snapshot in &snapshots {
        ends_each_once(snapshot, true).await;
    }
}

#[tokio::test]
async fn an_attempt_that_outlived_the_daemon_is_taken_up_where_its_events_were() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::<World>::default();
    let engine = Engine::start(folder.path(), FakeBackend::new(world.clone(), true, 1)).await;
    let id = engine.submit("output, then gate").await;
    eventually("its output is stored", async || {
        let output = engine.handle.output(&owner(), id, 0, Some(Stream::Stdout)).await.unwrap();
        &output.kept.here().unwrap()[..] == b"so far "
    })
    .await;
    engine.stop().await;
    let engine = Engine::start(folder.path(), FakeBackend::new(world.clone(), true, 1)).await;
    assert_eq!(engine.get(id).await.submission.state.name(), StateName::Running);
    engine.backend.gate.open();
    let view = engine.finished(id).await;
    assert_eq!(&view.outputs[0].stdout.here().unwrap()[..], b"so far out of run 0");
    assert_eq!(view.submission.attempt, 1);
    assert_eq!(lock(&world.starts)[&(id, 1)], 1);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn ten_restarts_under_a_submission_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut id = None;
    for restart in 0..10 {
        let backend = FakeBackend::new(Arc::<World>::default(), false, 1);
        let engine = Engine::start(folder.path(), backend).await;
        let id = match id {
            None => *id.insert(engine.submit("hang").await),
            Some(id) => id,
        };
        eventually("it runs", async || {
            let submission = engine.get(id).await.submission;
            submission.state.name() == StateName::Running && submission.attempt == restart + 1
        })
        .await;
        engine.stop().await;
    }
    let backend = FakeBackend::new(Arc::<World>::default(), false, 1);
    let engine = Engine::start(folder.path(), backend).await;
    let view = engine.finished(id.unwrap()).await;
    match outcome(&view) {
        Outcome::Failed(fault) => assert_eq!(fault.kind, FaultKind::RestartsExhausted),
        other => panic!("{other:?}"),
    }
    engine.stop().await;
}

#[tokio::test]
async fn draining_lets_what_runs_end_and_leaves_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::new(Arc::<World>::default(), false, 1);
    let engine = Engine::start(folder.path(), backend).await;
    let (runs, waits) = (engine.submit("gate").await, engine.submit("succeed").await);
    eventually("it runs", async || {
        engine.get(runs).await.submission.state.name() == StateName::Running
    })
    .await;
    engine.soft.cancel();
    let refused = engine.handle.submit(super::support::new("succeed")).await;
    assert!(matches!(refused, Err(braindrill::dispatcher::SubmitError::Unavailable(_))));
    assert!(!engine.handle.readiness().await.accepting);
    engine.backend.gate.open();
    engine.drain().await;
    let backend = FakeBackend::new(Arc::<World>::default(), false, 1);
    let engine = Engine::start(folder.path(), backend).await;
    let view = engine.get(runs).await;
    assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 1));
    let view = engine.finished(waits).await;
    assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 1));
    engine.stop().await;
}

#[tokio::test]
async fn recovery_waits_for_a_backend_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let world = Arc::<World>::default();
    let engine = Engine::start(folder.path(), FakeBackend::new(world.clone(), true, 1)).await;
    let id = engine.submit("gate").await;
    eventually("it runs", async || {
        engine.get(id).await.submission.state.name() == StateName::Running
    })
    .await;
    engine.stop().await;
    let mut backend = FakeBackend::new(world.clone(), true, 1);
    backend.away.store(true, Ordering::SeqCst);
    let asked = Arc::new(tokio::sync::Notify::new());
    backend.hook = Arc::new({
        let asked = asked.clone();
        move |step| {
            if step == "recover" {
                asked.notify_one();
            }
        }
    });
    let engine = Engine::start(folder.path(), backend).await;
    asked.notified().await;
    assert_eq!(engine.get(id).await.submission.state.name(), StateName::Running);
    engine.backend.away.store(false, Ordering::SeqCst);
    engine.backend.gate.open();
    let view = engine.finished(id).await;
    assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 1));
    engine.clean().await;
    engine.stop().await;
}

const OWN_LANGUAGE: &str = r#"
[[language]]
id = "own"
name = "Own"
extension = "own"
source_file = "main.own"
tools.own = ["/usr/bin/own"]
version = { command = ["{tool:own}", "--version"] }
run = { command = ["{tool:own}", "{entrypoint}"] }
"#;

#[tokio::test]
async fn what_was_placed_in_a_language_that_is_not_known_any_more_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let (data, world) = (folder.path().join("data"), Arc::<World>::default());
    let file = folder.path().join("languages.toml");
    std::fs::write(&file, OWN_LANGUAGE).unwrap();
    let catalog = Catalog::load(Some(&file)).unwrap();
    let backend = FakeBackend::new(world.clone(), true, 4);
    let (settings, options) = (settings(), StoreOptions::default());
    let engine = Engine::start_knowing(catalog, &data, backend, settings.clone(), options).await;
    let mut new = new("placed, then hang in start");
    new.request.language = "own".to_owned();
    let id = engine.handle.submit(new).await.unwrap().view.submission.id;
    eventually("it is placed", async || !lock(&world.placed).is_empty()).await;
    engine.stop().await;

    let engine = Engine::start(&data, FakeBackend::new(world.clone(), true, 4)).await;
    engine.finished(id).await;
    engine.clean().await;
    engine.stop().await;
}
