//! Holds the stand-in for Nomad to what a real one answered, and a real one to the same, when
//! there is one: else the recordings would grow old unnoticed.

mod agents;
mod bench;
mod children;
mod events;
mod manners;
mod shape;
mod stage;
mod switches;
mod transcript;

use reqwest::Method;
use serde_json::{Value, json};

use self::stage::{Like, Stage, Subject};
use crate::support::{
    nomad::{Nomad, Options},
    skip,
};

/// What is recorded and not asked again, and why.
const NOT_ASKED: [(&str, &str); 4] = [
    ("15c-event-stream-resume-index-future", "manners.rs asks this of a stream of its own"),
    ("15d-event-stream-no-headers-until-first-event", "so does it this"),
    ("15e-event-stream-live-one-dispatch", "so does it this"),
    ("15f-event-stream-dropped-tail", "switches.rs drops a stream: a real one cannot be made to"),
];

/// Where a real Nomad of the same version may differ, and why.
const REAL: &[(&str, &str, &str)] =
    &[("14", ".", "it tells of its machine and of its configuration")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stand_in_answers_as_recorded() {
    let nomad = Nomad::stand_in(Options::default()).await;
    ask_all(&nomad, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_nomad_answers_as_recorded() {
    let nomad = Nomad::shared().await;
    if nomad.as_stand_in().is_some() {
        return skip("there is no real Nomad to hold to the recordings");
    }
    if nomad.get("/v1/agent/self").await["config"]["Version"]["Version"] != "1.1.0" {
        return skip("the recordings are of Nomad 1.1.0, and this one is of another version");
    }
    ask_all(&nomad, REAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_job_files_are_read_as_a_real_nomad_reads_them() {
    let stand_in = bench::Bench::stand_in(Options::default()).await;
    let shared = bench::Bench::shared().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/nomad-jobs");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Those that the daemon registers; operators' own go to a real one.
        if !name.starts_with("run") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let body = json!({ "JobHCL": text, "Canonicalize": true });
        let ours = stand_in.ask(Method::POST, "/v1/jobs/parse", Some(body.clone())).await;
        let theirs = shared.ask(Method::POST, "/v1/jobs/parse", Some(body)).await;
        assert_eq!(ours, theirs, "{name}");
        read += 1;
    }
    assert!(read >= 3);
}

async fn ask_all(nomad: &Nomad, allowed: &'static [(&'static str, &'static str, &'static str)]) {
    let mut stage = Stage::new(nomad.address(), allowed);
    let nodes = nomad.get("/v1/nodes").await;
    let node = nodes[0]["ID"].as_str().unwrap().to_owned();
    without_children(&mut stage, &Subject { node, ..Subject::default() }).await;
    children::refused(&mut stage).await;
    children::complete(&mut stage).await;
    children::failed(&mut stage).await;
    children::blocked(&mut stage).await;
    children::stopped(&mut stage).await;
    children::replaced(&mut stage).await;
    stage.end(&NOT_ASKED);
}

/// What can be asked of a Nomad that runs nothing of ours.
async fn without_children(stage: &mut Stage, node: &Subject) {
    stage.replay("02-jobs-parse-hcl", node, Like::Value).await;
    stage.replay("02b-jobs-parse-hcl-error", node, Like::Text).await;
    for text in [
        "07-dispatch-missing-job",
        "10d-job-read-missing",
        "10e-job-allocations-missing-job",
        "10f-allocation-missing",
        "10g-allocation-bad-uuid",
        "12-fs-logs-unknown-alloc",
        "21b-register-invalid-job",
    ] {
        stage.replay(text, node, Like::Text).await;
    }
    stage.replay("17f-job-purge-missing", node, Like::Shape).await;
    stage.replay("21-validate-bad-job", node, Like::Value).await;
    for known in [
        "14-nodes",
        "14b-node-detail",
        "14c-agent-self",
        "14d-agent-members",
        "14e-status-leader",
        "14f-agent-health",
        "14g-status-peers",
    ] {
        stage.replay(known, node, Like::Shape).await;
    }
}

/// Registers one of the jobs in `requests/`.
async fn register(stage: &Stage, file: &str) {
    stage.call(Method::PUT, "/v1/jobs", transcript::request(file)).await;
}

/// Makes a child without payload that sleeps so many seconds.
async fn dispatch(stage: &Stage, parent: &str, sleep: &str, exit: &str) -> Subject {
    let body = json!({ "Meta": { "LANG_ID": "sh", "SLEEP": sleep, "EXIT": exit } });
    let path = format!("/v1/job/{parent}/dispatch");
    let made = stage.call(Method::POST, &path, body.to_string().into()).await;
    subject(&made)
}

/// What a dispatch made.
fn subject(made: &Value) -> Subject {
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    Subject { job: text("DispatchedJobID"), evaluation: text("EvalID"), ..Subject::default() }
}

/// Waits until this holds for the child's newest allocation.
async fn until(stage: &Stage, child: &mut Subject, holds: impl Fn(&Value) -> bool) {
    let path = format!("/v1/job/{}/allocations", child.job);
    let newest = |all: &Value| {
        let all = all.as_array().unwrap().iter();
        all.max_by_key(|each| each["CreateIndex"].as_u64()).cloned()
    };
    let all = stage.until(&path, |all| newest(all).is_some_and(|newest| holds(&newest))).await;
    child.allocation = newest(&all).unwrap()["ID"].as_str().unwrap().to_owned();
}
