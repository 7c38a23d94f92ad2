//! The real daemon with the nomad backend, the real runner, and a Nomad: what is accepted comes back
//! whole, whatever ends meanwhile.

mod absences;
mod consul;
mod losses;
mod operators;
mod restarts;
mod shared_job;
mod sizes;
mod throng;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{app::TestApp, nomad::Nomad};

/// How long anything may take here: a node that is lost, and another attempt on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A daemon that runs programs on this Nomad, and knows no Consul.
async fn daemon(nomad: &Nomad, more: &[&str]) -> TestApp {
    daemon_at(&nomad.address(), more).await
}

/// The same, on the Nomad at an HTTP address.
async fn daemon_at(address: &str, more: &[&str]) -> TestApp {
    let args = ["--backend", "nomad", "--nomad-addr", address, "--no-consul"];
    TestApp::with(&[&args, more].concat()).await
}

fn bash(source: &str) -> Value {
    json!({ "language": "bash", "source": source, "limits": { "wall_time_ms": 100_000 } })
}

/// The job that a daemon dispatches from; that for large requests begins so too.
async fn job_of(app: &TestApp) -> String {
    let submission = app.run(&bash("echo 42")).await;
    assert_accepted(&submission, "42\n");
    let child = submission["placement"]["job_id"].as_str().unwrap();
    child.split_once("/dispatch-").unwrap().0.to_owned()
}

/// What was dispatched from a job and is still listed: ids and statuses.
async fn children(nomad: &Nomad, job: &str) -> Vec<(String, String)> {
    let jobs = nomad.get(&format!("/v1/jobs?prefix={job}")).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let children = jobs.as_array().unwrap().iter().filter(|job| job["ParentID"] != "");
    children.map(|job| (text(&job["ID"]), text(&job["Status"]))).collect()
}

#[track_caller]
fn assert_accepted(submission: &Value, stdout: &str) {
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], stdout, "{submission}");
}

/// Waits until the program itself runs: it must say something first.
async fn until_it_speaks(app: &TestApp, id: &str) {
    until(&format!("{id} says something"), DEADLINE, async || {
        let said = app.get(&format!("/v1/submissions/{id}/stdout")).await;
        said.status.is_success() && !said.body.is_empty()
    })
    .await;
}

async fn until(what: &str, deadline: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
