//! Submissions through HTTP, as a client meets them.

use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;

/// Runs until it is ended.
const ENDLESS: &str = "import time\nprint('began', flush=True)\nwhile True: time.sleep(1)";

fn python(source: &str) -> Value {
    json!({ "language": "python", "source": source })
}

/// Every path in a JSON value at which there is a null.
fn nulls(value: &Value, path: &Path) -> Vec<PathBuf> {
    match value {
        Value::Null => vec![path.to_owned()],
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(index, item)| nulls(item, &path.join(index.to_string()))).collect()
        }
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, field)| nulls(field, &path.join(name))).collect()
        }
        _ => Vec::new(),
    }
}

#[track_caller]
fn assert_no_nulls(value: &Value) {
    assert_eq!(nulls(value, Path::new("")), Vec::<PathBuf>::new(), "{value}");
}

#[tokio::test]
async fn a_program_is_accepted_run_and_answered() {
    let app = TestApp::start().await;
    let answer = app.post_json("/v1/submissions?wait=60", &python("print(6*7)")).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let submission = answer.json();
    assert_no_nulls(&submission);
    assert_eq!(submission["state"], "finished");
    assert_eq!(submission["outcome"]["verdict"], "accepted");
    let output = &submission["outcome"]["runs"][0]["stdout"];
    let expected = json!({ "data": "42\n", "encoding": "utf8", "truncated": false, "bytes": 3 });
    assert_eq!(*output, expected);
    assert_eq!(submission["placement"], json!({ "kind": "local" }));
    let id = submission["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/submissions/{id}"));
    assert!(submission.get("request").is_none());
}

#[tokio::test]
async fn reading_a_submission_shows_its_request_with_every_default() {
    let app = TestApp::start().await;
    let id = app
        .submit_for_id(&json!({
            "language": "py",
            "files": [{ "path": "a.py", "content": "cHJpbnQoMSk=", "encoding": "base64" }],
            "limits": { "cpu_time_ms": 1000 },
            "tests": [{ "expected_output": "1", "checker": { "type": "float", "abs": 0.5 } }],
        }))
        .await;
    let submission = app.finished(&id).await;
    assert_no_nulls(&submission);
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    let expected = json!({
        "language": "python",
        "files": [{ "path": "a.py", "content": "cHJpbnQoMSk=", "encoding": "base64" }],
        "entrypoint": "a.py",
        "stdin": "",
        "args": [],
        "env": {},
        "compile_args": [],
        "limits": {
            "cpu_time_ms": 1000,
            "wall_time_ms": 10_000,
            "memory_bytes": 268_435_456,
            "processes": 64,
            "output_bytes": 1_048_576,
            "disk_bytes": 67_108_864,
        },
        "tests": [{
            "name": "1",
            "stdin": "",
            "args": [],
            "expected_output": "1",
            "checker": { "type": "float", "abs": 0.5, "rel": 0.0 },
            "points": 1.0,
        }],
        "stop_on_failure": false,
        "priority": 50,
    });
    assert_eq!(submission["request"], expected);
    // And it can be sent again as it is.
    app.submit(&submission["request"]).await;
}

#[tokio::test]
async fn output_that_is_not_text_comes_as_base64_and_raw() {
    let app = TestApp::start().await;
    let source = "import sys\nsys.stdout.buffer.write(b'\\xff\\x00')\nsys.stderr.write('e')";
    let submission = app.run(&python(source)).await;
    let stdout = &submission["outcome"]["runs"][0]["stdout"];
    assert_eq!((&stdout["data"], &stdout["encoding"]), (&json!("/wA="), &json!("base64")));
    let path = format!("/v1/submissions/{}", submission["id"].as_str().unwrap());
    let raw = app.get(&format!("{path}/stdout")).await;
    assert_eq!(raw.header("content-type"), "application/octet-stream");
    assert_eq!(raw.header("x-content-type-options"), "nosniff");
    assert_eq!(raw.body, [0xff, 0x00]);
    assert_eq!(app.get(&format!("{path}/stderr?test=1")).await.body, b"e");
    app.get(&format!("{path}/stdout?test=2")).await.problem(404);
}

#[tokio::test]
async fn a_key_accepts_a_request_once() {
    let app = TestApp::start().await;
    let send = |request: Value| {
        let post = app.request(Method::POST, "/v1/submissions").header("Idempotency-Key", "k-1");
        app.send(post.json(&request))
    };
    let first = send(python("print(1)")).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(first.header("idempotent-replayed"), "");
    let second = send(python("print(1)")).await;
    assert_eq!(second.status, StatusCode::CREATED);
    assert_eq!(second.header("idempotent-replayed"), "true");
    assert_eq!(second.header("location"), first.header("location"));
    send(python("print(2)")).await.problem(422);
    let location = first.header("location").to_owned();
    app.finished(location.rsplit('/').next().unwrap()).await;
    assert_eq!(app.delete(&location).await.status, StatusCode::NO_CONTENT);
    send(python("print(1)")).await.problem(410);
}

