//! Agents that are killed and start again: the same for real ones and for the stand-in.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{bench::*, *};
use crate::support::nomad::most_at_once;

/// Writes a line, waits for a file, writes another line and ends.
fn waiting(go: &Path) -> String {
    let go = go.display();
    format!("echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo after; touch {go}.ended")
}

async fn until_exists(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < DEADLINE, "{}", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_on_while_server_and_node_are_away_and_their_ends_are_told_later() {
    let heartbeat = Duration::from_secs(20);
    let bench = Bench::own(Options { heartbeat, apart: true, ..Options::default() }).await;
    let dir = tempfile::tempdir().unwrap();
    let (go, go_too) = (dir.path().join("one"), dir.path().join("two"));
    let first = bench.run("first", &waiting(&go)).await;
    let second = bench.run("second", &waiting(&go_too)).await;
    let lasts = bench.run("lasts", "echo $$; exec sleep 1000").await;
    for child in [&first, &second] {
        bench.until_status(child, "running").await;
    }
    let running = bench.until_status(&lasts, "running").await;
    let pid = bench.until_stdout(&running, |output| output.ends_with('\n')).await;

    bench.nomad.kill().await;
    assert!(bench.client.get(bench.nomad.address()).send().await.is_err());
    std::fs::write(&go, "").unwrap();
    until_exists(&dir.path().join("one.ended")).await;
    bench.nomad.restart().await;
    let ended = bench.until_status(&first, "complete").await;
    assert_eq!(bench.stdout(&ended).await, "before\nafter\n");

    bench.nomad.kill_node(0).await;
    std::fs::write(&go_too, "").unwrap();
    until_exists(&dir.path().join("two.ended")).await;
    bench.nomad.restart_node(0).await;
    let ended = bench.until_status(&second, "complete").await;
    assert_eq!(bench.stdout(&ended).await, "before\nafter\n");

    assert!(is_alive(&pid));
    bench.ask(Method::DELETE, &format!("/v1/job/{lasts}"), None).await;
    bench.until_status(&lasts, "complete").await;
    assert!(!is_alive(&pid));
    let times = bench.nomad.task_times("").await;
    assert_eq!(most_at_once(&times), 3, "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_server_and_node_runs_its_tasks_again_when_it_was_killed() {
    let bench = Bench::own(Options::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("one");
    let ends = bench.run("ends", &waiting(&go)).await;
    let lasts = bench.run("lasts", "echo $$; exec sleep 1000").await;
    let first = bench.until_status(&ends, "running").await;
    let running = bench.until_status(&lasts, "running").await;
    let pid = bench.until_stdout(&running, |output| output.ends_with('\n')).await;

    bench.nomad.kill().await;
    std::fs::write(&go, "").unwrap();
    until_exists(&dir.path().join("one.ended")).await;
    assert!(is_alive(&pid));
    bench.nomad.restart().await;

    let ended = bench.until_status(&ends, "complete").await;
    assert_eq!(ended["ID"], first["ID"]);
    assert_eq!(bench.stdout(&ended).await, "before\nafter\nbefore\nafter\n");
    let pids = bench.until_stdout(&running, |output| output.lines().count() == 2).await;
    assert!(pids.starts_with(&pid) && !is_alive(&pid), "{pids}");
    assert_eq!(bench.allocations(&lasts).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_silent_loses_its_allocation_to_another() {
    let bench = Bench::own(Options { nodes: 2, ..Options::default() }).await;
    let child = bench.run("moves", "echo here; exec sleep 1000").await;
    let first = bench.until_status(&child, "running").await;
    let nodes = bench.nomad.nodes().await;
    let on = |allocation: &Value| {
        nodes.iter().position(|node| node.id == allocation["NodeID"].as_str().unwrap()).unwrap()
    };
    // Its log is to be had from the server and from every node.
    let id = first["ID"].as_str().unwrap();
    let log = format!("/v1/client/fs/logs/{id}?task=main&type=stdout&plain=true");
    for address in nodes.iter().map(|node| node.address.clone()).chain([bench.nomad.address()]) {
        let begun = Instant::now();
        loop {
            let answer = bench.client.get(format!("{address}{log}")).send().await.unwrap();
            if answer.text().await.unwrap() == "here\n" {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{address}");
        }
    }

    bench.nomad.kill_node(on(&first)).await;
    let second = bench.until(&child, |newest| newest["ID"] != first["ID"]).await;
    assert_ne!(on(&second), on(&first));
    let lost = &bench.allocations(&child).await[0];
    assert_eq!(lost["ClientStatus"], "lost");
    let (status, text) = bench.answer(Method::GET, &log, None).await;
    assert_eq!((status, text.as_str()), (404, "No path to node"));

    // Back again, it ends what was given up.
    bench.nomad.restart_node(on(&first)).await;
    let begun = Instant::now();
    loop {
        let detail = bench.get(&format!("/v1/allocation/{id}")).await;
        if detail["TaskStates"]["main"]["State"] == "dead" {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "{detail}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.until_status(&child, "running").await;
}
