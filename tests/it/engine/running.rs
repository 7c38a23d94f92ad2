//! From queued to finished, and what can go wrong on the way.

use std::sync::{Arc, atomic::Ordering};

use braindrill::{
    dispatcher::{PartStatus, ReadError},
    sandbox::Stream,
    store::StoreOptions,
    submission::{FaultKind, Outcome, Placement, StateName, Verdict},
};

use super::{
    fake::{FakeBackend, World, lock},
    support::{Engine, eventually, is_finished, new, outcome, owner, settings, with_tests},
};

fn fault(view: &braindrill::dispatcher::View) -> &braindrill::submission::Fault {
    match outcome(view) {
        Outcome::Failed(fault) => fault,
        other => panic!("not our fault but {other:?}"),
    }
}

#[tokio::test]
async fn a_submission_runs_to_its_verdict_and_its_output_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let submitted = engine.handle.submit(with_tests("succeed", 2)).await.unwrap();
    assert!(!submitted.replayed);
    assert_eq!(submitted.view.submission.attempt, 0);
    let view = engine.finished(submitted.view.submission.id).await;
    assert_eq!(outcome(&view).verdict(), Verdict::Accepted);
    assert_eq!(view.outputs.len(), 2);
    assert_eq!(&view.outputs[0].stdout.here().unwrap()[..], b"out of run 0");
    assert_eq!(&view.outputs[1].stdout.here().unwrap()[..], b"out of run 1");
    assert_eq!(&view.outputs[1].stderr.here().unwrap()[..], b"err");
    let submission = &view.submission;
    assert_eq!(submission.attempt, 1);
    assert!(matches!(submission.placement, Some(Placement::Nomad { .. })));
    assert!(submission.started_at.unwrap() >= submission.created_at);
    let id = submission.id;
    let output = engine.handle.output(&owner(), id, 1, Some(Stream::Stdout)).await.unwrap();
    assert_eq!(
        (&output.kept.here().unwrap()[..], output.bytes, output.truncated),
        (&b"out of run 1"[..], 12, false)
    );
    let none = engine.handle.output(&owner(), id, 2, Some(Stream::Stdout)).await;
    assert_eq!(none, Err(ReadError::NoSuchTest));
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_running_submission_shows_its_state_and_its_output_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("output, then gate").await;
    eventually("output is there", async || {
        let output = engine.handle.output(&owner(), id, 0, Some(Stream::Stdout)).await.unwrap();
        &output.kept.here().unwrap()[..] == b"so far "
    })
    .await;
    assert_eq!(engine.get(id).await.submission.state.name(), StateName::Running);
    assert!(engine.get(id).await.outputs.is_empty());
    engine.backend.gate.open();
    assert_eq!(
        &engine.finished(id).await.outputs[0].stdout.here().unwrap()[..],
        b"so far out of run 0"
    );
    engine.stop().await;
}

#[tokio::test]
async fn a_lost_attempt_is_made_again_and_its_output_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("lose once").await;
    let view = engine.finished(id).await;
    assert_eq!(outcome(&view).verdict(), Verdict::Accepted);
    assert_eq!(view.submission.attempt, 2);
    assert_eq!(&view.outputs[0].stdout.here().unwrap()[..], b"out of run 0");
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn three_lost_attempts_end_a_submission_with_the_reason_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("lose").await;
    let view = engine.finished(id).await;
    assert_eq!(fault(&view).kind, FaultKind::AttemptsExhausted);
    for attempt in 1..=3 {
        let reason = format!("({attempt}) node {attempt} vanished");
        assert!(fault(&view).message.contains(&reason), "{}", fault(&view).message);
    }
    assert_eq!(view.submission.attempt, 3);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn events_that_end_without_a_result_or_with_a_gap_are_a_lost_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let (early, gap) = (engine.submit("end early").await, engine.submit("gap").await);
    let view = engine.finished(early).await;
    assert!(fault(&view).message.contains("ended without a result"), "{}", fault(&view).message);
    let view = engine.finished(gap).await;
    assert!(fault(&view).message.contains("events 1 to 1"), "{}", fault(&view).message);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn repeated_events_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("repeats").await;
    assert_eq!(
        &engine.finished(id).await.outputs[0].stdout.here().unwrap()[..],
        b"once out of run 0"
    );
    engine.stop().await;
}

