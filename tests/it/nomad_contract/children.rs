//! Children of a parameterized job, from one fate to the next.

use super::*;

/// Dispatches that make no child.
pub(super) async fn refused(stage: &mut Stage) {
    let nobody = Subject::default();
    stage.replay("01-register-parameterized-job", &nobody, Like::Shape).await;
    for text in [
        "04-dispatch-payload-too-large",
        "05-dispatch-unknown-meta",
        "06-dispatch-missing-required-meta",
        "07b-dispatch-bad-json",
        "07c-dispatch-bad-base64",
        "07d-dispatch-empty-body",
        "07e-dispatch-get",
        "07f-dispatch-nonstring-meta",
    ] {
        stage.replay(text, &nobody, Like::Text).await;
    }
    stage.replay("07g-dispatch-unknown-field", &nobody, Like::Shape).await;
}

/// One that runs for two seconds and ends well.
pub(super) async fn complete(stage: &mut Stage) {
    // The node may report before we look: then another shows it.
    loop {
        let mut early = dispatch(stage, "runner", "0", "0").await;
        until(stage, &mut early, |_| true).await;
        let seen = stage.get(&format!("/v1/job/{}/allocations", early.job)).await;
        if seen[0]["TaskStates"].is_null() {
            stage.replay("08-job-allocations-pending", &early, Like::Shape).await;
            break;
        }
    }
    let made = stage.replay("03-dispatch-ok", &Subject::default(), Like::Shape).await;
    let mut child = subject(&made);
    until(stage, &mut child, |newest| newest["ClientStatus"] == "running").await;
    stage.replay("08b-job-allocations-running", &child, Like::States).await;
    stage.replay("11e-fs-logs-stdout-plain-follow-live", &child, Like::Text).await;

    until(stage, &mut child, |newest| newest["ClientStatus"] == "complete").await;
    for states in [
        "08c-job-allocations-complete",
        "09-allocation-detail-complete",
        "10-evaluation",
        "10b-evaluation-allocations",
    ] {
        stage.replay(states, &child, Like::States).await;
    }
    for text in [
        "11-fs-logs-stdout-framed",
        "11b-fs-logs-stdout-plain",
        "11c-fs-logs-stderr-framed",
        "11d-fs-logs-stderr-plain",
        "11f-fs-logs-stdout-plain-follow-dead",
        "11g-fs-logs-stdout-framed-follow-dead",
        "12b-fs-logs-unknown-task",
        "12c-fs-logs-bad-type",
        "12d-fs-logs-no-task",
        "12e-fs-logs-offset-end",
        "12f-fs-logs-offset-past-end",
        "12g-fs-logs-framed-offset-past-end",
        "12g-fs-logs-plain-unknown-task",
        "13-fs-cat",
        "13b-fs-cat-missing",
        "13e-fs-readat",
        "13f-fs-stream-3s",
        "13g-fs-cat-escape",
    ] {
        stage.replay(text, &child, Like::Text).await;
    }
    for shape in ["13c-fs-ls", "13d-fs-stat", "13h-fs-cat-secrets"] {
        stage.replay(shape, &child, Like::Shape).await;
    }
    for summary in ["10h-job-summary-parent", "10i-job-summary-parent-runner"] {
        stage.replay(summary, &child, Like::Shape).await;
    }
    for read in ["22-allocations-blocking-timeout-wait1s", "22b-allocations-stale"] {
        stage.replay(read, &child, Like::States).await;
    }
    stage.replay("20-jobs-prefix-children", &child, Like::Shape).await;
    stage.replay("19c-dispatch-nonparam", &child, Like::Text).await;
}

/// One that exits with 3, and one that cannot be started.
pub(super) async fn failed(stage: &mut Stage) {
    let over = |newest: &Value| newest["ClientStatus"] == "failed";
    let mut child = dispatch(stage, "runner", "0", "3").await;
    until(stage, &mut child, over).await;
    stage.replay("08d-job-allocations-failed-exit3", &child, Like::States).await;

    register(stage, "invalid.json").await;
    let body =
        json!({ "Payload": "aGVsbG8gcGF5bG9hZAo=", "Meta": { "LANG_ID": "sh", "SLEEP": "0" } });
    let made = stage.call(Method::POST, "/v1/job/invalid/dispatch", body.to_string().into()).await;
    let mut child = subject(&made);
    until(stage, &mut child, over).await;
    for states in [
        "08x-job-allocations-failed-validation",
        "08b-job-allocations-urlencoded-id",
        "09x-allocation-detail-failed-validation",
        "10c-dispatched-job-read",
    ] {
        stage.replay(states, &child, Like::States).await;
    }
    stage.replay("12y-fs-logs-task-never-started-404", &child, Like::Text).await;
}

/// One that no node has room for.
pub(super) async fn blocked(stage: &mut Stage) {
    let nobody = Subject::default();
    stage.replay("16-register-huge", &nobody, Like::Shape).await;
    let mut child = subject(&stage.replay("16b-dispatch-huge", &nobody, Like::Shape).await);
    let path = format!("/v1/evaluation/{}", child.evaluation);
    let evaluation = stage.until(&path, |evaluation| evaluation["Status"] == "complete").await;
    stage.replay("16c-evaluation-placement-failure", &child, Like::States).await;
    evaluation["BlockedEval"].as_str().unwrap().clone_into(&mut child.evaluation);
    stage.replay("16d-evaluation-blocked", &child, Like::States).await;
    stage.replay("16e-job-evaluations", &child, Like::Shape).await;
    stage.replay("16f-job-allocations-blocked", &child, Like::Text).await;
    stage.replay("16g-job-status-blocked", &child, Like::States).await;
    stage.replay("17g-stop-blocked-job", &child, Like::Shape).await;
    stage.replay("19-dispatch-stopped-parent-setup", &nobody, Like::Shape).await;
    stage.replay("19b-dispatch-stopped-parent", &nobody, Like::Text).await;
}

/// Whether a task was told to end, and has not.
fn is_being_killed(allocation: &Value) -> bool {
    let task = &allocation["TaskStates"]["main"];
    let events = task["Events"].as_array();
    task["State"] == "running"
        && events.is_some_and(|events| events.iter().any(|event| event["Type"] == "Killing"))
}

/// One that is stopped while it runs, and then purged.
pub(super) async fn stopped(stage: &mut Stage) {
    let mut child = dispatch(stage, "runner", "60", "0").await;
    until(stage, &mut child, |newest| newest["ClientStatus"] == "running").await;
    stage.replay("17-job-stop", &child, Like::Shape).await;
    until(stage, &mut child, is_being_killed).await;
    stage.replay("17b-job-allocations-after-stop", &child, Like::States).await;
    stage.replay("17c-job-after-stop", &child, Like::States).await;
    stage.replay("17d-job-purge", &child, Like::Shape).await;
    stage.replay("17e-job-after-purge", &child, Like::Text).await;
}

/// One of which the allocation is stopped: it is no end of the child.
pub(super) async fn replaced(stage: &mut Stage) {
    let mut child = dispatch(stage, "runner", "60", "0").await;
    until(stage, &mut child, |newest| newest["ClientStatus"] == "running").await;
    stage.replay("18-alloc-stop", &child, Like::Shape).await;
    let path = format!("/v1/job/{}/allocations", child.job);
    let all = stage.until(&path, |all| all.as_array().unwrap().iter().any(is_being_killed)).await;
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    stage.replay("18b-job-allocations-after-alloc-stop", &child, Like::Shape).await;
    let purge = format!("/v1/job/{}?purge=true", child.job);
    stage.call(Method::DELETE, &purge, Vec::new()).await;
}
