//! Programs that are talked to while they run.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    attached::Attached,
    no_floor::NoFloor,
    nomad::Nomad,
    worker::{SECRET, TestWorker},
};

/// Adds what it is told, on pipes without waiting to say so.
const ADDER: &str = "\
import sys
total = 0
for line in sys.stdin:
    total += int(line)
    print(total, flush=True)
print('in all', total, flush=True)
";

/// Asks as programs for people do.
const ASKS: &str = "\
name = input('What is your name? ')
print('Hello,', name)
";

fn on_pipes(language: &str, source: &str) -> Value {
    let limits = json!({ "wall_time_ms": 120_000 });
    json!({ "language": language, "source": source, "interactive": true, "limits": limits })
}

fn on_a_terminal(language: &str, source: &str) -> Value {
    let mut request = on_pipes(language, source);
    request["tty"] = true.into();
    request
}

async fn begin(app: &TestApp, request: &Value) -> (String, Attached) {
    let id = app.submit_for_id(request).await;
    let attached = Attached::to(app, &id, "").await;
    (id, attached)
}

/// Everything that one can say to a program, wherever it runs.
async fn assert_talks(app: &TestApp) {
    let mut request = on_pipes("python", ADDER);
    request["stdin"] = "1\n".into();
    let (id, mut adder) = begin(app, &request).await;
    adder.hear("1\n").await;
    adder.send("2").await;
    adder.say(json!({ "type": "stdin", "data": "0\n" })).await;
    adder.hear("21\n").await;
    adder.say(json!({ "type": "stdin", "data": "MTAwCg==", "encoding": "base64" })).await;
    adder.hear("121\n").await;
    adder.say(json!({ "type": "end" })).await;
    adder.hear("in all 121\n").await;
    assert_eq!(adder.verdict().await, "accepted");
    for (event, n) in adder.events.iter().zip(0..) {
        assert_eq!(event["n"], n, "{event}");
    }
    let whole = app.get(&format!("/v1/submissions/{id}")).await.json();
    assert_eq!(
        whole["outcome"]["runs"][0]["stdout"]["data"], "1\n21\n121\nin all 121\n",
        "{whole}"
    );
    assert_eq!(whole["request"]["interactive"], true, "{whole}");

    let (_, mut asks) = begin(app, &on_a_terminal("python", ASKS)).await;
    asks.hear("What is your name? ").await;
    asks.send("Wörld\r").await;
    asks.hear("Wörld\r\nHello, Wörld\r\n").await;
    assert_eq!(asks.verdict().await, "accepted");

    let script =
        "trap 'stty size' WINCH; trap 'echo told' USR1; echo up $TERM; while :; do sleep 0.1; done";
    let (_, mut shell) = begin(app, &on_a_terminal("bash", script)).await;
    shell.hear("up xterm-256color\r\n").await;
    shell.say(json!({ "type": "resize", "rows": 30, "columns": 100 })).await;
    shell.hear("30 100\r\n").await;
    shell.say(json!({ "type": "signal", "signal": "USR1" })).await;
    shell.hear("told\r\n").await;
    shell.send("\u{3}").await;
    assert_eq!(shell.verdict().await, "runtime_error");
    assert_eq!(shell.events.last().unwrap()["reason"], "ended by signal 2 (SIGINT)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_this_machine_is_talked_to() {
    let app = TestApp::start().await;
    assert_talks(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_on_a_warm_worker_is_talked_to() {
    let worker = TestWorker::start(1);
    let variables = [("BRAINDRILL_WORKER_SECRET", SECRET)];
    let flags = ["--backend", "pool", "--no-consul", "--workers", &worker.url()];
    let app = TestApp::with_variables(&variables, &flags).await;
    assert_talks(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_jail_is_talked_to() {
    for how in [NoFloor::UserNamespaces, NoFloor::Capabilities] {
        let app = TestApp::without_floor(how, &["--unsafe-no-sandbox"]).await;
        if let Some(app) = app {
            assert_talks(&app).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_nodes_of_nomad_run_programs_none_is_taken_that_wants_to_be_talked_to() {
    let nomad = Nomad::shared().await;
    let address = nomad.address();
    let app = TestApp::with(&["--backend", "nomad", "--nomad-addr", &address, "--no-consul"]).await;
    let refused = app.post_json("/v1/submissions", &on_pipes("python", ADDER)).await.problem(422);
    assert_eq!(refused["errors"][0]["field"], "interactive", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_before_a_program_runs_waits_for_it() {
    let app = TestApp::with(&["--slots", "1"]).await;
    let (_, mut first) = begin(&app, &on_pipes("bash", "read; echo $REPLY")).await;
    first.events.clear();
    let (id, mut second) = begin(&app, &on_pipes("bash", "read; echo $REPLY")).await;
    second.send("early\n").await;
    let queued = app.get(&format!("/v1/submissions/{id}")).await.json();
    assert_eq!(queued["state"], "queued", "{queued}");
    first.send("go\n").await;
    first.hear("go\n").await;
    second.hear("early\n").await;
    assert_eq!(second.verdict().await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_goes_on_behind_what_came_and_all_who_are_attached_see_the_same() {
    let app = TestApp::start().await;
    let (id, mut first) = begin(&app, &on_pipes("python", ADDER)).await;
    first.send("1\n").await;
    first.hear("1\n").await;
    let seen = first.events.last().unwrap()["n"].as_u64().unwrap();
    drop(first);
    let mut again = Attached::to(&app, &id, &format!("?after={seen}")).await;
    let mut beside = Attached::to(&app, &id, "").await;
    beside.hear("1\n").await;
    again.send("2\n").await;
    beside.hear("3\n").await;
    beside.send("3\n").await;
    again.hear("3\n6\n").await;
    assert_eq!(again.events[0]["n"], seen + 1, "{:?}", again.events);
    again.say(json!({ "type": "end" })).await;
    assert_eq!(again.verdict().await, "accepted");
    assert_eq!(beside.verdict().await, "accepted");

    let mut late = Attached::to(&app, &id, "").await;
    late.hear("1\n3\n6\nin all 6\n").await;
    assert_eq!(late.verdict().await, "accepted");
    assert_eq!(late.events, beside.events);
    let last = late.events.last().unwrap()["n"].as_u64().unwrap();
    let mut later = Attached::to(&app, &id, &format!("?after={last}")).await;
    later.rest().await;
    assert_eq!(later.closed, Some((1000, "finished".to_owned())));
    assert!(later.events.is_empty(), "{:?}", later.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_when_nobody_has_been_attached_for_half_a_minute() {
    let app = TestApp::start().await;
    let begun = Instant::now();
    let mut never = on_pipes("python", ADDER);
    never["stdin"] = "7\n".into();
    let never = app.submit_for_id(&never).await;
    let (left, mut attached) = begin(&app, &on_a_terminal("python", ASKS)).await;
    attached.hear("? ").await;
    let (stays, mut stayed) = begin(&app, &on_pipes("bash", "read; echo $REPLY")).await;
    drop(attached);
    // Who is refused has not been there.
    let path = format!("/v1/submissions/{never}/attach");
    while begun.elapsed() < Duration::from_secs(25) {
        app.get(&path).await.problem(426);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for (id, verdict) in [(&never, "accepted"), (&left, "runtime_error")] {
        let ended = app.finished(id).await;
        assert_eq!(ended["outcome"]["verdict"], verdict, "{ended}");
        assert!(begun.elapsed() >= Duration::from_secs(30));
    }
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert_eq!(app.get(&format!("/v1/submissions/{stays}")).await.json()["state"], "running");
    stayed.send("still\n").await;
    stayed.hear("still\n").await;
    assert_eq!(stayed.verdict().await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_conversation_is_refused_with_the_reason() {
    let app = TestApp::start().await;
    let plain = app.submit_for_id(&json!({ "language": "bash", "source": "echo" })).await;
    let talks = app.submit_for_id(&on_pipes("bash", "read")).await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    let evil = [("origin", "http://evil.example")];
    for (id, query, headers, status) in [
        (plain.as_str(), "", &[][..], 409),
        (nobody, "", &[], 404),
        ("x", "", &[], 404),
        (&talks, "?after=x", &[], 422),
        (&talks, "?before=1", &[], 422),
        (&talks, "", &evil, 403),
    ] {
        let path = format!("/v1/submissions/{id}/attach{query}");
        let answer = Attached::try_to(&app, &path, headers).await.err().expect("a refusal");
        answer.problem(status);
    }
    let path = format!("/v1/submissions/{talks}/attach");
    let answer = app.get(&path).await;
    answer.problem(426);
    assert_eq!(answer.header("upgrade"), "websocket");
    assert_eq!(answer.header("sec-websocket-version"), "13");
    let head = app.request(reqwest::Method::HEAD, &path).header("connection", "Upgrade");
    let head = head.header("upgrade", "websocket").header("sec-websocket-version", "13");
    assert_eq!(app.send(head.header("sec-websocket-key", "x")).await.status, 426);
    app.post(&path).await.problem(405);
    let own = [("origin", &*format!("http://{}", app.address()))];
    assert!(Attached::try_to(&app, &path, &own).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_understood_ends_the_conversation_and_not_the_program() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&on_pipes("bash", "read; echo $REPLY")).await;
    let (long, longer) = ("x".repeat(65_537), "x".repeat(3_000_000));
    for (message, code, reason) in [
        ("no JSON", 1008, "expected"),
        (r#"{"type":"sing"}"#, 1008, "unknown variant `sing`"),
        (r#"{"type":"end","now":true}"#, 1008, "unknown field `now`"),
        (r#"{"type":"signal","signal":"SEGV"}"#, 1008, "unknown variant `SEGV`"),
        (r#"{"type":"resize","rows":70000,"columns":1}"#, 1008, "70000"),
        (r#"{"type":"stdin","data":"!","encoding":"base64"}"#, 1008, "data: "),
        (&long, 1009, "a message may have 65536 bytes"),
        (&longer, 1009, "a message may have 65536 bytes"),
    ] {
        let mut attached = Attached::to(&app, &id, "").await;
        attached.say_raw(message).await;
        attached.rest().await;
        let (ended, why) = attached.closed.expect("a code");
        assert!(ended == code && why.contains(reason), "{message:.80}: {ended} {why}");
    }
    let mut attached = Attached::to(&app, &id, "").await;
    attached.send("still there\n").await;
    attached.hear("still there\n").await;
    assert_eq!(attached.verdict().await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_or_says_too_much_holds_nothing_up() {
    let app = TestApp::with(&["--slots", "1"]).await;
    let mut flood = on_pipes("bash", "yes | head -c 4000000; sleep 100");
    flood["limits"] = json!({ "output_bytes": 1_000_000 });
    let (id, _deaf) = begin(&app, &flood).await;
    assert_eq!(app.finished(&id).await["outcome"]["verdict"], "output_limit_exceeded");
    // Far more than all on the way takes in, for a program that reads none of it.
    let (id, mut talker) = begin(&app, &on_pipes("bash", "echo up; sleep 100")).await;
    talker.hear("up\n").await;
    let mut said = 0;
    let mut says = async |more: u64| {
        let until = Instant::now() + Duration::from_secs(more);
        let send = async {
            loop {
                talker.send(&"x".repeat(60_000)).await;
                said += 60_000;
            }
        };
        let _ = tokio::time::timeout_at(until.into(), send).await;
        said
    };
    let (at_first, later) = (says(3).await, says(1).await);
    assert_eq!(at_first, later, "whoever says too much waits");
    assert!(at_first < 16 << 20, "{at_first}");
    assert_eq!(app.post(&format!("/v1/submissions/{id}/cancel")).await.status, 200);
    assert_eq!(app.finished(&id).await["outcome"]["verdict"], "cancelled");
    assert_eq!(app.run_source("bash", "echo next").await["outcome"]["verdict"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_beside_input_that_waits_and_not_without_bound() {
    let app = TestApp::with(&["--slots", "1"]).await;
    let (held, mut first) = begin(&app, &on_pipes("bash", "echo up; sleep 100")).await;
    first.hear("up\n").await;
    let (_, mut queued) = begin(&app, &on_pipes("bash", "read; echo $REPLY")).await;
    queued.send("early\n").await;
    for other in [&mut queued, &mut first] {
        for _ in 0..100 {
            other.send("more\n").await;
        }
        assert_eq!(other.ping(50).await, 50);
    }
    first.ping(202).await;
    assert_eq!(first.closed, Some((1008, "too many pings".to_owned())));
    app.delete(&format!("/v1/submissions/{held}")).await;
    queued.hear("early\n").await;
    assert_eq!(queued.verdict().await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_one_goes_reaches_the_program() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        let (id, mut attached) = begin(&app, &on_pipes("bash", "cat")).await;
        attached.send("one\n").await;
        attached.send("two\n").await;
        attached.say(json!({ "type": "end" })).await;
        attached.leave().await;
        ids.push(id);
    }
    for id in ids {
        let ended = app.finished(&id).await;
        assert_eq!(ended["outcome"]["runs"][0]["stdout"]["data"], "one\ntwo\n", "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_only_looks_on_stays() {
    let app = TestApp::start().await;
    let source = "for n in $(seq 50); do echo $n; sleep 1; done";
    let (_, mut attached) = begin(&app, &on_pipes("bash", source)).await;
    assert_eq!(attached.verdict().await, "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_is_attached_to_what_is_deleted_is_told() {
    let app = TestApp::start().await;
    let (id, mut attached) = begin(&app, &on_pipes("bash", "echo up; read")).await;
    attached.hear("up\n").await;
    assert_eq!(app.delete(&format!("/v1/submissions/{id}")).await.status, 204);
    attached.rest().await;
    let (code, reason) = attached.closed.clone().expect("a code");
    let last = attached.events.last().unwrap()["type"].as_str().unwrap();
    let expected = if last == "finished" { "finished" } else { "deleted" };
    assert_eq!((code, reason.as_str()), (1000, expected), "{:?}", attached.events);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_the_language_are_heeded_on_a_terminal_too() {
    let app = TestApp::start().await;
    let source = "import java.util.*;
public class Main {
    public static void main(String[] args) {
        List<byte[]> all = new ArrayList<>();
        while (true) all.add(new byte[1 << 20]);
    }
}";
    let (_, mut java) = begin(&app, &on_a_terminal("java", source)).await;
    assert_eq!(java.verdict().await, "memory_limit_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_says_so_and_one_that_falls_begins_the_program_anew() {
    let mut app = TestApp::start().await;
    let (id, mut attached) = begin(&app, &on_pipes("bash", "echo up; read; echo $REPLY")).await;
    attached.hear("up\n").await;
    app.signal(Signal::SIGTERM);
    attached.rest().await;
    let reason = "the daemon is shutting down".to_owned();
    assert_eq!(attached.closed, Some((1001, reason)));
    app.wait_for_exit();

    let app = app.crash_and_restart().await;
    let seen = attached.events.last().unwrap()["n"].as_u64().unwrap();
    let mut again = Attached::to(&app, &id, &format!("?after={seen}")).await;
    again.hear("up\n").await;
    again.send("back\n").await;
    again.hear("back\n").await;
    assert_eq!(again.verdict().await, "accepted");
    let attempts = again.events.iter().filter_map(|event| event["attempt"].as_u64());
    assert_eq!(attempts.max(), Some(2));
}
