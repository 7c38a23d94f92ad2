//! A worker whose network is cut: nothing gets there or back, and no connection is told of it.

use super::*;
use crate::support::netns::OtherNetwork;

/// From the cut until what ran there is over elsewhere: 5 s of silence, 1 s for a last look, the runs
/// themselves, and what a busy machine adds.
const STATED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_a_worker_that_is_cut_off_ends_well_on_another() {
    let Some(network) = OtherNetwork::join() else { return };
    let workers = [TestWorker::away(network.command(), network.address(), 4), TestWorker::start(4)];
    let app = daemon(&workers.each_ref(), &[]).await;
    let mut ids = Vec::new();
    for number in 0..8 {
        ids.push(app.submit_for_id(&bash(&format!("echo begun; sleep 4; echo {number}"))).await);
    }
    let mut cut_off = Vec::new();
    for id in &ids {
        until_it_speaks(&app, id).await;
        let submission = app.get(&format!("/v1/submissions/{id}")).await.json();
        cut_off.push(submission["placement"]["worker_id"] == workers[0].id());
    }
    assert_eq!(cut_off.iter().filter(|&&is_there| is_there).count(), 4, "all slots are in use");
    network.cut();
    let cut = Instant::now();
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_accepted(&submission, &format!("begun\n{number}\n"));
        let attempts = 1 + u64::from(cut_off[number]);
        assert_eq!(submission["attempt"], attempts, "{submission}");
    }
    assert!(cut.elapsed() < STATED, "{:?}", cut.elapsed());
    // It is used again once it can be reached, and has nothing left of what it ran.
    network.mend();
    until("it is there again, and idle", async || {
        let listed = app.get("/v1/workers").await.json();
        let items = listed["items"].as_array().unwrap();
        items.len() == 2 && items.iter().all(|item| item["healthy"] == true && item["busy"] == 0)
    })
    .await;
}
