//! Whatever goes wrong is a problem document, whoever finds it: handler, framework or front.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{answer::Answer, app::TestApp};

/// Sends bytes as they are, and returns all that comes back until the other side closes.
fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

async fn post_text(app: &TestApp, path: &str, content_type: &str, body: &str) -> Answer {
    let request = app.request(Method::POST, path);
    app.send(request.header("content-type", content_type).body(body.to_owned())).await
}

fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_not_found() {
    let app = TestApp::start().await;
    let unknown = "/v1/submissions/01900000-0000-7000-8000-000000000000";
    for path in [
        "/nothing",
        "/v1",
        "/v1/submissions/",
        "/docs/",
        "/v1/submissions/not-an-id",
        "/v1/languages/cobol",
        "/v1/languages/%ff",
        "/v1/submissions/%2e%2e/stdout",
        "//",
        unknown,
        &format!("{unknown}/stdout"),
    ] {
        app.get(path).await.problem(404);
    }
    app.delete(unknown).await.problem(404);
    app.post(&format!("{unknown}/cancel")).await.problem(404);
    app.post("/cobol").await.problem(404);
    app.post("/lang/cobol").await.problem(404);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_answered_with_those_it_does() {
    let app = TestApp::start().await;
    for (method, path, allow) in [
        (Method::PUT, "/v1/submissions", "POST, GET, HEAD, OPTIONS"),
        (Method::GET, "/v1/submissions/batch", "POST, OPTIONS"),
        (Method::POST, "/docs", "GET, HEAD, OPTIONS"),
        (Method::POST, "/metrics", "GET, HEAD, OPTIONS"),
        (Method::POST, "/", "GET, HEAD, OPTIONS"),
        (Method::GET, "/python", "POST, OPTIONS"),
        (Method::PATCH, "/healthz/live", "GET, HEAD, OPTIONS"),
    ] {
        let answer = app.send(app.request(method.clone(), path)).await;
        answer.problem(405);
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    let options = app.send(app.request(Method::OPTIONS, "/v1/submissions")).await;
    assert_eq!(options.status, StatusCode::NO_CONTENT);
    assert_eq!(options.header("allow"), "POST, GET, HEAD, OPTIONS");
    app.send(app.request(Method::OPTIONS, "/nothing")).await.problem(404);
}

#[tokio::test]
async fn a_head_request_gets_the_headers_of_a_get() {
    let app = TestApp::start().await;
    for path in ["/v1/languages", "/openapi.json", "/docs"] {
        let get = app.get(path).await;
        let head = app.send(app.request(Method::HEAD, path)).await;
        assert_eq!(head.status, StatusCode::OK);
        assert!(head.body.is_empty());
        assert_eq!(head.header("content-length"), get.body.len().to_string());
        assert_eq!(head.header("content-type"), get.header("content-type"));
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_says_why() {
    let app = TestApp::start().await;
    let path = "/v1/submissions";
    for body in ["", "{", "{\"language\":\"c\",}", "nope"] {
        post_text(&app, path, "application/json", body).await.problem(400);
    }
    for content_type in ["text/plain", "application/xml", "application/x-www-form-urlencoded", "x"]
    {
        post_text(&app, path, content_type, "{}").await.problem(415);
    }
    app.send(app.request(Method::POST, path).body("{}")).await.problem(415);
    let with_charset = post_text(&app, path, "application/json; charset=utf-8", "{}").await;
    assert_eq!(fields(&with_charset.problem(422)), ["language"]);
}

#[tokio::test]
async fn a_wrong_field_is_named_and_its_bound_too() {
    let app = TestApp::start().await;
    for (request, field) in [
        (json!({ "language": "python", "source": "", "network": true }), "network"),
        (json!({ "language": "python", "source": "", "wait": 1 }), "wait"),
        (json!({ "language": "python", "source": 1 }), "source"),
        (json!({ "language": "python", "source": null }), "source"),
        (json!({ "language": "cobol", "source": "" }), "language"),
        (json!({ "language": "python" }), "source"),
        (
            json!({ "language": "python", "source": "", "limits": { "cpu_time_ms": 60_001 } }),
            "limits.cpu_time_ms",
        ),
        (
            json!({ "language": "python", "source": "", "limits": { "cpu_time_ms": 5.5 } }),
            "limits.cpu_time_ms",
        ),
        (
            json!({ "language": "python", "source": "", "tests": [{}, { "points": -1 }] }),
            "tests[1].points",
        ),
    ] {
        let problem = app.post_json("/v1/submissions", &request).await.problem(422);
        assert_eq!(fields(&problem), [field], "{problem}");
    }
}

#[tokio::test]
async fn a_limit_that_is_no_whole_number_within_its_bounds_is_refused_whatever_it_is() {
    let app = TestApp::start().await;
    for name in ["cpu_time_ms", "wall_time_ms", "memory_bytes", "processes", "disk_bytes"] {
        for value in ["0", "-1", "0.5", "1e308", "-1e308", "18446744073709551616", "\"5\"", "[]"] {
            let body = format!(
                r#"{{"language": "python", "source": "", "limits": {{"{name}": {value}}}}}"#
            );
            let problem = post_text(&app, "/v1/submissions", "application/json", &body).await;
            let problem = problem.problem(422);
            assert_eq!(fields(&problem), [format!("limits.{name}")], "{value}: {problem}");
        }
    }
    for value in ["NaN", "Infinity", "0x10"] {
        let body = format!(
            r#"{{"language": "python", "source": "", "limits": {{"cpu_time_ms": {value}}}}}"#
        );
        post_text(&app, "/v1/submissions", "application/json", &body).await.problem(400);
    }
}

#[tokio::test]
async fn a_wrong_parameter_is_named() {
    let app = TestApp::start().await;
    for (path, parameter) in [
        ("/v1/submissions?limit=0", "limit"),
        ("/v1/submissions?limit=101", "limit"),
        ("/v1/submissions?limit=1000000000000", "limit"),
        ("/v1/submissions?limit=x", "limit"),
        ("/v1/submissions?state=done", "state"),
        ("/v1/submissions?verdict=skipped", "verdict"),
        ("/v1/submissions?cursor=x", "cursor"),
        ("/v1/submissions?page=2", "page"),
        ("/v1/submissions/01900000-0000-7000-8000-000000000000?wait=61", "wait"),
        ("/v1/submissions/01900000-0000-7000-8000-000000000000?wait=1.5", "wait"),
        ("/v1/submissions/01900000-0000-7000-8000-000000000000/stdout?test=0", "test"),
    ] {
        let problem = app.get(path).await.problem(422);
        assert_eq!(fields(&problem), [parameter], "{path}: {problem}");
        assert!(!problem.to_string().contains("parsing"), "{problem}");
    }
    let request = json!({ "language": "python", "source": "" });
    for keys in [&[&b"a b"[..]][..], &[b"\xc3\xa4"], &[b""], &[b"a", b"b"]] {
        let post = app.request(Method::POST, "/v1/submissions").json(&request);
        let post = keys.iter().fold(post, |post, key| post.header("Idempotency-Key", *key));
        let problem = app.send(post).await.problem(422);
        assert_eq!(fields(&problem), ["Idempotency-Key"], "{keys:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_client_gets_to_read_it() {
    let app = TestApp::with(&["--body-limit", "2048"]).await;
    let fits = "#".repeat(2048);
    assert_eq!(post_text(&app, "/python", "text/plain", &fits).await.status, StatusCode::OK);
    let answer = post_text(&app, "/python", "text/plain", &"#".repeat(8 << 20)).await;
    let problem = answer.problem(413);
    assert_eq!(answer.header("connection"), "close");
    assert!(problem["detail"].as_str().unwrap().contains("2048"), "{problem}");

    let chunk = format!("1000\r\n{}\r\n", "#".repeat(4096));
    let head = "POST /python HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = raw(&app, format!("{head}{}0\r\n\r\n", chunk.repeat(100)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");

    let head = "POST /python HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999\r\nexpect: \
                100-continue\r\n\r\n";
    let answer = raw(&app, head.as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 413 "),
        "nothing was sent, nothing is waited for: {answer}"
    );
}

#[tokio::test]
async fn a_page_of_another_site_can_neither_write_nor_rebind() {
    let app = TestApp::start().await;
    let post =
        |origin: &str| app.request(Method::POST, "/python").header("origin", origin).body("");
    app.send(post("http://evil.example")).await.problem(403);
    let own = format!("http://{}", app.address());
    assert_eq!(app.send(post(&own)).await.status, StatusCode::OK);
    let rebound = app.request(Method::GET, "/v1/submissions").header("host", "evil.example");
    app.send(rebound).await.problem(403);
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole_only_for_its_own_shape() {
    let app = TestApp::start().await;
    let path = "/v1/submissions/batch";
    for (batch, field) in [
        (json!({ "items": [] }), "items"),
        (json!({ "items": vec![json!({}); 101] }), "items"),
        (json!({ "items": [{}, 1] }), "items[1]"),
        (json!({ "items": [{}, null] }), "items[1]"),
        (json!({ "items": {} }), "items"),
        (json!({}), "items"),
        (json!({ "items": [{}], "wait": 1 }), "wait"),
    ] {
        let problem = app.post_json(path, &batch).await.problem(422);
        assert_eq!(fields(&problem), [field], "{problem}");
    }
}
