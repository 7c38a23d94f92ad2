//! What a daemon says of itself and of submissions while Nomad or Consul is away, or has no room.

use futures_util::future::join_all;

use super::*;
use crate::support::{
    consul_agent::ConsulAgent,
    nomad::Options,
    proxy::{Proxy, Way},
    skip,
};

/// Waits until the daemon as a whole is so; what it says then. It takes submissions all the time.
async fn until_health(app: &TestApp, status: &str) -> Value {
    let mut ready = Value::Null;
    until(&format!("the daemon is {status}"), DEADLINE, async || {
        let answer = app.get("/healthz/ready").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        ready = answer.json();
        ready["status"] == status
    })
    .await;
    ready
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_degraded_while_nomad_is_away_and_says_why() {
    let nomad = Nomad::shared().await;
    let way = Proxy::to(nomad.host_and_port()).await;
    let app = daemon_at(&way.address(), &[]).await;
    let well = until_health(&app, "ready").await;
    assert_eq!(well["parts"]["backend"], json!({ "status": "ok" }), "{well}");
    for _ in 0..2 {
        way.set(Way::Cut);
        let ready = until_health(&app, "degraded").await;
        let part = &ready["parts"]["backend"];
        assert_eq!(part["status"], "degraded", "{ready}");
        assert!(part["reason"].as_str().is_some_and(|why| why.contains("Nomad")), "{ready}");
        way.set(Way::Open);
        assert_eq!(until_health(&app, "ready").await, well);
    }
    assert_accepted(&app.run(&bash("echo 42")).await, "42\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_is_degraded_while_consul_is_away_and_says_why() {
    let Some(mut consul) = ConsulAgent::start().await else { return };
    let nomad = Nomad::shared().await;
    let url = format!("http://{}", consul.settings().address);
    let args = ["--backend", "nomad", "--nomad-addr", &nomad.address(), "--consul-addr", &url];
    let app = TestApp::with(&args).await;
    let well = until_health(&app, "ready").await;
    assert_eq!(well["parts"]["consul"], json!({ "status": "ok" }), "{well}");

    consul.stop();
    let ready = until_health(&app, "degraded").await;
    let part = &ready["parts"]["consul"];
    assert_eq!(part["status"], "degraded", "{ready}");
    assert!(part["reason"].as_str().is_some_and(|why| why.contains("Consul")), "{ready}");
    assert_eq!(ready["parts"]["backend"]["status"], "ok", "{ready}");
    assert_accepted(&app.run(&bash("echo 42")).await, "42\n");

    consul.start_again().await;
    assert_eq!(until_health(&app, "ready").await, well);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_says_that_it_waits_for_room_and_runs_once_there_is_some() {
    let nomad = Nomad::stand_in(Options::default()).await;
    let app = daemon(&nomad, &[]).await;
    let switches = nomad.as_stand_in().unwrap();
    switches.set_room(false);
    let id = app.submit_for_id(&bash("echo 42")).await;
    let path = format!("/v1/submissions/{id}");
    let mut submission = Value::Null;
    until("it says what it waits for", DEADLINE, async || {
        submission = app.get(&path).await.json();
        submission["waiting_for"].is_string()
    })
    .await;
    let waits = submission["waiting_for"].as_str().unwrap();
    assert!(waits.contains("memory"), "{submission}");
    assert!(submission["started_at"].is_null(), "{submission}");

    switches.set_room(true);
    let submission = app.finished(&id).await;
    assert_accepted(&submission, "42\n");
    assert_eq!(submission["attempt"], 1, "{submission}");
    assert!(submission["waiting_for"].is_null(), "{submission}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_drained_node_runs_when_the_drain_is_over() {
    let nomad = Nomad::own(Options::default()).await;
    if nomad.as_stand_in().is_some() {
        return skip("there is no `nomad` on PATH, and the stand-in knows no drains");
    }
    let app = daemon(&nomad, &["--slots", "2"]).await;
    job_of(&app).await;
    let node = nomad.get("/v1/nodes").await[0]["ID"].as_str().unwrap().to_owned();
    let drain = async |order: Value| {
        let address = format!("{}/v1/node/{node}/drain", nomad.address());
        let answer = reqwest::Client::new().post(address).json(&order).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    };
    drain(json!({ "DrainSpec": { "Deadline": -1 } })).await;
    let program = bash("echo 42");
    // As many as may be in flight: nothing of this daemon ends that would have Nomad look again.
    let ids = join_all((0..2).map(|_| app.submit_for_id(&program))).await;
    for id in &ids {
        until("it waits for a node", DEADLINE, async || {
            let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
            submission["state"] == "running" && submission["waiting_for"].is_string()
        })
        .await;
    }
    drain(json!({ "DrainSpec": null, "MarkEligible": true })).await;
    for id in &ids {
        let submission = app.finished(id).await;
        assert_accepted(&submission, "42\n");
        assert_eq!(submission["attempt"], 1, "{submission}");
    }
}