#[tokio::test]
async fn a_batch_answers_for_each_item_in_order() {
    let app = TestApp::start().await;
    let batch = json!({ "items": [
        { "language": "python", "source": "print(1)", "idempotency_key": "b-1" },
        { "language": "cobol", "source": "" },
        { "language": "python", "source": "print(2)", "network": true },
        { "language": "python", "source": "print(3)", "idempotency_key": "b 3" },
        { "language": "python", "source": "print(4)" },
    ] });
    let answer = app.post_json("/v1/submissions/batch", &batch).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = answer.json();
    assert_no_nulls(&answer);
    let items = answer["items"].as_array().unwrap();
    let statuses: Vec<_> = items.iter().map(|item| item["status"].as_u64()).collect();
    assert_eq!(statuses, [None, Some(422), Some(422), Some(422), None]);
    assert_eq!(items[2]["errors"][0]["field"], "network");
    assert_eq!(items[3]["errors"][0]["field"], "idempotency_key");
    for (index, output) in [(0, "1\n"), (4, "4\n")] {
        let submission = app.finished(items[index]["id"].as_str().unwrap()).await;
        assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], output);
    }
    let again = app.post_json("/v1/submissions/batch", &batch).await.json();
    assert_eq!(again["items"][0]["id"], items[0]["id"]);
    assert_ne!(again["items"][4]["id"], items[4]["id"]);
}

#[tokio::test]
async fn a_list_is_read_in_parts_newest_first_and_by_filter() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for source in ["print(1)", "import sys; sys.exit(3)", "print(2)"] {
        ids.push(app.run(&python(source)).await["id"].as_str().unwrap().to_owned());
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/submissions?limit=2".to_owned();
    loop {
        let page = app.get(&path).await.json();
        assert_no_nulls(&page);
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/submissions?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    for (query, expected) in [
        ("verdict=runtime_error", &ids[1..2]),
        ("state=finished&language=py", &ids[..]),
        ("state=queued", &[]),
        ("language=c", &[]),
        ("language=%25", &[]),
    ] {
        let page = app.get(&format!("/v1/submissions?{query}")).await.json();
        let items = page["items"].as_array().unwrap();
        let found: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn a_running_submission_shows_its_output_and_can_be_cancelled_once() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&python(ENDLESS)).await;
    let path = format!("/v1/submissions/{id}");
    app.in_state(&id, "running").await;
    while app.get(&format!("{path}/stdout")).await.body != b"began\n" {}
    let cancelled = app.post(&format!("{path}/cancel")).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    let submission = cancelled.json();
    assert_no_nulls(&submission);
    assert_eq!(submission["state"], "finished");
    assert_eq!(submission["outcome"]["verdict"], "cancelled");
    app.post(&format!("{path}/cancel")).await.problem(409);
}

#[tokio::test]
async fn a_deleted_submission_is_gone_at_once() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&python(ENDLESS)).await;
    let path = format!("/v1/submissions/{id}");
    let deleted = app.delete(&path).await;
    assert_eq!((deleted.status, deleted.body.len()), (StatusCode::NO_CONTENT, 0));
    app.get(&path).await.problem(404);
    app.delete(&path).await.problem(404);
    assert_eq!(app.get("/v1/submissions").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_wait_ends_with_the_time_when_the_program_does_not() {
    let app = TestApp::start().await;
    let answer = app.post_json("/v1/submissions?wait=1", &python(ENDLESS)).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let submission = answer.json();
    assert_no_nulls(&submission);
    assert_ne!(submission["state"], "finished");
}

#[tokio::test]
async fn a_submission_is_run_again_as_a_new_one() {
    let app = TestApp::start().await;
    let request = json!({
        "language": "py", "source": "print(input())", "entrypoint": "again.py", "stdin": "7\n",
        "limits": { "cpu_time_ms": 777 },
    });
    let first = app.run(&request).await;
    let path = format!("/v1/submissions/{}/rerun?wait=60", first["id"].as_str().unwrap());
    let answer = app.post(&path).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let second = answer.json();
    assert_ne!(second["id"], first["id"]);
    assert_eq!(
        answer.header("location"),
        format!("/v1/submissions/{}", second["id"].as_str().unwrap())
    );
    assert_eq!(second["outcome"]["runs"][0]["stdout"]["data"], "7\n", "{second}");
    let read = async |submission: &Value| {
        let id = submission["id"].as_str().unwrap();
        app.get(&format!("/v1/submissions/{id}")).await.json()["request"].clone()
    };
    assert_eq!(read(&second).await, read(&first).await);
    app.post("/v1/submissions/0197f6a0-0000-7000-8000-000000000000/rerun").await.problem(404);
}
