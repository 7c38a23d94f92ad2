//! Agents of Nomad that are killed while they run programs.

use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::*;
use crate::support::{
    nomad::Options,
    traces::{cgroups, until_none},
};

/// Waits until no cgroup of an allocation's runner is left on this machine.
fn until_no_cgroup_of(allocation: &serde_json::Value) {
    let allocation = allocation.as_str().unwrap();
    until_none(&format!("cgroups of {allocation}"), || cgroups(&allocation[..8]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_costs_time_and_never_a_verdict() {
    let nomad = Nomad::own(Options::default()).await;
    let app = daemon(&nomad, &["--slots", "3"]).await;
    let program = |number| bash(&format!("echo this; sleep 3; echo is {number}"));
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(app.submit_for_id(&program(number)).await);
    }
    join_all(ids[..3].iter().map(|id| until_it_speaks(&app, id))).await;

    nomad.kill().await;
    // Accepted as always.
    ids.push(app.submit_for_id(&program(6)).await);
    nomad.restart().await;
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_accepted(&submission, &format!("this\nis {number}\n"));
        println!("number {number}: attempt {}", submission["attempt"]);
        until_no_cgroup_of(&submission["placement"]["allocation_id"]);
    }
}

/// Kills all that runs for an allocation, as the failure of its machine would.
fn kill_all_of(allocation: &str) -> usize {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != std::process::id() as i32) else { continue };
        let says = |file: &str| {
            let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(allocation)
        };
        if says("cmdline") || says("environ") {
            killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_on_a_lost_node_runs_again_on_another() {
    let nomad = Nomad::own(Options { nodes: 2, ..Options::default() }).await;
    let app = daemon(&nomad, &[]).await;
    let id = app.submit_for_id(&bash("echo begin; sleep 5; echo end")).await;
    until_it_speaks(&app, &id).await;
    let before = app.get(&format!("/v1/submissions/{id}")).await.json()["placement"].clone();
    let nodes = nomad.nodes().await;
    let number = nodes.iter().position(|node| node.id == before["node_id"]).unwrap();

    nomad.kill_node(number).await;
    let killed = kill_all_of(before["allocation_id"].as_str().unwrap());
    println!("{killed} processes were killed");
    let submission = app.finished(&id).await;

    assert_accepted(&submission, "begin\nend\n");
    assert_eq!(submission["attempt"], 2, "{submission}");
    assert_eq!(submission["placement"]["node_id"], nodes[1 - number].id, "{submission}");
    // What was killed is cleared up by the runner that came after it.
    until_no_cgroup_of(&before["allocation_id"]);
    until_no_cgroup_of(&submission["placement"]["allocation_id"]);
}
