//! Submissions followed live.

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    sse::{Follower, Message, output},
};

fn bash(source: &str) -> Value {
    json!({ "language": "bash", "source": source, "limits": { "wall_time_ms": 60_000 } })
}

fn path(id: &str) -> String {
    format!("/v1/submissions/{id}/events")
}

/// Numbers without gaps or repeats, the same in `id` and in `data`.
#[track_caller]
fn assert_numbered(messages: &[Message], from: u64) {
    for (expected, message) in (from..).zip(messages) {
        assert_eq!(message.id, expected, "{messages:?}");
        assert_eq!(message.data["n"], expected, "{message:?}");
        assert_eq!(message.data["type"], message.event.as_str(), "{message:?}");
    }
}

fn kinds(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.event.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_told_from_the_acceptance_to_the_end() {
    let app = TestApp::start().await;
    let source = "#include <stdio.h>\n\
                  int main(void) { int n; scanf(\"%d\", &n); printf(\"%d\\n\", n * 2); \
                  fputs(\"x\\n\", stderr); return 0; }";
    let request = json!({
        "language": "c", "source": source,
        "tests": [
            { "stdin": "21", "expected_output": "42" },
            { "name": "wrong", "stdin": "1", "expected_output": "3", "points": 1 },
        ],
    });
    let id = app.submit_for_id(&request).await;
    let live = Follower::of(&app, &id, None).await.rest().await;

    assert_numbered(&live, 0);
    assert_eq!(live[0].data["state"], "queued");
    assert_eq!(live[0].data["attempt"], 0);
    let mut seen = kinds(&live);
    seen.dedup();
    let of_test = [["stdout", "stderr", "test"], ["stderr", "stdout", "test"]];
    assert_eq!(seen[..2], ["state", "compile"], "{live:?}");
    assert!(of_test.contains(&[seen[2], seen[3], seen[4]]), "{seen:?}");
    assert!(of_test.contains(&[seen[5], seen[6], seen[7]]), "{seen:?}");
    assert_eq!(seen[8..], ["finished"]);

    let compile = live.iter().find(|message| message.event == "compile").unwrap();
    assert_eq!(compile.data["compile"]["success"], true, "{compile:?}");
    let tests: Vec<_> = live.iter().filter(|message| message.event == "test").collect();
    assert_eq!((&tests[0].data["test"], &tests[1].data["test"]), (&json!(1), &json!(2)));
    assert_eq!(tests[0].data["run"]["verdict"], "accepted", "{tests:?}");
    assert_eq!(tests[1].data["run"]["verdict"], "wrong_answer", "{tests:?}");
    assert_eq!(tests[1].data["run"]["test"], "wrong");
    assert_eq!(output(&live, "stdout"), b"42\n2\n");
    let last = &live.last().unwrap().data;
    assert_eq!(last["verdict"], "wrong_answer", "{last}");
    assert!(last["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{last}");

    // Whoever comes later is told the same, whole or from anywhere on.
    assert_eq!(Follower::of(&app, &id, None).await.rest().await, live);
    let behind = Follower::of(&app, &id, Some(3)).await.rest().await;
    assert_eq!(behind, live[4..]);
    let over = app
        .send(app.request(reqwest::Method::GET, &path(&id)).header("Last-Event-ID", live.len() - 1))
        .await;
    assert_eq!((over.status.as_u16(), over.body.len()), (204, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_there_while_its_program_still_runs() {
    let app = TestApp::start().await;
    // It ends when it is cancelled, which it is when its first words have been seen.
    let id = app.submit_for_id(&bash("echo one; sleep 1; echo two >&2; sleep 50")).await;
    let mut follower = Follower::of(&app, &id, None).await;
    assert_eq!(follower.next_of("stdout").await.data["data"], "one\n");
    assert_eq!(follower.next_of("stderr").await.data["data"], "two\n");
    assert_eq!(app.post(&format!("/v1/submissions/{id}/cancel")).await.status, 200);
    let end = follower.next_of("finished").await;
    assert_eq!(end.data["verdict"], "cancelled");
    assert_eq!(follower.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_where_it_was_after_the_daemon_was_killed() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&bash("echo one; sleep 3; echo two")).await;
    let mut follower = Follower::of(&app, &id, None).await;
    let mut seen = Vec::new();
    while kinds(&seen).last() != Some(&"stdout") {
        seen.push(follower.next().await.expect("it runs"));
    }
    let app = app.crash_and_restart().await;
    assert_eq!(follower.next().await, None, "cut off");

    let last = seen.last().unwrap().id;
    seen.extend(Follower::of(&app, &id, Some(last)).await.rest().await);
    assert_numbered(&seen, 0);
    assert_eq!(seen.last().unwrap().data["verdict"], "accepted", "{seen:?}");
    // The first attempt ended with its daemon; what it said is told apart by its number.
    let of_attempt = |number: u64| {
        let own = seen.iter().filter(|message| message.data["attempt"] == number);
        output(&own.cloned().collect::<Vec<_>>(), "stdout")
    };
    assert_eq!((of_attempt(1), of_attempt(2)), (b"one\n".to_vec(), b"one\ntwo\n".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_ends_its_streams_and_the_next_goes_on() {
    let mut app = TestApp::start().await;
    let id = app.submit_for_id(&bash("echo one; sleep 2; echo two")).await;
    let mut follower = Follower::of(&app, &id, None).await;
    let first = follower.next_of("stdout").await;
    app.signal(Signal::SIGTERM);
    let mut seen = vec![first];
    seen.extend(follower.rest().await);
    assert!(app.wait_for_exit().success());
    let app = app.crash_and_restart().await;
    let last = seen.last().unwrap().id;
    if seen.last().unwrap().event != "finished" {
        seen.extend(Follower::of(&app, &id, Some(last)).await.rest().await);
    }
    assert_numbered(&seen, seen[0].id);
    assert_eq!(seen.last().unwrap().data["verdict"], "accepted", "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_followers_of_a_flood_see_all_of_it_and_a_slow_one_holds_up_nobody() {
    const BYTES: usize = 3_000_000;
    let app = TestApp::start().await;
    let source =
        format!("yes 'a line of a program that says much' | head -c {BYTES}; echo end >&2");
    let mut request = bash(&source);
    request["limits"]["output_bytes"] = json!(4 << 20);
    let id = app.submit_for_id(&request).await;
    let mut slow = Follower::of(&app, &id, None).await;
    assert!(slow.next().await.is_some());
    let all =
        join_all((0..30).map(async |_| Follower::of(&app, &id, None).await.rest().await)).await;

    let first = &all[0];
    assert_numbered(first, 0);
    assert_eq!(output(first, "stdout").len(), BYTES);
    assert_eq!(first.last().unwrap().data["verdict"], "accepted");
    for other in &all {
        assert!(other == first, "all are told the same");
    }
    // It has read nothing meanwhile, and has missed nothing.
    assert!(slow.rest().await == first[1..], "the slow one is told the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_come_as_they_were_written() {
    let app = TestApp::start().await;
    let source = r"printf '\xff\x00\x01ä\n\r\u2028: \033[31m'; printf 'data: x\n\nevent: y\n'";
    let id = app.submit_for_id(&bash(source)).await;
    let all = Follower::of(&app, &id, None).await.rest().await;
    assert_numbered(&all, 0);
    let wanted = app.get(&format!("/v1/submissions/{id}/stdout")).await.body;
    assert!(wanted.starts_with(b"\xff\x00\x01") && wanted.ends_with(b"event: y\n"));
    assert_eq!(output(&all, "stdout"), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_a_submission_that_is_deleted() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&bash("echo one; sleep 50")).await;
    let mut follower = Follower::of(&app, &id, None).await;
    follower.next_of("stdout").await;
    assert_eq!(app.delete(&format!("/v1/submissions/{id}")).await.status, 204);
    // Whether its end is still told depends on who comes first.
    let rest = follower.rest().await;
    assert!(rest.iter().all(|message| message.event == "finished"), "{rest:?}");
    app.get(&path(&id)).await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_which_nothing_happens_is_kept_alive() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&bash("sleep 17; echo late")).await;
    let mut follower = Follower::of(&app, &id, None).await;
    follower.next_of("stdout").await;
    assert!(follower.beats >= 1, "{}", follower.beats);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_said() {
    let app = TestApp::start().await;
    let id = app.submit_for_id(&bash("sleep 50")).await;
    app.get(&path("0197f6a0-0000-7000-8000-000000000000")).await.problem(404);
    for number in ["-1", "x", "1.5", "99999999999999999999999"] {
        let request = app.request(reqwest::Method::GET, &path(&id));
        let problem = app.send(request.header("Last-Event-ID", number)).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], "Last-Event-ID", "{problem}");
    }
    let head = app.send(app.request(reqwest::Method::HEAD, &path(&id))).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), "text/event-stream");

    // A number that was never given hides nothing.
    let mut follower = Follower::of(&app, &id, Some(1_000_000)).await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
    assert_eq!(follower.next_of("finished").await.data["verdict"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_follow_leave_connections_for_everybody_else() {
    // Half of the files are for connections, and half of those for such streams.
    let app = TestApp::with_open_files(512).await;
    let id = app.submit_for_id(&bash("sleep 50")).await;
    let mut all = join_all((0..128).map(|_| Follower::of(&app, &id, None))).await;
    let problem = app.get(&path(&id)).await.problem(503);
    assert!(problem["detail"].as_str().unwrap().contains("follow"), "{problem}");
    assert_eq!(app.get("/healthz/live").await.status, 200);

    // A place is free again once its stream is gone, which the daemon sees when it next sends something.
    all.pop();
    assert_eq!(app.post(&format!("/v1/submissions/{id}/cancel")).await.status, 200);
    for follower in all {
        assert_eq!(follower.rest().await.last().unwrap().event, "finished");
    }
    assert_eq!(Follower::of(&app, &id, None).await.rest().await.last().unwrap().event, "finished");
}
