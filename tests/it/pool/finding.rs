//! Workers that come and go, as Consul tells of them.

use std::process::Command;

use nix::sys::signal::Signal;

use super::*;
use crate::support::{consul_agent::ConsulAgent, nomad::Nomad, skip};

#[tokio::test(flavor = "multi_thread")]
async fn workers_are_found_through_consul_as_they_come_and_go() {
    let Some(mut consul) = ConsulAgent::start().await else { return };
    let url = format!("http://{}", consul.settings().address);
    let flags = ["--backend", "pool", "--consul-addr", &url];
    let app = TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &flags).await;
    // Before there is one: it waits, and says so.
    let early = app.submit_for_id(&bash("echo early")).await;
    until("it says what it waits for", async || {
        let submission = app.get(&format!("/v1/submissions/{early}")).await.json();
        submission["waiting_for"] == "no warm worker is there"
    })
    .await;

    let mut first = TestWorker::with(2, &["--consul-addr", &url]);
    let submission = app.finished(&early).await;
    assert_accepted(&submission, "early\n");
    let id = format!("braindrill-worker-{}", first.id());
    assert_eq!(submission["placement"]["worker_id"], id, "as Consul knows it");

    // What was known stays while Consul is away.
    consul.stop();
    assert_accepted(&app.run(&bash("echo without it")).await, "without it\n");
    consul.start_again().await;

    // A second comes, and the first goes in good order: nothing is lost or tried in vain.
    let second = TestWorker::with(2, &["--consul-addr", &url]);
    let known = async || {
        let workers = app.get("/v1/workers").await.json();
        let items = workers["items"].as_array().unwrap().clone();
        items.into_iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    until("both are known", async || known().await.len() == 2).await;
    first.signal(Signal::SIGTERM);
    assert!(first.wait_for_exit().success(), "{}", first.log());
    until("the first is forgotten", async || {
        known().await == [format!("braindrill-worker-{}", second.id())]
    })
    .await;
    let submission = app.run(&bash("echo on the second")).await;
    assert_accepted(&submission, "on the second\n");
    assert_eq!(submission["attempt"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_no_worker_has_waits_alone() {
    let worker = TestWorker::start(1);
    let dir = tempfile::tempdir().unwrap();
    let languages = dir.path().join("languages.toml");
    let definition = "[[language]]\nid = \"nowhere\"\nname = \"Nowhere\"\nextension = \"nw\"\n\
        source_file = \"main.nw\"\ntools = { nowhere = [\"/opt/nowhere\"] }\n\
        version = { command = [\"{tool:nowhere}\"] }\nrun = { command = [\"{tool:nowhere}\"] }\n";
    std::fs::write(&languages, definition).unwrap();
    let app = daemon(&[&worker], &["--languages", languages.to_str().unwrap()]).await;
    let request = json!({ "language": "nowhere", "source": "x" });
    let waits = app.submit_for_id(&request).await;
    until("it says what it waits for", async || {
        let submission = app.get(&format!("/v1/submissions/{waits}")).await.json();
        submission["waiting_for"] == "a warm worker that has nowhere"
    })
    .await;
    for number in 0..5 {
        let submission = app.run(&bash(&format!("echo {number}"))).await;
        assert_accepted(&submission, &format!("{number}\n"));
    }
    let ready = app.get("/healthz/ready").await.json();
    assert_eq!(ready["status"], "ready", "{ready}");
}

/// Nomad's own command on this agent; what it prints.
fn nomad(address: &str, words: &[&str]) -> String {
    let output = Command::new("nomad").args(words).env("NOMAD_ADDR", address).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn nomad_starts_workers_by_their_job_files_and_ends_them() {
    let agent = Nomad::own(Default::default()).await;
    if agent.as_stand_in().is_some() {
        skip("the job files of workers take a real Nomad");
        return;
    }
    let Some(consul) = ConsulAgent::start().await else { return };
    let (address, consul) = (agent.address(), format!("http://{}", consul.settings().address));
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let variables = [
        format!("-var=executable={}", env!("CARGO_BIN_EXE_braindrill")),
        format!("-var=secret_file={}", secret.display()),
        format!("-var=arguments=[\"--consul-addr\", \"{consul}\", \"--slots\", \"2\"]"),
        "-var=cpu=50".to_owned(),
        "-var=memory=64".to_owned(),
    ];
    let run = |file: &str| {
        let file = format!("{}/nomad-jobs/{file}", env!("CARGO_MANIFEST_DIR"));
        let mut words = vec!["job", "run", "-detach"];
        words.extend(variables.iter().map(String::as_str));
        words.push(&file);
        nomad(&address, &words)
    };
    let flags = ["--backend", "pool", "--consul-addr", &consul];
    let app = TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &flags).await;
    let count = async || app.get("/v1/workers").await.json()["items"].as_array().unwrap().len();

    run("worker-system.nomad.hcl");
    until("the node's worker is there", async || count().await == 1).await;
    assert_accepted(&app.run(&bash("echo on a node")).await, "on a node\n");

    // One for a time beside it, which ends by itself.
    run("worker.nomad.hcl");
    nomad(&address, &["job", "dispatch", "-detach", "-meta", "seconds=15", "braindrill-worker"]);
    until("the leased worker is there", async || count().await == 2).await;
    until("its lease is over", async || count().await == 1).await;
    let jobs = async || agent.get("/v1/jobs?prefix=braindrill-worker/dispatch-").await;
    until("its job has ended well", async || {
        let jobs = jobs().await;
        let summary = &jobs[0]["JobSummary"]["Summary"]["worker"];
        jobs[0]["Status"] == "dead" && summary["Complete"] == 1 && summary["Failed"] == 0
    })
    .await;

    nomad(&address, &["job", "stop", "-detach", "braindrill-worker-system"]);
    until("no worker is left", async || count().await == 0).await;
}
