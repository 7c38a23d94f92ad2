//! Both streams of a program together, in the order in which it wrote to them.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::TestApp;

/// Writes bytes to both streams as `turns` says, each after the one before it was read. FIONREAD says
/// how many bytes stand in a pipe.
const IN_TURN: &str = r"
import fcntl, os, sys, termios
def write(to, data):
    os.write(to, data)
    while fcntl.ioctl(to, termios.FIONREAD, bytes(4)) != bytes(4):
        pass
for letter in sys.stdin.read():
    write(1 if letter.islower() else 2, letter.encode())
";

fn python(source: &str, stdin: &str) -> Value {
    json!({ "language": "python", "source": source, "stdin": stdin })
}

fn path(submission: &Value) -> String {
    format!("/v1/submissions/{}", submission["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_are_read_in_the_order_in_which_a_program_wrote_them() {
    let app = TestApp::start().await;
    let text = "aBcDDeeF".repeat(100);
    let submission = app.run(&python(IN_TURN, &text)).await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission:.1000}");
    let output = app.get(&format!("{}/output", path(&submission))).await;
    assert_eq!(output.status, StatusCode::OK);
    assert_eq!(output.header("content-type"), "application/octet-stream");
    assert_eq!(output.header("x-content-type-options"), "nosniff");
    assert_eq!(String::from_utf8_lossy(&output.body), text);
    // Few rows hold them all.
    let all = app.get(&format!("{}/events", path(&submission))).await;
    let pieces = String::from_utf8_lossy(&all.body).matches("event: std").count();
    assert!(pieces < text.len() / 4, "{pieces}");
}

#[tokio::test]
async fn each_test_has_its_own_and_bytes_are_as_they_were_written() {
    let app = TestApp::start().await;
    let source = "import os, sys\nos.write(2, b'\\xff\\x00' + sys.stdin.read().encode())\n";
    let mut request = python(source, "");
    request["tests"] = json!([{ "stdin": "one" }, { "stdin": "two" }]);
    let submission = app.run(&request).await;
    let output = format!("{}/output", path(&submission));
    assert_eq!(app.get(&output).await.body, b"\xff\x00one");
    assert_eq!(app.get(&format!("{output}?test=2")).await.body, b"\xff\x00two");
    app.get(&format!("{output}?test=3")).await.problem(404);
    app.get(&format!("{output}?test=0")).await.problem(422);
    app.get(&format!("{output}?tset=1")).await.problem(422);
    app.get("/v1/submissions/01900000-0000-7000-8000-000000000000/output").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_program_runs_there_is_what_has_come() {
    let app = TestApp::start().await;
    let source = format!("{IN_TURN}\nimport time\ntime.sleep(60)");
    let id = app.submit_for_id(&python(&source, "aBc")).await;
    app.in_state(&id, "running").await;
    let path = format!("/v1/submissions/{id}");
    while app.get(&format!("{path}/output")).await.body != b"aBc" {}
    app.post(&format!("{path}/cancel")).await;
    assert_eq!(app.get(&format!("{path}/output")).await.body, b"aBc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_both_streams_comes_whole() {
    const BYTES: usize = 3_000_000;
    let app = TestApp::start().await;
    let source = format!("f() {{ head -c {BYTES} /dev/zero | tr '\\0' $1; }}; f a & f b >&2; wait");
    let mut request = json!({ "language": "bash", "source": source });
    request["limits"] = json!({ "output_bytes": 4 << 20 });
    let submission = app.run(&request).await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission:.1000}");
    let output = app.get(&format!("{}/output", path(&submission))).await;
    assert_eq!(output.header("content-length"), (2 * BYTES).to_string());
    let count = |byte| output.body.iter().filter(|&&of| of == byte).count();
    assert_eq!((output.body.len(), count(b'a'), count(b'b')), (2 * BYTES, BYTES, BYTES));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_both_together_where_that_is_asked_for() {
    let app = TestApp::start().await;
    let path = "/v1/submissions?wait=60";
    let mut request = python(IN_TURN, "aBcD");
    let plain = app.post_json(path, &request).await.json();
    assert_eq!(plain["outcome"]["runs"][0].get("output"), None, "{plain}");
    let asked = app.post_json(&format!("{path}&output=true"), &request).await.json();
    let whole = json!({ "data": "aBcD", "encoding": "utf8", "truncated": false, "bytes": 4 });
    assert_eq!(asked["outcome"]["runs"][0]["output"], whole, "{asked}");
    let of = |submission: &Value, more: &str| format!("{}{more}", self::path(submission));
    let read = app.get(&of(&plain, "?output=true")).await.json();
    assert_eq!(read["outcome"]["runs"][0]["output"], whole, "{read}");
    let again = app.post(&of(&plain, "/rerun?wait=60&output=true")).await.json();
    assert_eq!(again["outcome"]["runs"][0]["output"], whole, "{again}");
    app.get(&of(&plain, "?output=yes")).await.problem(422);

    // More than is read at once, of text in which characters stand side by side, and nothing.
    let source = format!(
        "import sys\nfor n in range({}):\n    print('\u{e4}', n, file=[sys.stdout, sys.stderr][n % 2], flush=True)",
        "int(sys.stdin.read())"
    );
    request = python(&source, "");
    request["tests"] = json!([{ "stdin": "9000" }, { "stdin": "0" }]);
    let large = app.post_json(&format!("{path}&output=true"), &request).await.json();
    let runs = &large["outcome"]["runs"];
    let output = &runs[0]["output"];
    assert_eq!(output["encoding"], "utf8", "{large:.2000}");
    let text = output["data"].as_str().unwrap();
    let bytes = |stream: &str| runs[0][stream]["bytes"].as_u64().unwrap();
    assert_eq!(text.len() as u64, bytes("stdout") + bytes("stderr"));
    let raw = app.get(&of(&large, "/output")).await;
    assert!(raw.body == text.as_bytes(), "the same order in both");
    assert_eq!(runs[1]["output"]["bytes"], 0, "{large:.2000}");
}