#[tokio::test]
async fn a_runners_fault_is_tried_again_only_where_that_may_help() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let (sandbox, checker) =
        (engine.submit("sandbox fault").await, engine.submit("checker fault").await);
    let view = engine.finished(sandbox).await;
    assert_eq!((fault(&view).kind, view.submission.attempt), (FaultKind::AttemptsExhausted, 3));
    let view = engine.finished(checker).await;
    assert_eq!((fault(&view).kind, view.submission.attempt), (FaultKind::CheckerFailed, 1));
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_start_that_is_given_up_keeps_its_place_until_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), FakeBackend::new(Arc::default(), true, 1)).await;
    let starts = || lock(&engine.backend.world.starts).len();
    let given_up = engine.submit("start slowly").await;
    eventually("it starts", async || starts() == 1).await;
    engine.handle.cancel(&owner(), given_up).await.unwrap();
    let next = engine.submit("succeed").await;
    // Long enough for the next to have started, if it did.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(starts(), 1, "there is one place, and it may still be taken");
    engine.backend.gate.open();
    assert_eq!(outcome(&engine.finished(next).await).verdict(), Verdict::Accepted);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_away_costs_no_attempt_and_is_named_as_what_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    engine.backend.away.store(true, Ordering::SeqCst);
    let ids = [engine.submit("succeed").await, engine.submit("succeed").await];
    eventually("the absence shows", async || {
        let view = engine.get(ids[1]).await;
        view.submission.waiting_for.as_deref() == Some("the fake is away")
    })
    .await;
    assert!(engine.handle.readiness().await.accepting);
    engine.backend.away.store(false, Ordering::SeqCst);
    for id in ids {
        let view = engine.finished(id).await;
        assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 1));
    }
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_backend_that_was_away_is_seen_to_be_back_although_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let backend = async || engine.handle.readiness().await.parts["backend"].clone();
    assert_eq!(backend().await, PartStatus::Ok);
    engine.backend.away.store(true, Ordering::SeqCst);
    let id = engine.submit("succeed").await;
    let away = PartStatus::Degraded("the fake is away".to_owned());
    eventually("the absence shows", async || backend().await == away).await;
    engine.handle.cancel(&owner(), id).await.unwrap();
    // Asked again and again, with nothing to ask with, it stays away as long as it is.
    let begun = engine.backend.checks.load(Ordering::SeqCst);
    eventually("it is asked", async || engine.backend.checks.load(Ordering::SeqCst) > begun + 1)
        .await;
    assert_eq!(backend().await, away);
    engine.backend.away.store(false, Ordering::SeqCst);
    eventually("it is back", async || backend().await == PartStatus::Ok).await;
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_away_from_the_start_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::new(Default::default(), true, 2);
    backend.away.store(true, Ordering::SeqCst);
    let engine = Engine::start(folder.path(), backend).await;
    let readiness = engine.handle.readiness().await;
    assert!(readiness.accepting);
    let away = PartStatus::Degraded("the fake is away".to_owned());
    assert_eq!(readiness.parts["backend"], away);
    engine.backend.away.store(false, Ordering::SeqCst);
    let id = engine.submit("succeed").await;
    assert_eq!(outcome(&engine.finished(id).await).verdict(), Verdict::Accepted);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn an_attempt_that_was_placed_without_an_answer_is_found_and_not_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let (placed, not) =
        (engine.submit("ambiguous, placed").await, engine.submit("ambiguous, not placed").await);
    assert_eq!(outcome(&engine.finished(placed).await).verdict(), Verdict::Accepted);
    let view = engine.finished(not).await;
    assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 2));
    let starts = lock(&engine.backend.world.starts).clone();
    assert_eq!(starts[&(placed, 1)], 1);
    assert!(!starts.contains_key(&(placed, 2)));
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_refused_submission_ends_as_our_fault() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    let id = engine.submit("refuse").await;
    assert_eq!(fault(&engine.finished(id).await).message, "it is too odd");
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn a_submission_that_waits_too_long_ends_saying_what_it_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.queue_timeout = std::time::Duration::from_millis(300);
    let backend = FakeBackend::new(Arc::<World>::default(), true, 1);
    let options = StoreOptions::default();
    let engine = Engine::start_with(folder.path(), backend, settings, options).await;
    let placed = engine.submit("never begin").await;
    let view = engine.finished(placed).await;
    assert_eq!(fault(&view).kind, FaultKind::QueueTimeout);
    assert!(fault(&view).message.ends_with("s: a machine with more memory"));
    let (hangs, queued) = (engine.submit("hang").await, engine.submit("succeed").await);
    let view = engine.finished(queued).await;
    assert_eq!(fault(&view).kind, FaultKind::QueueTimeout);
    assert!(fault(&view).message.ends_with("for a free place to run"));
    assert!(!is_finished(&engine.get(hangs).await));
    engine.handle.cancel(&owner(), hangs).await.unwrap();
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn an_attempt_past_all_its_limits_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.deadline_margin = std::time::Duration::ZERO;
    settings.max_lost_attempts = 1;
    let backend = FakeBackend::new(Arc::<World>::default(), true, 1);
    let options = StoreOptions::default();
    let engine = Engine::start_with(folder.path(), backend, settings, options).await;
    let mut request = new("hang");
    request.request.limits.wall_time_ms = 1;
    let id = engine.handle.submit(request).await.unwrap().view.submission.id;
    let view = engine.finished(id).await;
    assert!(fault(&view).message.contains("no result within"), "{}", fault(&view).message);
    engine.stop().await;
}

