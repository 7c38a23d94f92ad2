//! What a worker answers, to daemons of its kind and to others.

use braindrill::{
    protocol::{EventKind, ExecutionRequest, Input},
    worker::{CallError, Leased, RELEASE, RefusalKind, WorkerClient, WorkerSecret},
};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::*;

async fn send(
    worker: &TestWorker,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut request = reqwest::Client::new().request(method, format!("{}{path}", worker.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn refused(answer: Response) -> (StatusCode, String, String) {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    (status, text("refused"), text("detail"))
}

fn authorization() -> String {
    format!("Bearer {SECRET}")
}

/// A program in Bash, with these fields of its request.
fn execution(more: Value) -> ExecutionRequest {
    let mut request = json!({
        "v": 1, "submission": "01890a5d-ac96-774b-bcce-b302099a8057", "attempt": 1,
        "request": {
            "language": "bash", "entrypoint": "main.sh",
            "limits": braindrill::submission::Limits::DEFAULT, "priority": 50,
        },
        "language": {
            "id": "bash", "name": "Bash", "extension": "sh", "source_file": "main.sh",
            "tools": { "bash": ["/bin/bash"] }, "version": { "command": ["{tool:bash}"] },
            "run": { "command": ["{tool:bash}", "{entrypoint}"] },
        },
    });
    let fields = request["request"].as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_its_health_is_told_without_the_secret() {
    let worker = TestWorker::start(1);
    assert_eq!(send(&worker, Method::GET, "/healthz/live", &[]).await.status(), StatusCode::OK);
    for (method, path) in [
        (Method::GET, "/v1/worker"),
        (Method::POST, "/v1/executions"),
        (Method::DELETE, "/v1/executions/x-0"),
        (Method::POST, "/v1/executions/x-0/input"),
    ] {
        for wrong in ["", "Bearer wrong-wrong-wrong", SECRET] {
            let headers = [("authorization", wrong), ("braindrill-release", RELEASE)];
            let answer = send(&worker, method.clone(), path, &headers).await;
            let (status, kind, detail) = refused(answer).await;
            assert_eq!((status, kind.as_str()), (StatusCode::UNAUTHORIZED, "secret"), "{detail}");
        }
    }
    let right = authorization();
    let facts = send(&worker, Method::GET, "/v1/worker", &[("authorization", &right)]).await;
    let facts: Value = facts.json().await.unwrap();
    assert_eq!((&facts["id"], &facts["release"]), (&json!(worker.id()), &json!(RELEASE)));
    assert_eq!((&facts["slots"], &facts["busy"]), (&json!(1), &json!(0)));
    assert!(!worker.log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_release_and_what_is_no_request_are_refused_with_what_is_wrong() {
    let worker = TestWorker::start(1);
    let right = authorization();
    let post = async |release: &str, body: &str| {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/executions", worker.url()))
            .header("authorization", &right)
            .header("braindrill-release", release);
        refused(request.body(body.to_owned()).send().await.unwrap()).await
    };
    let (status, kind, detail) = post("0.0.1/1", "{}").await;
    assert_eq!((status, kind.as_str()), (StatusCode::CONFLICT, "release"));
    assert_eq!(detail, format!("this worker is braindrill {RELEASE}, and the daemon 0.0.1/1"));
    for body in ["", "{}", "null", "[1", "{\"v\":99}"] {
        let (status, kind, _) = post(RELEASE, body).await;
        assert_eq!((status, kind.as_str()), (StatusCode::BAD_REQUEST, "malformed"), "{body}");
    }
    // None of them keeps the slot.
    let app = daemon(&[&worker], &[]).await;
    assert_accepted(&app.run(&bash("echo 42")).await, "42\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_with_another_secret_waits_and_says_that_no_worker_is_there() {
    let worker = TestWorker::start(1);
    let url = worker.url();
    let flags = ["--backend", "pool", "--no-consul", "--workers", &url];
    let variables = [("BRAINDRILL_WORKER_SECRET", "another-secret-of-16")];
    let app = TestApp::with_variables(&variables, &flags).await;
    let id = app.submit_for_id(&bash("true")).await;
    until("it says what it waits for", async || {
        app.get(&format!("/v1/submissions/{id}")).await.json()["waiting_for"].is_string()
    })
    .await;
    let ready = app.get("/healthz/ready").await.json();
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert!(app.log().contains("the secret is not that of this worker"), "{}", app.log());
    assert!(!app.log().contains("another-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_share_a_worker_and_neither_goes_beyond_its_slots() {
    let worker = TestWorker::start(1);
    let daemons = [daemon(&[&worker], &[]).await, daemon(&[&worker], &[]).await];
    let held = daemons[0].submit_for_id(&bash("echo begun; sleep 4714")).await;
    until_it_speaks(&daemons[0], &held).await;
    let waits = daemons[1].submit_for_id(&bash("echo mine")).await;
    until("the other says what it waits for", async || {
        let submission = daemons[1].get(&format!("/v1/submissions/{waits}")).await.json();
        submission["waiting_for"].as_str().is_some_and(|reason| reason.contains("a free slot"))
    })
    .await;
    daemons[0].post(&format!("/v1/submissions/{held}/cancel")).await;
    assert_accepted(&daemons[1].finished(&waits).await, "mine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_comes_keeps_no_slot_and_holds_up_no_end() {
    use std::io::Write as _;
    let mut worker = TestWorker::start(1);
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n\
         braindrill-release: {RELEASE}\r\nContent-Length: 1000\r\n\r\n{{\"v\""
    );
    let address = worker.url().trim_start_matches("http://").to_owned();
    let mut half_sent = Vec::new();
    for _ in 0..3 {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        half_sent.push(stream);
    }
    let app = daemon(&[&worker], &[]).await;
    assert_accepted(&app.run(&bash("echo 42")).await, "42\n");
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(worker.wait_for_exit().success(), "{}", worker.log());
    drop(half_sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_much_is_told_why_it_is_refused() {
    let worker = TestWorker::start(1);
    let secret = WorkerSecret::new("another-secret-of-16").unwrap();
    let client = WorkerClient::new(secret).unwrap();
    let request = execution(json!({ "source": "x".repeat(16 << 20) }));
    for _ in 0..5 {
        let error = client.execute(&worker.url().parse().unwrap(), &request).await.unwrap_err();
        assert!(matches!(error, CallError::Refused(RefusalKind::Secret, _)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_another_daemon_held_is_used_soon_after_it_is_free() {
    let worker = TestWorker::start(1);
    let daemons = [daemon(&[&worker], &[]).await, daemon(&[&worker], &[]).await];
    let held = daemons[0].submit_for_id(&bash("echo begun; sleep 4718")).await;
    until_it_speaks(&daemons[0], &held).await;
    let waits = daemons[1].submit_for_id(&bash("echo mine")).await;
    // By doubling from half a second, the next try would be half of this away, and up to 16 s.
    tokio::time::sleep(Duration::from_secs(18)).await;
    daemons[0].post(&format!("/v1/submissions/{held}/cancel")).await;
    let freed = Instant::now();
    assert_accepted(&daemons[1].finished(&waits).await, "mine\n");
    let took = freed.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// What a program wrote, and whether there was a last word.
async fn rest(mut leased: Leased) -> (String, bool) {
    let (mut written, mut is_finished) = (String::new(), false);
    while let Ok(Some(event)) = leased.next().await {
        match event.kind {
            EventKind::Stdout { data, .. } => written.push_str(&String::from_utf8_lossy(&data)),
            EventKind::Finished { .. } => is_finished = true,
            _ => {}
        }
    }
    (written, is_finished)
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_ends_is_the_programs_end_of_input_and_input_that_breaks_off_ends_the_run() {
    let worker = TestWorker::start(1);
    let client = WorkerClient::new(WorkerSecret::new(SECRET).unwrap()).unwrap();
    let url = worker.url().parse().unwrap();
    let source = "cat; echo; echo end of input";
    let request = execution(json!({ "source": source, "interactive": "pipes" }));
    for breaks_off in [false, true] {
        let mut leased = client.execute(&url, &request).await.unwrap();
        let lease = leased.lease.clone();
        let (sender, input) = mpsc::channel(1);
        sender.send(Input::Data { data: "typed".into() }).await.unwrap();
        let until_typed = async {
            while let Ok(Some(event)) = leased.next().await {
                if matches!(event.kind, EventKind::Stdout { .. }) {
                    break;
                }
            }
        };
        let mut sent = std::pin::pin!(client.send_input(&url, &lease, input));
        tokio::select! {
            _ = sent.as_mut() => panic!("it ended by itself"),
            () = until_typed => {}
        }
        // Somebody talks already.
        let other = client.send_input(&url, &lease, mpsc::channel(1).1).await;
        assert!(matches!(other, Err(CallError::Odd(StatusCode::NOT_FOUND))), "{other:?}");
        if breaks_off {
            sent.set(client.send_input(&url, "nobody", mpsc::channel(1).1));
            assert_eq!(rest(leased).await, (String::new(), false));
        } else {
            drop(sender);
            let (sent, rest) = tokio::join!(sent, rest(leased));
            assert!(sent.is_ok(), "{sent:?}");
            assert_eq!(rest, ("\nend of input\n".to_owned(), true));
        }
    }
}
