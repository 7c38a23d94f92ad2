//! What a daemon says of itself and of submissions while Nomad or Consul is away, or has no room.

use super::*;
use crate::support::{
    consul_agent::ConsulAgent,
    nomad::Options,
    proxy::{Proxy, Way},
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