#[tokio::test]
async fn while_the_backend_is_away_an_attempt_is_not_past_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.deadline_margin = std::time::Duration::ZERO;
    let backend = FakeBackend::new(Arc::<World>::default(), true, 1);
    let options = StoreOptions::default();
    let engine = Engine::start_with(folder.path(), backend, settings, options).await;
    let mut request = new("away, then gate");
    request.request.limits.wall_time_ms = 1;
    let id = engine.handle.submit(request).await.unwrap().view.submission.id;
    eventually("it runs", async || {
        engine.get(id).await.submission.state.name() == StateName::Running
    })
    .await;
    // Three times what it may take.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    engine.backend.gate.open();
    let view = engine.finished(id).await;
    assert_eq!((outcome(&view).verdict(), view.submission.attempt), (Verdict::Accepted, 1));
    assert_eq!(lock(&engine.backend.world.starts).len(), 1);
    engine.clean().await;
    engine.stop().await;
}

#[tokio::test]
async fn no_more_run_at_once_than_the_backend_takes() {
    let folder = tempfile::tempdir().unwrap();
    let backend = FakeBackend::new(Arc::<World>::default(), false, 3);
    let engine = Engine::start(folder.path(), backend).await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(engine.submit("succeed").await);
    }
    for id in ids {
        engine.finished(id).await;
    }
    let most = engine.backend.most_running.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most} at once");
    engine.stop().await;
}

#[tokio::test]
async fn figures_count_states_rates_and_latencies() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::lasting(folder.path()).await;
    assert_eq!(engine.handle.stats().await.unwrap().latency, None);
    let done = engine.submit("succeed").await;
    engine.finished(done).await;
    let hangs = engine.submit("hang").await;
    eventually("it runs", async || {
        engine.get(hangs).await.submission.state.name() == StateName::Running
    })
    .await;
    let stats = engine.handle.stats().await.unwrap();
    let counts: Vec<_> = stats.submissions.into_iter().collect();
    assert_eq!(counts, [("dispatching", 0), ("finished", 1), ("queued", 0), ("running", 1)]);
    assert_eq!((stats.accepted_last_minute, stats.finished_last_minute), (2, 1));
    assert!(stats.latency.is_some());
    engine.stop().await;
}
