//! Output that is made to cost as much as it can, and those beside it who must not notice.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PATH, bash, is_well};
use crate::support::{app::TestApp, traces};

/// What a small answer may take on a busy machine. Without anybody beside it takes a few
/// milliseconds.
const PROMPT: Duration = Duration::from_secs(1);

/// The most that is kept of one stream.
const MOST_BYTES: usize = 8 << 20;

/// Writes 600 kB in 1.6 s, of which a pipe holds 65,536 bytes, and says how many milliseconds it
/// waited for whoever reads it.
const HONEST: &str = r#"
#include <stdio.h>
#include <time.h>
#include <unistd.h>
static char data[60000];
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
int main(void) {
    long waited = 0;
    for (int i = 0; i < 10; i++) {
        long begin = now();
        if (write(1, data, sizeof data) != sizeof data) return 1;
        waited += now() - begin;
        struct timespec pause = { 0, 160000000 };
        nanosleep(&pause, 0);
    }
    fprintf(stderr, "%ld", waited);
}
"#;

/// Asks for something and takes the answer as fast as it comes; gives its length and its end.
fn take(app: &TestApp, path: &str) -> JoinHandle<(usize, Vec<u8>)> {
    let mut stream = TcpStream::connect(app.address()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::spawn(move || {
        let (mut length, mut end, mut buffer) = (0, Vec::new(), vec![0; 1 << 20]);
        loop {
            let read = stream.read(&mut buffer).unwrap();
            if read == 0 {
                return (length, end);
            }
            length += read;
            end.extend_from_slice(&buffer[read.saturating_sub(64)..read]);
            end.drain(..end.len().saturating_sub(64));
        }
    })
}

/// The longest that `/healthz/live` takes, and the most memory that the daemon has, until `until`.
async fn watch(app: &TestApp, mut until: impl FnMut() -> bool) -> (Duration, u64) {
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    while !until() {
        let begin = Instant::now();
        assert_eq!(app.get("/healthz/live").await.status, StatusCode::OK);
        slowest = slowest.max(begin.elapsed());
        most = most.max(traces::anonymous_bytes(app.pid()));
    }
    (slowest, most)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_the_largest_output_slow_nobody_and_change_no_verdict() {
    let app = TestApp::start().await;
    let flood = format!("f() {{ head -c {MOST_BYTES} /dev/zero | tr '\\0' '\\1'; }}; f; f >&2");
    let mut request = bash(&flood);
    request["limits"] = json!({ "output_bytes": MOST_BYTES });
    let id = app.submit_for_id(&request).await;
    loop {
        let list = app.get(&format!("{PATH}?state=finished")).await.json();
        if list["items"][0]["verdict"] == "accepted" {
            break;
        }
        assert_eq!(list["items"], json!([]));
    }
    let memory = traces::anonymous_bytes(app.pid());
    let readers: Vec<_> = (0..12).map(|_| take(&app, &format!("{PATH}/{id}"))).collect();
    let all_read = || readers.iter().all(|reader| reader.is_finished());
    let run_honest = async {
        let (mut times, mut waited) = (Vec::new(), 0);
        while times.is_empty() || !all_read() {
            let honest = app.run(&json!({ "language": "c", "source": HONEST })).await;
            assert_eq!(honest["outcome"]["verdict"], "accepted", "{honest:.1000}");
            let run = &honest["outcome"]["runs"][0];
            assert_eq!(run["stdout"]["bytes"], 600_000);
            times.push(run["wall_time_ms"].as_u64().unwrap());
            waited = waited.max(run["stderr"]["data"].as_str().unwrap().parse::<u64>().unwrap());
        }
        times.sort_unstable();
        // Of its time on the clock one run says little: other tests have programs too, and the processor is
        // theirs as well. What readers cost is there in all of them.
        (times[times.len() / 2], waited)
    };
    let ((usual, waited), (slowest, most)) = tokio::join!(run_honest, watch(&app, all_read));
    let grown = most.saturating_sub(memory) >> 20;
    eprintln!("slowest {slowest:?}, {grown} MiB more, {usual} ms, at most {waited} in writes");
    assert!(waited < 500, "{waited} ms in writes");
    assert!(usual < 5000, "{usual} ms of 1.6 s");
    assert!(slowest < PROMPT, "{slowest:?}");
    assert!(grown < 200, "{grown} MiB");
    for reader in readers {
        let (length, end) = reader.join().unwrap();
        assert!(length > 2 * 6 * MOST_BYTES, "{length}");
        assert!(end.ends_with(b"0\r\n\r\n"), "not cut off: {}", end.escape_ascii());
    }
    is_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_nothing_of_a_large_answer_cost_little_and_others_are_told_to_wait() {
    const TURNS: usize = 256;
    let app = TestApp::start().await;
    let mut request = bash("head -c 4194304 /dev/zero | tr '\\0' '\\1'");
    request["limits"] = json!({ "output_bytes": MOST_BYTES });
    let id = app.submit_for_id(&request).await;
    app.in_state(&id, "finished").await;
    let memory = traces::anonymous_bytes(app.pid());
    let ask = format!("GET {PATH}/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut asked: Vec<TcpStream> = (0..TURNS + 20)
        .map(|_| {
            let mut stream = TcpStream::connect(app.address()).unwrap();
            stream.write_all(ask.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut answers = std::collections::BTreeMap::<String, usize>::new();
    for stream in &mut asked {
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        *answers.entry(String::from_utf8_lossy(&head).into_owned()).or_default() += 1;
    }
    let expected = [("HTTP/1.1 200".to_owned(), TURNS), ("HTTP/1.1 503".to_owned(), 20)];
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), expected);
    let refused = app.get(&format!("{PATH}/{id}")).await;
    refused.problem(503);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let grown = traces::anonymous_bytes(app.pid()).saturating_sub(memory) >> 20;
    eprintln!("{grown} MiB for {TURNS} answers");
    assert!(grown < 250, "{grown} MiB");
    is_well(&app).await;
    drop(asked);
    let (length, _) = take(&app, &format!("{PATH}/{id}")).join().unwrap();
    assert!(length > 6 * (4 << 20), "{length}");
}

/// What an output of JSON says.
fn bytes_of(output: &Value) -> Vec<u8> {
    let data = output["data"].as_str().unwrap();
    match output["encoding"].as_str().unwrap() {
        "utf8" => data.as_bytes().to_vec(),
        _ => STANDARD.decode(data).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_output_is_shown_whole_wherever_it_is_shown() {
    const TIMES: usize = 20_000;
    let app = TestApp::start().await;
    let text = "ü\"\\\t\u{1}\u{7f}🦀\n".repeat(TIMES);
    let other = b"\xff\x00\n".repeat(TIMES);
    let source = format!(
        "import sys\n\
         sys.stdout.buffer.write('ü\"\\\\\\t\\x01\\x7f🦀\\n'.encode() * {TIMES})\n\
         sys.stderr.buffer.write(b'\\xff\\x00\\n' * {TIMES})\n"
    );
    let request = json!({ "language": "python", "source": source });
    let check = |submission: &Value| {
        let run = &submission["outcome"]["runs"][0];
        assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission:.1000}");
        for (stream, encoding, bytes) in
            [("stdout", "utf8", text.as_bytes()), ("stderr", "base64", &other[..])]
        {
            assert_eq!(run[stream]["encoding"], encoding);
            assert_eq!(run[stream]["bytes"], bytes.len());
            assert!(bytes_of(&run[stream]) == bytes, "{stream} is not what it was");
        }
    };
    let waited = app
        .send(
            app.request(Method::POST, &format!("{PATH}?wait=60"))
                .header("idempotency-key", "large")
                .json(&request),
        )
        .await;
    assert_eq!(waited.status, StatusCode::CREATED);
    check(&waited.json());
    let id = waited.json()["id"].as_str().unwrap().to_owned();
    let path = format!("{PATH}/{id}");
    let shown = app.get(&path).await;
    check(&shown.json());
    assert_eq!(shown.json()["request"]["source"], source);
    let mut again = request.clone();
    again["idempotency_key"] = json!("large");
    let batch = app.post_json("/v1/submissions/batch", &json!({ "items": [again, again] })).await;
    batch.json()["items"].as_array().unwrap().iter().for_each(check);
    for (stream, bytes) in [("stdout", text.as_bytes()), ("stderr", &other[..])] {
        let output = app.get(&format!("{path}/{stream}")).await;
        assert_eq!(output.header("content-length"), bytes.len().to_string());
        assert!(output.body == bytes, "{stream} is not what it was");
        let head = app.send(app.request(Method::HEAD, &format!("{path}/{stream}"))).await;
        assert_eq!(head.header("content-length"), bytes.len().to_string());
    }
    let head = app.send(app.request(Method::HEAD, &path)).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    let raw = app.send(app.request(Method::POST, "/lang/python").body(source.clone())).await;
    assert!(raw.body == [text.as_bytes(), &other].concat(), "not stdout, then stderr");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_write_bytes_in_turn_hold_nobody_up() {
    let app = TestApp::with(&["--slots", "3"]).await;
    let source = "#include <unistd.h>\n\
                  int main(void) { for (;;) { write(1, \"x\", 1); write(2, \"y\", 1);\n\
                  for (volatile int i = 0; i < 800; i++); } }";
    let noisy = json!({ "language": "c", "source": source, "limits": {
        "cpu_time_ms": 30_000, "wall_time_ms": 15_000, "output_bytes": MOST_BYTES } });
    let begin = Instant::now();
    let noisy = [app.submit_for_id(&noisy).await, app.submit_for_id(&noisy).await];
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    while begin.elapsed() < Duration::from_secs(15) {
        let begin = Instant::now();
        let id = app.submit_for_id(&bash("echo hello")).await;
        slowest = slowest.max(begin.elapsed());
        count += 1;
        app.finished(&id).await;
    }
    for noisy in noisy {
        let ended = app.finished(&noisy).await;
        let run = &ended["outcome"]["runs"][0];
        let kept = run["stdout"]["data"].as_str().unwrap();
        assert!(!kept.is_empty() && kept.bytes().all(|byte| byte == b'x'), "{}", kept.len());
    }
    let took = begin.elapsed();
    eprintln!("the slowest POST of {count} took {slowest:?}, all was over after {took:?}");
    assert!(slowest < PROMPT, "{slowest:?}");
    assert!(took < Duration::from_secs(30), "{took:?} for 15 s");
    is_well(&app).await;
}
