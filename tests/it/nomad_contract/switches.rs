//! What the stand-in can be made to do, and a real Nomad cannot.

use std::time::{Duration, Instant};

use super::{bench::*, *};
use crate::support::nomad::StandIn;

fn switches(bench: &Bench) -> &StandIn {
    bench.nomad.as_stand_in().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_a_child_waits_and_begins_when_there_is_some() {
    let bench = Bench::stand_in(Options::default()).await;
    switches(&bench).set_room(false);
    let child = bench.run("waits", "true").await;
    let path = format!("/v1/job/{child}/evaluations");
    let begun = Instant::now();
    let blocked = loop {
        let all = bench.get(&path).await;
        let blocked = all.as_array().unwrap().iter().find(|each| each["Status"] == "blocked");
        if let Some(blocked) = blocked {
            break blocked.clone();
        }
        assert!(begun.elapsed() < DEADLINE, "{all}");
    };
    assert_eq!(blocked["FailedTGAllocs"]["run"]["DimensionExhausted"]["memory"], 1);
    assert_eq!(bench.get(&format!("/v1/job/{child}")).await["Status"], "pending");

    switches(&bench).set_room(true);
    bench.until_status(&child, "complete").await;
    let id = blocked["ID"].as_str().unwrap();
    assert_eq!(bench.get(&format!("/v1/evaluation/{id}")).await["Status"], "complete");
    assert_eq!(bench.get(&format!("/v1/job/{child}")).await["Status"], "dead");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_the_server_says_so_and_tasks_run_on() {
    let bench = Bench::stand_in(Options::default()).await;
    let child = bench.run("runs", "sleep 0.1").await;
    switches(&bench).set_leader(false);
    let no_leader = (500, "No cluster leader".to_owned());
    let dispatch = bench.answer(Method::POST, "/v1/job/runs/dispatch", Some(json!({})));
    assert_eq!(dispatch.await, no_leader);
    assert_eq!(bench.answer(Method::GET, "/v1/jobs", None).await, no_leader);
    switches(&bench).set_leader(true);
    bench.until_status(&child, "complete").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_one_child_from_1_1_3_on() {
    let bench = Bench::stand_in(Options::default()).await;
    bench.register("once", "true", Value::Null).await;
    let dispatch = async || {
        let path = "/v1/job/once/dispatch?idempotency_token=a";
        bench.ask(Method::POST, path, Some(json!({}))).await
    };
    assert_ne!(dispatch().await["DispatchedJobID"], dispatch().await["DispatchedJobID"]);

    switches(&bench).set_version("1.1.3");
    let tags = &bench.get("/v1/agent/members").await["Members"][0]["Tags"];
    assert_eq!(tags["build"], "1.1.3");
    let (first, second) = (dispatch().await, dispatch().await);
    assert_eq!(first["DispatchedJobID"], second["DispatchedJobID"]);
    assert!(first["EvalID"] != "" && second["EvalID"] == "", "{first} {second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_without_an_evaluation_waits_until_it_is_evaluated() {
    let bench = Bench::stand_in(Options::default()).await;
    bench.register("half", "true", Value::Null).await;
    switches(&bench).lose_next_evaluation();
    let answer = bench.answer(Method::POST, "/v1/job/half/dispatch", Some(json!({}))).await;
    assert_eq!(answer, (500, "leadership lost while committing log".to_owned()));
    let jobs = bench.get("/v1/jobs?prefix=half/dispatch-").await;
    let child = jobs[0]["ID"].as_str().unwrap();
    assert_eq!(jobs[0]["Status"], "pending");
    assert_eq!(bench.get(&format!("/v1/job/{child}/evaluations")).await, json!([]));

    let path = format!("/v1/job/{child}/evaluate");
    bench.ask(Method::PUT, &path, Some(json!({ "JobID": child }))).await;
    bench.until_status(child, "complete").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_machine_is_known_at_once_and_its_tasks_are_dead() {
    let bench = Bench::stand_in(Options { nodes: 2, ..Options::default() }).await;
    let child = bench.run("lost", "echo $$; exec sleep 1000").await;
    let first = bench.until_status(&child, "running").await;
    let pid = bench.stdout(&first).await;
    let nodes = bench.nomad.nodes().await;
    let on = nodes.iter().position(|node| node.id == first["NodeID"].as_str().unwrap());
    switches(&bench).lose_node(on.unwrap()).await;
    let second = bench.until(&child, |newest| newest["ID"] != first["ID"]).await;
    assert_ne!(second["NodeID"], first["NodeID"]);
    let all = bench.allocations(&child).await;
    assert_eq!(all[0]["ClientStatus"], "lost");
    let node = bench.get(&format!("/v1/node/{}", first["NodeID"].as_str().unwrap())).await;
    assert_eq!(node["Status"], "down");
    let begun = Instant::now();
    while is_alive(&pid) {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folders_of_old_allocations_are_deleted() {
    let bench = Bench::stand_in(Options::default()).await;
    switches(&bench).keep_allocations(2);
    let mut ended = Vec::new();
    for _ in 0..3 {
        let child = bench.run("kept", "echo here").await;
        ended.push(bench.until_status(&child, "complete").await);
    }
    let gone = |output: &str| {
        output.starts_with("failed to list entries: open ")
            && output.ends_with("/alloc/logs: no such file or directory")
    };
    bench.until_stdout(&ended[0], gone).await;
    assert_eq!(bench.stdout(&ended[2]).await, "here\n");
    switches(&bench).keep_allocations(0);
    bench.until_stdout(&ended[2], gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_ends_with_words_that_are_no_json() {
    let heartbeat = Options { stream_heartbeat: Duration::from_millis(50), ..Options::default() };
    let bench = Bench::stand_in(heartbeat).await;
    let url = format!("{}/v1/event/stream?topic=Allocation", bench.nomad.address());
    let mut stream = bench.client.get(url).send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    assert_eq!(&first[..], b"{}\n");
    switches(&bench).drop_streams();
    let mut rest = Vec::new();
    while let Some(bytes) = stream.chunk().await.unwrap() {
        rest.extend_from_slice(&bytes);
    }
    let text = String::from_utf8(rest).unwrap();
    assert_eq!(text.replace("{}\n", ""), "event dropped from buffer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_too_slow_is_dropped() {
    let bench = Bench::stand_in(Options::default()).await;
    // Nothing of the answer is read until there is more than is kept.
    let url = format!("{}/v1/event/stream?topic=Job", bench.nomad.address());
    let first = bench.run("fills", "true").await;
    let mut stream = bench.client.get(url).send().await.unwrap();
    let large = json!({ "Env": { "LARGE": "x".repeat(200_000) } });
    for _ in 0..150 {
        bench.register("large", "true", large.clone()).await;
    }
    let mut all = Vec::new();
    while let Some(bytes) = stream.chunk().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    assert!(all.ends_with(b"event dropped from buffer"), "{first}: {} bytes", all.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_limit_can_be_set_and_what_counts_be_seen() {
    let bench = Bench::stand_in(Options::default()).await;
    let url = format!("{}/v1/nodes?index=1000000&wait=10s", bench.nomad.address());
    let waiting = tokio::time::timeout(Duration::from_millis(300), bench.client.get(&url).send());
    assert!(waiting.await.is_err());
    // Its connection is closed, and its query is not over.
    assert_eq!(switches(&bench).connections(), 1);
    switches(&bench).set_connection_limit(1);
    assert!(bench.client.get(bench.nomad.address()).send().await.is_err());
    switches(&bench).set_connection_limit(2);
    bench.get("/v1/nodes").await;
}
