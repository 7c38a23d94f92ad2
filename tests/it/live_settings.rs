//! Settings in Consul that act while the daemon runs: the real daemon, a real Consul.

use std::time::{Duration, Instant};

use braindrill::consul::Client;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{app::TestApp, consul_agent::ConsulAgent};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const KEY: &str = "judge/settings";

/// A daemon whose settings are in a Consul of its own.
struct Governed {
    app: TestApp,
    consul: Client,
    /// Ends with the test.
    _agent: ConsulAgent,
}

impl Governed {
    /// With two slots, started when the key held this; none without Consul.
    async fn start(document: Option<&str>) -> Option<Governed> {
        let agent = ConsulAgent::start().await?;
        let consul = agent.client();
        if let Some(document) = document {
            consul.put_key(KEY, document.to_owned()).await.unwrap();
        }
        let address = agent.settings().address;
        let flags = ["--slots", "2", "--consul-addr", &address, "--consul-settings", KEY];
        let app = TestApp::with(&[&flags[..], &["--no-consul-register"]].concat()).await;
        Some(Governed { app, consul, _agent: agent })
    }

    /// Sets the key, and waits until the log has one more line with `mark`.
    async fn put(&self, document: &str, mark: &str) {
        let before = self.lines(mark);
        self.consul.put_key(KEY, document.to_owned()).await.unwrap();
        self.until_logged(mark, before + 1).await;
    }

    /// Removes the key, and waits until that acts.
    async fn delete(&self) {
        let before = self.lines("settings changed");
        self.consul.delete_key(KEY).await.unwrap();
        self.until_logged("settings changed", before + 1).await;
    }

    fn lines(&self, mark: &str) -> usize {
        self.app.log().lines().filter(|line| line.contains(mark)).count()
    }

