//! Workers and daemons that end, stall or cannot be reached in the midst of runs.

use nix::sys::signal::Signal;

use super::*;
use crate::support::proxy::{Proxy, Way};

/// Runs that hold every slot of a worker, each saying that it has begun.
async fn fill(app: &TestApp, count: usize, seconds: u32) -> Vec<String> {
    let source = format!("echo begun; sleep {seconds}; echo ended");
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(app.submit_for_id(&bash(&source)).await);
    }
    for id in &ids {
        until_it_speaks(app, id).await;
    }
    ids
}

async fn all_end_well(app: &TestApp, ids: &[String]) -> Vec<u64> {
    let mut attempts = Vec::new();
    for id in ids {
        let submission = app.finished(id).await;
        assert_accepted(&submission, "begun\nended\n");
        attempts.push(submission["attempt"].as_u64().unwrap());
    }
    attempts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_ran_runs_again_elsewhere_and_nothing_of_it_stays() {
    let mut killed = TestWorker::start(8);
    let app = daemon(&[&killed], &["--slots", "8"]).await;
    let ids = fill(&app, 8, 4715).await;
    assert_eq!(sleepers(4715).len(), 8);
    // As nothing but the machine's end leaves it.
    killed.signal(Signal::SIGKILL);
    killed.wait_for_exit();
    until("its programs are gone", async || sleepers(4715).is_empty()).await;
    for id in &ids {
        let waiting = app.get(&format!("/v1/submissions/{id}")).await.json();
        assert_ne!(waiting["state"], "finished", "a verdict on nobody's run: {waiting}");
    }
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_killed_one_of_two_workers_ran_is_run_again() {
    let workers = [TestWorker::start(4), TestWorker::start(4)];
    let app = daemon(&workers.each_ref(), &[]).await;
    let ids = fill(&app, 4, 3).await;
    let mut on_first = 0;
    for id in &ids {
        let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
        on_first += usize::from(submission["placement"]["worker_id"] == workers[0].id());
    }
    workers[0].signal(Signal::SIGKILL);
    let attempts = all_end_well(&app, &ids).await;
    let again = attempts.iter().filter(|&&attempt| attempt == 2).count();
    assert_eq!(again, on_first, "{attempts:?}");
    assert!(attempts.iter().all(|&attempt| attempt <= 2), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stalls_is_given_up_within_seconds() {
    let stalled = TestWorker::start(2);
    let app = daemon(&[&stalled], &[]).await;
    let ids = fill(&app, 2, 1).await;
    stalled.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    until("they are given up", async || {
        let mut queued = 0;
        for id in &ids {
            let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
            queued += usize::from(submission["state"] != "running");
        }
        queued == ids.len()
    })
    .await;
    // Five seconds of silence, and what a busy machine adds.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    stalled.signal(Signal::SIGCONT);
    let attempts = all_end_well(&app, &ids).await;
    assert!(attempts.iter().all(|&attempt| attempt == 2), "{attempts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_loses_the_attempt_and_ends_its_program() {
    let worker = TestWorker::start(1);
    let proxy = Proxy::to(worker.url().trim_start_matches("http://").to_owned()).await;
    let flags = ["--backend", "pool", "--no-consul", "--workers", &proxy.address()];
    let app = TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &flags).await;
    let id = app.submit_for_id(&bash("echo begun; sleep 4712")).await;
    until_it_speaks(&app, &id).await;
    proxy.set(Way::Cut);
    until("the worker has ended it", async || sleepers(4712).is_empty()).await;
    until("it waits", async || {
        let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
        submission["state"] == "queued" && submission["waiting_for"].is_string()
    })
    .await;
    proxy.set(Way::Open);
    until("it runs again", async || sleepers(4712).len() == 1).await;
    assert_eq!(app.get(&format!("/v1/submissions/{id}")).await.json()["attempt"], 2);
    app.delete(&format!("/v1/submissions/{id}")).await;
    until("it is gone", async || sleepers(4712).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_leaves_no_program_and_its_successor_runs_them_again() {
    let worker = TestWorker::start(2);
    let app = daemon(&[&worker], &[]).await;
    let id = app.submit_for_id(&bash("echo begun; sleep 4713")).await;
    until_it_speaks(&app, &id).await;
    let ended = app.crash();
    until("its program has ended", async || sleepers(4713).is_empty()).await;
    let app = ended.start().await;
    until("it runs again", async || sleepers(4713).len() == 1).await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
    assert_accepted(&app.run(&bash("echo next")).await, "next\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_finishes_what_it_runs_and_leaves_nothing() {
    let mut first = TestWorker::start(2);
    let app = daemon(&[&first], &[]).await;
    let ids = fill(&app, 2, 3).await;
    first.signal(Signal::SIGTERM);
    until("it takes nothing new", async || {
        app.get("/v1/workers").await.json()["items"][0]["healthy"] == false
    })
    .await;
    assert_eq!(all_end_well(&app, &ids).await, [1, 1]);
    assert!(first.wait_for_exit().success(), "{}", first.log());
    assert_eq!(first.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_worker_ends_by_itself_when_its_last_run_is_over() {
    let mut worker = TestWorker::with(1, &["--no-consul", "--lease-seconds", "3"]);
    let app = daemon(&[&worker], &[]).await;
    let ids = fill(&app, 1, 5).await;
    assert_eq!(all_end_well(&app, &ids).await, [1]);
    assert!(worker.wait_for_exit().success(), "{}", worker.log());
    let waiting = app.submit_for_id(&bash("true")).await;
    until("it says what it waits for", async || {
        let submission = app.get(&format!("/v1/submissions/{waiting}")).await.json();
        submission["waiting_for"].as_str().is_some_and(|reason| reason.contains("warm worker"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stood_still_goes_on_where_it_was() {
    let worker = TestWorker::start(1);
    let app = daemon(&[&worker], &[]).await;
    let ids = fill(&app, 1, 9).await;
    app.signal(Signal::SIGSTOP);
    // Longer than a worker may be silent.
    tokio::time::sleep(Duration::from_secs(7)).await;
    app.signal(Signal::SIGCONT);
    assert_eq!(all_end_well(&app, &ids).await, [1]);
}
