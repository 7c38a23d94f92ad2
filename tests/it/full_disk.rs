//! A full disk and programs that are compiled, which need it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{app::TestApp, disk, traces};

/// Bytes of the disk: room for one compiled program of whatever size, and a little more.
const DISK: u64 = 100 << 20;

/// Within this everything that waits for the disk has ended once there is room: a daemon that found
/// none looks again after half a minute at the latest.
const SOON: Duration = Duration::from_secs(60);

/// A C program that says which it is, and holds so many bytes.
fn c(number: usize, bytes: usize) -> Value {
    let source = format!(
        "#include <stdio.h>\nchar held[{bytes}] = {{1}};\n\
         int main(void) {{ printf(\"compiled %d\\n\", {number} + held[0] - 1); return 0; }}"
    );
    json!({ "language": "c", "source": source })
}

/// A disk that is full until dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(data_dir: &Path) -> Filler {
        let path = data_dir.join("filler");
        disk::fill(&path);
        Filler(path)
    }

    fn give_back(&self, bytes: u64) {
        let file = fs::File::options().write(true).open(&self.0).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Asserts that each has ended or will soon, with what it says itself.
async fn all_are_right(app: &TestApp, ids: &[String]) {
    let begin = Instant::now();
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
        let stdout = &submission["outcome"]["runs"][0]["stdout"]["data"];
        assert_eq!(*stdout, format!("compiled {number}\n"), "{submission}");
    }
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_eq!(app.all().await.len(), ids.len(), "each is there once");
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
    traces::until_idle(app.pid(), &app.data_dir(), "no program sleeps");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_programs_submissions_wait_and_say_so() {
    let Some(app) = TestApp::on_disk(DISK, &[]).await else { return };
    let filler = Filler::fill(&app.data_dir());
    // Enough for the database, and not for what a compiler may make.
    filler.give_back(32 << 20);
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(app.submit_for_id(&c(number, 1)).await);
    }
    let begin = Instant::now();
    loop {
        let waiting = app.get(&format!("/v1/submissions/{}", ids[0])).await.json();
        if let Some(why) = waiting["waiting_for"].as_str() {
            assert!(why.contains("disk for compiled programs is full"), "{waiting}");
            break;
        }
        assert!(begin.elapsed() < SOON, "{waiting}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ready = app.get("/healthz/ready").await.json();
    assert_eq!(ready["status"], "degraded", "{ready}");
    assert!(ready.to_string().contains("disk for compiled programs is full"), "{ready}");
    drop(filler);
    all_are_right(&app, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_programs_are_compiled_changes_no_verdict() {
    let Some(app) = TestApp::on_disk(DISK, &[]).await else { return };
    let mut ids = Vec::new();
    for round in 0..4 {
        for _ in 0..4 {
            ids.push(app.submit_for_id(&c(ids.len(), 4 << 20)).await);
        }
        // Each round at another point of the way from the claim to the end.
        let first = &ids[ids.len() - 4 + round];
        app.in_a_state(first, &["running", "finished"]).await;
        let filler = Filler::fill(&app.data_dir());
        let refused = app.post_json("/v1/submissions", &c(0, 1)).await;
        // What SQLite has set aside may let it in; it is then one of them.
        if refused.status == 201 {
            app.delete(&format!("/v1/submissions/{}", refused.json()["id"].as_str().unwrap()))
                .await;
        }
        for id in &ids {
            let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
            let verdict = submission["outcome"]["verdict"].as_str();
            assert!(verdict.is_none_or(|verdict| verdict == "accepted"), "{submission}");
        }
        assert_eq!(app.get("/healthz/live").await.status, 200);
        drop(filler);
    }
    all_are_right(&app, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_have_no_room_beside_each_other_take_turns() {
    let Some(app) = TestApp::on_disk(DISK, &["--slots", "2"]).await else { return };
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(app.submit_for_id(&c(number, 52 << 20)).await);
    }
    all_are_right(&app, &ids).await;
    for id in &ids {
        assert_eq!(app.finished(id).await["attempt"], 1, "none was tried in vain");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_finds_no_room_again_and_again_is_not_given_up() {
    let Some(app) = TestApp::on_disk(DISK, &[]).await else { return };
    let id = app.submit_for_id(&c(0, 40 << 20)).await;
    // One more than the attempts that may be lost.
    for _ in 0..4 {
        app.in_state(&id, "running").await;
        let filler = Filler::fill(&app.data_dir());
        filler.give_back(16 << 20);
        let waiting = app.in_a_state(&id, &["queued", "finished"]).await;
        assert_eq!(waiting["state"], "queued", "compiling takes longer than that: {waiting}");
        let waiting_for = waiting["waiting_for"].as_str().unwrap();
        assert!(waiting_for.contains("compiled programs"), "{waiting}");
        drop(filler);
    }
    all_are_right(&app, &[id]).await;
}

/// Waits until a daemon on a full disk says so to whoever asks, and to its operator, beyond what was
/// `logged` before, what to do. One that has nothing left to do has nothing to say.
async fn says_what_is_wrong(app: &TestApp, logged: usize, ids: &[String]) {
    let begin = Instant::now();
    loop {
        let ready = app.get("/healthz/ready").await.text();
        let says = ready.contains("disk") && ready.contains("full");
        if says && app.log()[logged..].contains("free some space") {
            return;
        }
        let mut left = 0;
        for id in ids {
            let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
            left += usize::from(submission["state"] != "finished");
        }
        if left == 0 {
            return;
        }
        assert!(begin.elapsed() < SOON, "{left} left, and it says {ready}\n{}", app.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_on_a_full_disk_starts_there_and_ends_all_once_there_is_room() {
    let Some(mut app) = TestApp::on_disk(DISK, &[]).await else { return };
    let mut ids = Vec::new();
    for _ in 0..3 {
        for _ in 0..4 {
            ids.push(app.submit_for_id(&c(ids.len(), 1 << 20)).await);
        }
        let filler = Filler::fill(&app.data_dir());
        let logged = app.log().len();
        app = app.crash().start_in_trouble();
        for id in &ids {
            let submission = app.get(&format!("/v1/submissions/{id}")).await;
            assert_eq!(submission.status, 200, "{}", submission.text());
        }
        assert_eq!(app.get("/v1/languages/c").await.status, 200);
        says_what_is_wrong(&app, logged, &ids).await;
        drop(filler);
    }
    all_are_right(&app, &ids).await;
}
