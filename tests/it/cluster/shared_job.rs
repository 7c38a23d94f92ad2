//! Daemons that dispatch from one job, and what Nomad's own command shows of a child.

use std::process::Command;

use futures_util::future::join_all;

use super::*;
use crate::support::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// Registers a job for others to dispatch from.
fn register(nomad: &Nomad, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let args = ["jobs", "register", "--nomad-job", name, "--nomad-addr", &nomad.address()];
    let output = Command::new(PROGRAM).args(args).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_share_a_job_leave_each_other_s_children_alone() {
    let nomad = Nomad::shared().await;
    let name = "shared-by-two";
    register(&nomad, name);
    let flags = ["--nomad-job", name];
    let (one, other) = tokio::join!(daemon(&nomad, &flags), daemon(&nomad, &flags));
    let program = bash("echo begin; sleep 8; echo end");
    let ids = join_all((0..3).map(|_| other.submit_for_id(&program))).await;
    let begun = one.submit_for_id(&program).await;
    join_all(ids.iter().map(|id| until_it_speaks(&other, id))).await;
    until_it_speaks(&one, &begun).await;
    assert_eq!(children(&nomad, name).await.len(), 4);

    // What it finds at its start is looked through for what nobody wants any more.
    let one = one.crash_and_restart().await;
    let cancelled = one.post(&format!("/v1/submissions/{begun}/cancel")).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    until("its own is gone", DEADLINE, async || children(&nomad, name).await.len() <= 3).await;
    drop(one);
    for id in &ids {
        let submission = other.finished(id).await;
        assert_accepted(&submission, "begin\nend\n");
        assert_eq!(submission["attempt"], 1, "{submission}");
        let job = submission["placement"]["job_id"].as_str().unwrap();
        assert!(job.starts_with("shared-by-two/dispatch-"), "{submission}");
    }
    until("nothing is left", DEADLINE, async || children(&nomad, name).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placement_leads_to_what_nomad_s_own_command_shows() {
    let nomad = Nomad::shared().await;
    if nomad.as_stand_in().is_some() {
        return skip("there is no `nomad` on PATH, whose own command this is about");
    }
    let app = daemon(&nomad, &[]).await;
    let id = app.submit_for_id(&bash("echo begin; sleep 10; echo end")).await;
    until_it_speaks(&app, &id).await;
    let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
    let of = |name: &str| submission["placement"][name].as_str().unwrap().to_owned();
    let (job, evaluation, allocation) = (of("job_id"), of("evaluation_id"), of("allocation_id"));
    let evaluated = nomad.get(&format!("/v1/evaluation/{evaluation}")).await;
    assert_eq!(evaluated["JobID"], job, "{evaluated}");
    let allocated = nomad.get(&format!("/v1/allocation/{allocation}")).await;
    assert_eq!(
        (&allocated["EvalID"], &allocated["NodeID"]),
        (&json!(evaluation), &json!(of("node_id")))
    );

    let nomads = |words: &[&str]| {
        let mut command = Command::new("nomad");
        let output = command.args(words).env("NOMAD_ADDR", nomad.address()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = nomads(&["alloc", "logs", &allocation]);
    let copy = nomads(&["alloc", "fs", &allocation, "alloc/data/events.jsonl"]);
    assert_eq!(shown, copy);
    let kinds: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds.len() >= 2, "{shown}");
    assert!(shown.ends_with('\n'), "{shown}");
    assert_accepted(&app.finished(&id).await, "begin\nend\n");
}
