//! The service beside submissions: the original's interface, languages, health, documentation, and
//! how the daemon starts and ends.

use std::process::Command;

use nix::sys::signal::Signal;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{app::TestApp, skip, traces::with_word};

#[tokio::test]
async fn bare_source_is_run_under_any_content_type() {
    let app = TestApp::start().await;
    let source = "import sys\nprint('out')\nprint('err', file=sys.stderr)";
    for path in ["/lang/python", "/python", "/py"] {
        for content_type in [None, Some("application/json"), Some("x/y"), Some("nonsense")] {
            let request = app.request(Method::POST, path).body(source);
            let request = match content_type {
                Some(content_type) => request.header("content-type", content_type),
                None => request,
            };
            let answer = app.send(request).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert_eq!(answer.text(), "out\nerr\n");
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(answer.header("braindrill-verdict"), "accepted");
            let id = answer.header("braindrill-submission");
            assert_eq!(app.finished(id).await["request"]["source"], source);
        }
    }
    let not_text = app.request(Method::POST, "/python").body(vec![0xff]);
    app.send(not_text).await.problem(422);
}

#[tokio::test]
async fn bare_source_that_does_not_compile_is_answered_with_the_compiler() {
    let app = TestApp::start().await;
    let answer =
        app.send(app.request(Method::POST, "/c").body("int main(void) { return x; }")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("braindrill-verdict"), "compile_error");
    assert!(answer.text().contains("undeclared"), "{}", answer.text());
}

#[tokio::test]
async fn languages_workers_figures_and_health_are_told() {
    let app = TestApp::with(&["--slots", "3"]).await;
    let languages = app.get("/v1/languages").await.json();
    let ids: Vec<_> = languages["items"].as_array().unwrap().iter().map(|l| &l["id"]).collect();
    assert!(ids.contains(&&json!("python")) && ids.contains(&&json!("c")), "{ids:?}");
    let python = app.get("/v1/languages/py").await.json();
    assert_eq!(python["id"], "python");
    assert_eq!(python["available"], true);
    assert_eq!(python["limits"]["cpu_time_ms"], 5000);
    let worker = &app.get("/v1/workers").await.json()["items"][0];
    assert_eq!((&worker["kind"], &worker["slots"]), (&json!("local"), &json!(3)));
    assert!(!worker["layers"].as_array().unwrap().is_empty());
    app.run_source("python", "").await;
    let stats = app.get("/v1/stats").await.json();
    let counts = json!({ "queued": 0, "dispatching": 0, "running": 0, "finished": 1 });
    assert_eq!(stats["submissions"], counts);
    assert_eq!(app.get("/healthz/live").await.json(), json!({ "status": "live" }));
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
    let metrics = app.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    let finished = "braindrill_submissions_finished_total{verdict=\"accepted\"} 1";
    assert!(metrics.text().contains(finished), "{}", metrics.text());
}

#[tokio::test]
async fn the_description_is_served_as_json_as_yaml_and_as_a_page_of_its_own() {
    let app = TestApp::start().await;
    let json = app.get("/openapi.json").await;
    assert_eq!(json.text(), include_str!("../../openapi/openapi.json"));
    let yaml = app.get("/openapi.yaml").await;
    assert!(yaml.text().starts_with("\"openapi\": \"3.0.0\"\n"), "{}", yaml.text());
    let docs = app.get("/docs").await;
    assert_eq!(docs.status, StatusCode::OK);
    assert!(docs.text().contains("createSubmissionBatch"));
    assert!(docs.header("content-security-policy").starts_with("default-src 'none'"));
}

#[tokio::test]
async fn an_address_that_others_reach_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
        .args(["serve", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("--allow-anonymous") && message.contains("no tokens"), "{message}");
}

#[tokio::test]
async fn programs_run_as_the_uids_that_are_configured() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root chooses the uids of jails");
    }
    let app = TestApp::with(&["--first-uid", "61500", "--slots", "1"]).await;
    let marker = "7615006150061500";
    let source = format!("exec sleep {marker}");
    let id = app.submit_for_id(&json!({ "language": "bash", "source": source })).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let pid = loop {
        match with_word(marker).pop() {
            Some(pid) => break pid,
            None => assert!(std::time::Instant::now() < deadline, "it does not run"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for ids in ["Uid:", "Gid:"] {
        let expected = format!("{ids}\t61500\t61500\t61500\t61500\n");
        assert!(status.contains(&expected), "{status}");
    }
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
}

#[test]
fn a_first_uid_that_cannot_be_is_refused_with_its_bounds() {
    for (uid, why) in [("0", "not between 1000 and 4294966206"), ("65534", "is never theirs")] {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("BRAINDRILL_FIRST_UID", uid)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(message.contains("first_uid is") && message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused_and_the_first_goes_on() {
    let app = TestApp::start().await;
    let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(app.data_dir())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains(&app.pid().to_string()), "names the holder: {message}");
    assert_eq!(app.run_source("python", "").await["outcome"]["verdict"], "accepted");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_before_anything_is_made() {
    let app = TestApp::start().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
        .args(["serve", "--listen", app.address(), "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains(app.address()) && message.contains("in use"), "{message}");
    assert!(!data.exists());
}

#[tokio::test]
async fn on_a_signal_what_runs_may_end_and_what_waits_for_it_is_answered() {
    let mut app = TestApp::start().await;
    let source = "import time\nprint('began', flush=True)\ntime.sleep(2)\nprint('ended')";
    let request = json!({ "language": "python", "source": source });
    let waiting = app.post_json("/v1/submissions?wait=60", &request);
    // Once it runs, the request that waits for it has been read: a signal cannot come before it.
    let signal = async {
        let id = app.only_submission().await;
        app.in_state(&id, "running").await;
        app.signal(Signal::SIGTERM);
        id
    };
    let (waiting, id) = tokio::join!(waiting, signal);
    assert_eq!(waiting.status, StatusCode::CREATED);
    assert_eq!(waiting.json()["state"], "running", "answered at the signal");
    assert!(app.wait_for_exit().success(), "{}", app.log());
    let app = app.crash_and_restart().await;
    let submission = app.finished(&id).await;
    assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], "began\nended\n");
    assert_eq!(submission["attempt"], 1, "it was not run again: {submission}");
}
