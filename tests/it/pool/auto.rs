//! A daemon that runs attempts wherever they can run now.

use nix::sys::signal::Signal;

use super::*;
use crate::support::nomad::Nomad;

async fn place_of(app: &TestApp, id: &str) -> String {
    let submission = app.finished(id).await;
    assert_accepted(&submission, "here\n");
    assert_eq!(submission["attempt"], 1, "{submission}");
    submission["placement"]["kind"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_warm_worker_runs_in_nomad_or_here() {
    let worker = TestWorker::start(1);
    let nomad = Nomad::shared().await;
    let url = worker.url();
    let flags = ["--backend", "auto", "--no-consul", "--workers", &url, "--nomad-addr"];
    let secret = [("BRAINDRILL_WORKER_SECRET", SECRET)];
    let with = async |nomad: &str, more: &[&str]| {
        let app = TestApp::with_variables(&secret, &[&flags[..], &[nomad], more].concat()).await;
        until("the worker is known", async || {
            let workers = app.get("/v1/workers").await.text();
            workers.contains(worker.id())
        })
        .await;
        app
    };
    let here = bash("echo here");

    // All three are there: the worker first, and Nomad when its slot is taken.
    let app = with(&nomad.address(), &[]).await;
    let id = app.submit_for_id(&here).await;
    assert_eq!(place_of(&app, &id).await, "pool");
    let held = app.submit_for_id(&bash("echo begun; sleep 4716")).await;
    until_it_speaks(&app, &held).await;
    let id = app.submit_for_id(&here).await;
    assert_eq!(place_of(&app, &id).await, "nomad");
    app.post(&format!("/v1/submissions/{held}/cancel")).await;
    until("it has ended", async || sleepers(4716).is_empty()).await;
    drop(app);

    // Nobody is where Nomad should be.
    let app = with("http://127.0.0.1:1", &[]).await;
    let id = app.submit_for_id(&here).await;
    assert_eq!(place_of(&app, &id).await, "pool");
    worker.signal(Signal::SIGKILL);
    let id = app.submit_for_id(&here).await;
    assert_eq!(place_of(&app, &id).await, "local");
    assert_eq!(app.get("/healthz/ready").await.json()["parts"]["backend"]["status"], "ok");
}
