//! Many who want the same at the same time.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{PATH, bash, is_well};
use crate::support::{app::TestApp, mix, traces};

#[tokio::test(flavor = "multi_thread")]
async fn one_key_at_once_from_many_is_one_submission_and_one_request() {
    let app = TestApp::start().await;
    for round in 0..5 {
        let send = |number: usize| {
            // Two different requests compete for the key.
            let request = bash(&format!("echo {} # {round}", number % 2));
            let post =
                app.request(Method::POST, PATH).header("Idempotency-Key", format!("k{round}"));
            app.send(post.json(&request))
        };
        let answers = join_all((0..64).map(send)).await;
        let created: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
        let ids: BTreeSet<_> = created.iter().map(|a| a.json()["id"].to_string()).collect();
        let new = created.iter().filter(|a| a.header("idempotent-replayed").is_empty()).count();
        assert_eq!((created.len(), ids.len(), new), (32, 1, 1));
        for refused in answers.iter().filter(|answer| answer.status != 201) {
            let problem = refused.problem(422);
            assert_eq!(problem["type"], "urn:braindrill:problem:idempotency-key-reused");
        }
    }
    assert_eq!(app.all().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_a_submission_first_ends_it_and_nothing_sticks() {
    let app = TestApp::start().await;
    let marker = mix::marker(5);
    let race = async |number: usize| {
        // Some end by themselves about when they are cancelled, some never.
        let source = match number % 3 {
            0 => "echo ended".to_owned(),
            1 => "sleep 0.1; echo ended".to_owned(),
            _ => format!("sleep {marker}"),
        };
        let id = app.submit_for_id(&bash(&source)).await;
        let path = format!("{PATH}/{id}");
        if number.is_multiple_of(4) {
            app.in_a_state(&id, &["running", "finished"]).await;
        }
        let cancel_path = format!("{path}/cancel");
        let cancel = || app.post(&cancel_path);
        let wait = format!("{path}?wait=1");
        let deletes = number.is_multiple_of(5);
        let delete = async || {
            if deletes { Some(app.delete(&path).await.status) } else { None }
        };
        let (a, b, c, deleted, again, waited) =
            tokio::join!(cancel(), cancel(), cancel(), delete(), delete(), app.get(&wait));
        let statuses = [a.status, b.status, c.status];
        let done = statuses.iter().filter(|&&status| status == StatusCode::OK).count();
        assert!(done <= 1, "cancelled once: {statuses:?}");
        if deletes {
            let deleted = [deleted.unwrap(), again.unwrap()];
            assert!(deleted.contains(&StatusCode::NO_CONTENT), "{deleted:?}");
            app.get(&path).await.problem(404);
            app.post(&format!("{path}/cancel")).await.problem(404);
            return None;
        }
        assert!(waited.status == StatusCode::OK, "{}", waited.text());
        let first = app.finished(&id).await;
        let verdict = first["outcome"]["verdict"].as_str().unwrap().to_owned();
        assert_eq!(
            verdict,
            if done == 1 { "cancelled" } else { "accepted" },
            "{statuses:?} {first}"
        );
        if done == 0 {
            assert_eq!(first["outcome"]["runs"][0]["stdout"]["data"], "ended\n", "{first}");
        }
        Some((id, first))
    };
    let kept: Vec<_> = join_all((0..300).map(race)).await.into_iter().flatten().collect();
    for (id, first) in &kept {
        assert_eq!(&app.finished(id).await, first, "it ends once");
    }
    assert_eq!(app.all().await.len(), kept.len());
    let counts = json!({ "queued": 0, "dispatching": 0, "running": 0, "finished": kept.len() });
    assert_eq!(app.get("/v1/stats").await.json()["submissions"], counts);
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
    // Nothing of it comes back.
    let app = app.crash_and_restart().await;
    assert_eq!(app.get("/v1/stats").await.json()["submissions"], counts);
    is_well(&app).await;
}
