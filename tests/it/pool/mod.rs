//! The real daemon with warm workers, which are real too.

mod auto;
mod exchange;
mod faults;
mod finding;
mod network;
mod scaling;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    worker::{SECRET, TestWorker},
};

/// How long anything may take here: a worker that is given up, and another attempt on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A daemon on these workers.
async fn daemon(workers: &[&TestWorker], more: &[&str]) -> TestApp {
    let urls: Vec<_> = workers.iter().map(|worker| worker.url()).collect();
    let urls = urls.join(",");
    let flags = ["--backend", "pool", "--no-consul", "--workers", &urls];
    let variables = [("BRAINDRILL_WORKER_SECRET", SECRET)];
    let app = TestApp::with_variables(&variables, &[&flags, more].concat()).await;
    until("the workers are known", async || {
        app.get("/v1/workers").await.json()["items"].as_array().unwrap().len() == workers.len()
    })
    .await;
    app
}

fn bash(source: &str) -> Value {
    json!({ "language": "bash", "source": source, "limits": { "wall_time_ms": 100_000 } })
}

#[track_caller]
fn assert_accepted(submission: &Value, stdout: &str) {
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], stdout, "{submission}");
}

/// Waits until the program itself runs: it must say something first.
async fn until_it_speaks(app: &TestApp, id: &str) {
    until(&format!("{id} says something"), async || {
        let said = app.get(&format!("/v1/submissions/{id}/stdout")).await;
        said.status.is_success() && !said.body.is_empty()
    })
    .await;
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The processes of programs that sleep for so many seconds: a number that no other test has.
fn sleepers(seconds: u32) -> Vec<i32> {
    let mut found = crate::support::traces::with_word(&seconds.to_string());
    found.retain(|&pid| crate::support::traces::is_alive(pid));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_run_on_all_workers_and_say_where() {
    let workers = [TestWorker::start(2), TestWorker::start(2)];
    let app = daemon(&workers.each_ref(), &[]).await;
    let ids = futures_util::future::join_all(
        (0..24)
            .map(async |number| app.submit_for_id(&bash(&format!("echo this is {number}"))).await),
    )
    .await;
    let mut seen = std::collections::BTreeSet::new();
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_accepted(&submission, &format!("this is {number}\n"));
        assert_eq!(submission["placement"]["kind"], "pool");
        seen.insert(submission["placement"]["worker_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, workers.iter().map(|worker| worker.id().to_owned()).collect());
    let listed = app.get("/v1/workers").await.json();
    for worker in listed["items"].as_array().unwrap() {
        assert_eq!((&worker["kind"], &worker["healthy"]), (&json!("pool"), &json!(true)));
        assert_eq!((&worker["slots"], &worker["busy"]), (&json!(2), &json!(0)), "{worker}");
        assert!(worker["layers"].as_array().unwrap().len() > 3, "{worker}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_when_its_run_is_over() {
    let worker = TestWorker::start(1);
    let app = daemon(&[&worker], &["--log", "braindrill=debug"]).await;
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(app.submit_for_id(&bash(&format!("echo {number}"))).await);
    }
    for (number, id) in ids.iter().enumerate() {
        assert_accepted(&app.finished(id).await, &format!("{number}\n"));
    }
    assert!(app.log().contains("DEBUG"), "it would say so");
    assert!(!app.log().contains("did not take an attempt"), "{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_any_kind_and_requests_of_any_length_come_through_whole() {
    let worker = TestWorker::start(2);
    let app = daemon(&[&worker], &[]).await;
    for length in [1u32 << 10, 20 << 10, 900 << 10] {
        let stdin: String =
            (0..length).map(|n| char::from(b'!' + (u64::from(n) * 7919 % 91) as u8)).collect();
        let request = json!({ "language": "bash", "source": "cat", "stdin": stdin });
        let submission = app.run(&request).await;
        let run = &submission["outcome"]["runs"][0];
        assert!(run["stdout"]["data"] == stdin.as_str(), "byte for byte, of {length}");
    }
    let source = "import os,sys\nsys.stdout.buffer.write(bytes(range(256))*4096)";
    let id = app.submit_for_id(&json!({ "language": "python", "source": source })).await;
    app.finished(&id).await;
    let stdout = app.get(&format!("/v1/submissions/{id}/stdout")).await.body;
    let expected: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    assert!(stdout == expected, "1 MiB of every byte");
    assert_accepted(&app.run(&bash("true")).await, "");
    assert_accepted(&app.run(&bash("printf x")).await, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_program_at_once_and_gives_its_slot_back() {
    let worker = TestWorker::start(1);
    let app = daemon(&[&worker], &[]).await;
    let id = app.submit_for_id(&bash("echo begun; sleep 4711")).await;
    until_it_speaks(&app, &id).await;
    assert_eq!(sleepers(4711).len(), 1);
    let cancelled = app.post(&format!("/v1/submissions/{id}/cancel")).await.json();
    assert_eq!(cancelled["outcome"]["verdict"], "cancelled");
    assert_accepted(&app.run(&bash("echo next")).await, "next\n");
    assert_eq!(sleepers(4711), Vec::<i32>::new());
}
