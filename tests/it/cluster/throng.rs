//! More submissions than Nomad is given at once.

use std::collections::BTreeSet;

use futures_util::future::{Either, join_all, select};

use super::*;
use crate::support::nomad::most_at_once;

const SUBMISSIONS: usize = 300;
const SLOTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn of_three_hundred_submissions_at_once_none_is_lost_and_no_more_run_than_may() {
    let nomad = Nomad::shared().await;
    let app = daemon(&nomad, &["--slots", &SLOTS.to_string()]).await;
    let job = job_of(&app).await;
    let begun = Instant::now();
    let all = join_all((0..SUBMISSIONS).map(async |number| {
        let id = app.submit_for_id(&bash(&format!("echo this is {number}"))).await;
        let deadline = Instant::now() + Duration::from_secs(500);
        let submission = loop {
            let answer = app.get(&format!("/v1/submissions/{id}?wait=60")).await.json();
            if answer["state"] == "finished" {
                break answer;
            }
            assert!(Instant::now() < deadline, "not finished: {answer}");
        };
        assert_accepted(&submission, &format!("this is {number}\n"));
        assert_eq!(submission["attempt"], 1, "{submission}");
        id
    }));
    let mut most_listed = 0;
    let counting = async {
        loop {
            let listed = children(&nomad, &job).await;
            let open = listed.iter().filter(|(_, status)| status != "dead").count();
            most_listed = most_listed.max(open);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ids = match select(std::pin::pin!(all), std::pin::pin!(counting)).await {
        Either::Left((ids, _)) => ids,
        Either::Right((never, _)) => never,
    };
    println!("{SUBMISSIONS} took {:?}; at most {most_listed} were listed", begun.elapsed());
    until("no finished child is listed", Duration::from_secs(5), async || {
        children(&nomad, &job).await.is_empty()
    })
    .await;

    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), SUBMISSIONS);
    assert_eq!(app.all().await.len(), SUBMISSIONS + 1);
    // A node tells what its tasks did 200 ms later; by then their results are read and they purged.
    let mut times = Vec::new();
    until("each task is reported to have ended", DEADLINE, async || {
        times = nomad.task_times(&job).await;
        times.len() > SUBMISSIONS && times.iter().all(|each| each.finished.is_some())
    })
    .await;
    assert!(most_at_once(&times) <= SLOTS, "{} ran at once", most_at_once(&times));
    assert!((1..=SLOTS).contains(&most_listed), "{most_listed} were dispatched at once");
}
