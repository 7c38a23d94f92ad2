//! Requests that are too long for the payload of a dispatch: a real daemon, Nomad and runner.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::support::{app::TestApp, ports};

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// A daemon on a Nomad.
async fn daemon(agent: &Nomad, more: &[&str]) -> TestApp {
    let address = agent.address();
    let flags = ["--backend", "nomad", "--no-consul", "--nomad-addr", &address];
    TestApp::with(&[&flags, more].concat()).await
}

/// Text of this length that is hardly shorter when it is compressed.
fn noise(length: usize) -> String {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&rand_u32().to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into_iter().map(|byte| char::from(b'!' + byte % 94)).collect()
}

fn cat(stdin: &str) -> Value {
    json!({ "language": "bash", "source": "cat", "stdin": stdin })
}

/// How many requests for requests it has answered so.
async fn answered(app: &TestApp, status: u16) -> u64 {
    let line =
        format!("braindrill_http_requests_total{{operation=\"getRequest\",status=\"{status}\"}} ");
    let metrics = app.get("/metrics").await.text();
    let count = metrics.lines().find_map(|each| each.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// A runner that waits for the file `go`, having made the file `there`.
struct Held {
    dir: TempDir,
}

impl Held {
    fn new() -> Held {
        let held = Held { dir: tempfile::tempdir().unwrap() };
        let dir = held.dir.path().display();
        let text = format!(
            "#!/bin/sh\n: >{dir}/there\nuntil [ -e {dir}/go ]; do sleep 0.05; done\n\
             exec {PROGRAM} \"$@\" 2>>{dir}/said\n"
        );
        std::fs::write(held.runner(), text).unwrap();
        std::fs::set_permissions(held.runner(), PermissionsExt::from_mode(0o755)).unwrap();
        held
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn runner(&self) -> PathBuf {
        self.path("runner")
    }

    fn go(&self) {
        std::fs::write(self.path("go"), "").unwrap();
    }
}

/// The path on the daemon that the child of a running submission was given.
async fn path_of(app: &TestApp, agent: &Nomad, id: &str) -> String {
    let submission = app.in_state(id, "running").await;
    let job = submission["placement"]["job_id"].as_str().unwrap();
    let job = agent.client().job(job).await.unwrap().unwrap();
    let url = &job.meta["braindrill_request_url"];
    url.strip_prefix(&format!("http://{}", app.address())).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_any_length_run_and_only_long_ones_are_fetched() {
    let agent = Nomad::shared().await;
    let app = daemon(&agent, &[]).await;
    for (length, fetched) in [(1 << 10, 0), (20 << 10, 1), (900 << 10, 2)] {
        let stdin = noise(length);
        let submission = app.run(&cat(&stdin)).await;
        let run = &submission["outcome"]["runs"][0];
        assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
        assert!(run["stdout"]["data"] == stdin.as_str(), "byte for byte, of {length}");
        assert_eq!(submission["attempt"], 1);
        assert_eq!(answered(&app, 200).await, fetched, "after {length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_handed_out_while_its_attempt_lives_and_to_nobody_else() {
    let agent = Nomad::shared().await;
    let held = Held::new();
    let runner = held.runner();
    let flags = ["--runner-path", runner.to_str().unwrap(), "--log", "braindrill=trace"];
    let app = daemon(&agent, &flags).await;
    let (first, second) = (cat(&noise(20 << 10)), cat(&noise(21 << 10)));
    let (one, two) = (app.submit_for_id(&first).await, app.submit_for_id(&second).await);
    let path = path_of(&app, &agent, &one).await;
    let other = path_of(&app, &agent, &two).await;

    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for _ in 0..2 {
        let got = app.get(&path).await;
        assert_eq!(got.status, StatusCode::OK);
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert_eq!(got.header("cache-control"), "no-store");
        assert_eq!(got.header("content-length"), got.body.len().to_string());
        assert_eq!(got.header("content-length"), head.header("content-length"));
        let request = payload::decode(&got.body).unwrap();
        assert_eq!((request.submission.to_string(), request.attempt), (one.clone(), 1));
        assert_eq!(request.request.stdin, first["stdin"].as_str().unwrap());
    }
    assert_eq!(app.get(&format!("{path}?archive=false")).await.status, StatusCode::OK);

    let (named, token) = path.rsplit_once('/').unwrap();
    let (other_named, other_token) = other.rsplit_once('/').unwrap();
    let last = if token.ends_with('0') { "1" } else { "0" };
    for wrong in [
        format!("{named}/{}{last}", &token[..63]),
        format!("{named}/{other_token}"),
        format!("{other_named}/{token}"),
        format!("{}/2/{token}", named.strip_suffix("/1").unwrap()),
        format!("{named}/{}", "0".repeat(64)),
        format!("{named}/"),
        format!("/internal/requests/x/y/{token}"),
    ] {
        let answer = app.get(&wrong).await;
        let problem = answer.problem(404);
        assert_eq!(problem["detail"], app.get("/v1/nothing").await.json()["detail"], "{wrong}");
    }
    let put = app.send(app.request(Method::PUT, &path)).await;
    assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(put.header("allow"), "GET, POST, HEAD, OPTIONS");
    // A false call makes the daemon look, and find nothing.
    assert_eq!(app.post(&path).await.status, StatusCode::NO_CONTENT);
    app.post(&format!("{named}/{other_token}")).await.problem(404);
    assert_eq!(app.in_state(&one, "running").await["attempt"], 1);

    app.post(&format!("/v1/submissions/{two}/cancel")).await;
    app.get(&other).await.problem(404);
    held.go();
    assert_eq!(app.finished(&one).await["outcome"]["verdict"], "accepted");
    app.get(&path).await.problem(404);

    let log = app.log();
    assert!(log.contains("getRequest"), "it logs what it answers");
    assert!(!log.contains(token) && !log.contains(other_token));
    let document = app.get("/openapi.json").await.text();
    assert!(!document.contains("internal/requests"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_before_the_fetch_hands_the_request_out_after_it() {
    let agent = Nomad::shared().await;
    let held = Held::new();
    let (runner, [port]) = (held.runner(), ports::free());
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--runner-path", runner.to_str().unwrap(), "--listen", &listen];
    let app = daemon(&agent, &flags).await;
    let request = cat(&noise(100 << 10));
    let id = app.submit_for_id(&request).await;
    app.in_state(&id, "running").await;
    until_exists(&held.path("there")).await;

    let ended = app.crash();
    held.go();
    let said = async || std::fs::read_to_string(held.path("said")).unwrap_or_default();
    until("the runner misses the daemon", async || said().await.contains("trying again")).await;
    let app = ended.start().await;

    let submission = app.finished(&id).await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    assert_eq!(submission["attempt"], 1, "{submission}");
    assert!(submission["outcome"]["runs"][0]["stdout"]["data"] == request["stdin"]);
    assert!(!said().await.contains("/internal/"), "the address is in no log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_address_for_nodes_a_long_request_is_refused_with_what_to_set() {
    let agent = Nomad::shared().await;
    let app = daemon(&agent, &["--listen", "0.0.0.0:0", "--allow-anonymous"]).await;
    let submission = app.run(&cat(&noise(20 << 10))).await;
    assert_eq!(submission["outcome"]["verdict"], "internal_error");
    let reason = submission["outcome"]["reason"].as_str().unwrap();
    assert!(reason.contains("--advertise-url"), "{reason}");
    assert_eq!(app.run(&cat("short")).await["outcome"]["verdict"], "accepted");
}

/// The jobs for containers, with the runner as a plain process in place of the container.
async fn register_without_containers(agent: &Nomad, name: &str) {
    for kind in ["run-docker", "run-docker-fetch"] {
        let args = ["jobs", "render", kind, "--nomad-job", name, "--json", "--nomad-addr"];
        let rendered =
            Command::new(PROGRAM).args(args).arg(agent.address()).output().unwrap().stdout;
        let mut job = serde_json::from_slice::<Value>(&rendered).unwrap()["Job"].take();
        let task = &mut job["TaskGroups"][0]["Tasks"][0];
        assert_eq!(task["Config"]["args"], json!(["runner", "--outer-jail"]));
        task["Driver"] = json!("raw_exec");
        task["Config"] = json!({ "command": PROGRAM, "args": ["runner", "--outer-jail"] });
        agent.client().register(&job).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nomad_fetches_a_long_request_for_a_container_without_network() {
    let agent = Nomad::shared().await;
    let name = format!("shared-{:08x}", rand_u32());
    register_without_containers(&agent, &name).await;
    let before = agent.client().job(&name).await.unwrap().unwrap().version;
    let app = daemon(&agent, &["--nomad-driver", "docker", "--nomad-job", &name]).await;

    let short = app.run(&cat("short")).await;
    assert_eq!(short["outcome"]["runs"][0]["stdout"]["data"], "short", "{short}");
    assert_eq!(answered(&app, 200).await, 0);
    let request = cat(&noise(900 << 10));
    let long = app.run(&request).await;
    assert_eq!(long["outcome"]["verdict"], "accepted", "{long}");
    assert!(long["outcome"]["runs"][0]["stdout"]["data"] == request["stdin"]);
    let job = long["placement"]["job_id"].as_str().unwrap();
    assert!(job.starts_with(&format!("{name}-fetch/dispatch-")), "{job}");
    assert!(answered(&app, 200).await >= 1);

    let after = agent.client().job(&name).await.unwrap().unwrap().version;
    assert_eq!(before, after, "a shared job is not changed");
}
