//! Daemons that are killed, and daemons beside each other.

use futures_util::future::join_all;

use super::*;
use crate::support::{
    mix,
    proxy::{Proxy, Way},
    traces,
};

/// What must be the same before and after.
fn place(submission: &Value) -> (u64, String, String) {
    let text = |name: &str| submission["placement"][name].as_str().unwrap().to_owned();
    (submission["attempt"].as_u64().unwrap(), text("job_id"), text("allocation_id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_takes_up_what_ran_and_what_ended_meanwhile() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &["--slots", "4"]).await;
    let job = job_of(&app).await;
    // Long enough that on a busy machine all four have spoken before the first has ended.
    let seconds = |number| if number < 4 { 10 + number % 2 * 15 } else { 1 };
    let source = |number| format!("echo this; sleep {}; echo is {number}", seconds(number));
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(app.submit_for_id(&bash(&source(number))).await);
    }
    // Two of them end while there is no daemon, and two run on.
    join_all(ids[..4].iter().map(|id| until_it_speaks(&app, id))).await;
    let mut places = Vec::new();
    for id in &ids[..4] {
        places.push(place(&app.get(&format!("/v1/submissions/{id}")).await.json()));
    }
    let ended = app.crash();
    until("two have ended meanwhile", DEADLINE, async || {
        let listed = children(&nomad, &job).await;
        listed.iter().filter(|(_, status)| status == "dead").count() >= 2
    })
    .await;
    let app = ended.start().await;

    let mut finished = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_accepted(&submission, &format!("this\nis {number}\n"));
        finished.push(submission);
    }
    let after: Vec<_> = finished[..4].iter().map(place).collect();
    assert_eq!(after, places);
    assert_eq!(app.all().await.len(), ids.len() + 1);
    until("nothing is left", DEADLINE, async || children(&nomad, &job).await.is_empty()).await;
    // A node tells of a task 200 ms later.
    let mut dispatched = 0;
    until("each task is reported", DEADLINE, async || {
        dispatched = nomad.task_times(&job).await.len();
        dispatched > ids.len()
    })
    .await;
    assert_eq!(dispatched, ids.len() + 1, "each ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_right_after_a_cancel_leaves_no_child() {
    let nomad = Nomad::shared().await;
    let way = Proxy::to(nomad.host_and_port()).await;
    let app = daemon_at(&way.address(), &["--slots", "4"]).await;
    let (job, marker) = (job_of(&app).await, mix::marker(50));
    let program = bash(&format!("echo go; sleep {marker}"));
    let ids = join_all((0..4).map(|_| app.submit_for_id(&program))).await;
    join_all(ids.iter().map(|id| until_it_speaks(&app, id))).await;

    // It dies between the cancel and Nomad's stop.
    way.set(Way::Cut);
    let paths: Vec<_> = ids.iter().map(|id| format!("/v1/submissions/{id}/cancel")).collect();
    for answer in join_all(paths.iter().map(|path| app.post(path))).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let ended = app.crash();
    let left = children(&nomad, &job).await;
    assert_eq!(left.iter().filter(|(_, status)| status == "running").count(), 4, "{left:?}");
    way.set(Way::Open);
    let app = ended.start().await;

    until("no child is left", DEADLINE, async || children(&nomad, &job).await.is_empty()).await;
    traces::until_none("processes", || traces::with_word(&marker));
    for id in &ids {
        let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
        assert_eq!(submission["outcome"]["verdict"], "cancelled", "{submission}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_on_one_nomad_leave_each_other_s_children_alone() {
    let nomad = Nomad::shared().await;
    let (one, other) = tokio::join!(daemon(&nomad, &[]), daemon(&nomad, &[]));
    let jobs = (job_of(&one).await, job_of(&other).await);
    assert_ne!(jobs.0, jobs.1);
    let program = bash("echo begin; sleep 8; echo end");
    let ids = join_all((0..3).map(|_| other.submit_for_id(&program))).await;
    let begun = one.submit_for_id(&program).await;
    join_all(ids.iter().map(|id| until_it_speaks(&other, id))).await;
    until_it_speaks(&one, &begun).await;

    // What it finds at its start is looked through for what nobody wants any more.
    let one = one.crash_and_restart().await;
    let cancelled = one.post(&format!("/v1/submissions/{begun}/cancel")).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    until("its own is gone", DEADLINE, async || children(&nomad, &jobs.0).await.is_empty()).await;
    drop(one);
    for id in &ids {
        let submission = other.finished(id).await;
        assert_accepted(&submission, "begin\nend\n");
        assert_eq!(submission["attempt"], 1, "{submission}");
    }
}