    async fn until_logged(&self, mark: &str, count: usize) {
        let begun = Instant::now();
        while self.lines(mark) < count {
            assert!(begun.elapsed() < DEADLINE, "no `{mark}`:\n{}", self.app.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What is wrong with a submission.
    async fn refusal(&self, request: &Value) -> String {
        let problem = self.app.post_json("/v1/submissions", request).await.problem(422);
        let error = &problem["errors"][0];
        format!("{}: {}", error["field"].as_str().unwrap(), error["detail"].as_str().unwrap())
    }

    async fn submit_sleeper(&self) -> String {
        self.app.submit_for_id(&sleeper()).await
    }

    async fn cancel(&self, id: &str) {
        let answer = self.app.post(&format!("/v1/submissions/{id}/cancel")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    /// The state after a while in which it would have changed if anything were to change it.
    async fn state_after_a_second(&self, id: &str) -> String {
        let answer = self.app.get(&format!("/v1/submissions/{id}?wait=1")).await.json();
        answer["state"].as_str().unwrap().to_owned()
    }
}

/// Runs until it is cancelled.
fn sleeper() -> Value {
    let limits = json!({ "wall_time_ms": 120_000 });
    json!({ "language": "bash", "source": "sleep 100", "limits": limits })
}

fn bash(limits: Value) -> Value {
    json!({ "language": "bash", "source": "echo on", "limits": limits })
}

#[tokio::test]
async fn limits_and_languages_act_from_the_start_and_go_with_the_key() {
    let document = "limits.cpu_time_ms = 2000\nlanguages.py = false\n";
    let Some(governed) = Governed::start(Some(document)).await else { return };
    let app = &governed.app;
    let message = governed.refusal(&bash(json!({ "cpu_time_ms": 2001 }))).await;
    let expected = "2001 is not between 1 and 2000, the most allowed now";
    assert_eq!(message, format!("limits.cpu_time_ms: {expected}"));
    let id = app.submit_for_id(&bash(json!({}))).await;
    let sent = app.get(&format!("/v1/submissions/{id}")).await.json();
    assert_eq!(sent["request"]["limits"]["cpu_time_ms"], 2000, "a default is brought down");
    assert_eq!(app.finished(&id).await["outcome"]["verdict"], "accepted");
    let shown = app.get("/v1/languages/bash").await.json();
    assert_eq!(shown["limits"]["cpu_time_ms"], 2000);

    let python = app.get("/v1/languages/python").await.json();
    assert_eq!((&python["status"], &python["available"]), (&json!("unavailable"), &json!(false)));
    assert_eq!(python["reason"], "switched off by the operator");
    let message = governed.refusal(&json!({ "language": "python3", "source": "" })).await;
    assert_eq!(message, "language: python is unavailable: switched off by the operator");

    governed.delete().await;
    let python = app.get("/v1/languages/python").await.json();
    assert_ne!(python["reason"], "switched off by the operator");
    let id = app.submit_for_id(&bash(json!({ "cpu_time_ms": 2001 }))).await;
    assert_eq!(app.finished(&id).await["outcome"]["verdict"], "accepted");
    let line = "limits.cpu_time_ms from 2000 to 60000; python switched on";
    assert_eq!(governed.lines(line), 1, "{}", app.log());
}

#[tokio::test]
async fn a_bad_document_is_refused_once_as_a_whole_and_the_last_good_one_holds() {
    let Some(governed) = Governed::start(None).await else { return };
    governed.put("limits.processes = 20", "settings changed").await;
    let too_many = bash(json!({ "processes": 21 }));
    let refused = governed.refusal(&too_many).await;
    for (document, reason) in [
        (
            "limits.processes = 30\nslots = 0",
            "slots is 0, which is not a whole number between 1 and",
        ),
        ("limits.processes = 30\nlimit = 3", "`limit` is not known"),
        ("limits.processes = 30\nlanguages.cobol = true", "there is no language `cobol`"),
        ("limits.processes = 30\n[limits", "line 2: "),
    ] {
        governed.put(document, reason).await;
        assert_eq!(governed.refusal(&too_many).await, refused, "{document}");
    }
    let sound = r#"{"limits": {"processes": 20}}"#;
    governed.put(sound, "the settings in Consul can be used again").await;
    assert_eq!(governed.refusal(&too_many).await, refused);
    assert_eq!(governed.lines("are refused as a whole"), 4, "one line for each");
    assert_eq!(governed.lines("settings changed"), 1, "and for each change");
    governed.delete().await;
    governed.app.run(&too_many).await;
}

#[tokio::test]
async fn fewer_slots_end_nothing_that_runs_and_more_are_used_at_once() {
    let Some(governed) = Governed::start(None).await else { return };
    let app = &governed.app;
    let (first, second) = (governed.submit_sleeper().await, governed.submit_sleeper().await);
    app.in_state(&first, "running").await;
    app.in_state(&second, "running").await;
    governed.put("slots = 1", "settings changed").await;
    let third = governed.submit_sleeper().await;
    governed.cancel(&first).await;
    assert_eq!(governed.state_after_a_second(&third).await, "queued", "the one slot is taken");
    assert_eq!(governed.state_after_a_second(&second).await, "running", "and was not taken away");
    governed.put("slots = 2", "settings changed").await;
    app.in_state(&third, "running").await;
    assert_eq!(governed.state_after_a_second(&second).await, "running");

    governed.put("slots = 9", "no more than the 2 that the backend takes are used").await;
    let fourth = governed.submit_sleeper().await;
    assert_eq!(governed.state_after_a_second(&fourth).await, "queued");
    for id in [second, third, fourth] {
        governed.cancel(&id).await;
    }
}

#[tokio::test]
async fn the_limit_of_the_queue_holds_from_the_next_submission_on() {
    let Some(governed) = Governed::start(Some("slots = 1\nqueue_limit = 1")).await else { return };
    let app = &governed.app;
    let running = governed.submit_sleeper().await;
    app.in_state(&running, "running").await;
    let waiting = governed.submit_sleeper().await;
    let problem = app.post_json("/v1/submissions", &sleeper()).await.problem(503);
    assert!(problem["detail"].as_str().unwrap().contains("1 submissions wait"), "{problem}");
    governed.put("slots = 1\nqueue_limit = 2", "settings changed").await;
    let more = governed.submit_sleeper().await;
    governed.put("slots = 1\nqueue_limit = 1", "settings changed").await;
    app.post_json("/v1/submissions", &sleeper()).await.problem(503);
    assert_eq!(governed.state_after_a_second(&more).await, "queued", "what waits goes on to wait");
    for id in [waiting, more, running] {
        governed.cancel(&id).await;
    }
}

#[tokio::test]
async fn what_waits_for_a_language_that_is_switched_off_goes_on_once_it_is_on_again() {
    let Some(governed) = Governed::start(Some("slots = 1")).await else { return };
    let app = &governed.app;
    let running = governed.submit_sleeper().await;
    app.in_state(&running, "running").await;
    // More than is allowed by the time that it runs.
    let waiting = app.submit_for_id(&bash(json!({ "cpu_time_ms": 4000 }))).await;
    let off = "slots = 1\nlimits.cpu_time_ms = 1000\nlanguages.bash = false";
    governed.put(off, "settings changed").await;
    assert_eq!(governed.state_after_a_second(&running).await, "running", "what runs stays");
    governed.cancel(&running).await;
    let begun = Instant::now();
    loop {
        let submission = app.get(&format!("/v1/submissions/{waiting}")).await.json();
        assert_ne!(submission["state"], "finished", "{submission}");
        let reason = submission["waiting_for"].as_str().unwrap_or_default();
        if reason.contains("bash") && reason.contains("switched off by the operator") {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{submission}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    governed.put("slots = 1\nlimits.cpu_time_ms = 1000", "settings changed").await;
    let finished = app.finished(&waiting).await;
    assert_eq!(finished["outcome"]["verdict"], "accepted");
    assert_eq!(finished["request"]["limits"]["cpu_time_ms"], 4000, "it keeps its limits");
}
