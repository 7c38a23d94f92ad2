//! Bodies and limits that are no requests, and more requests than there is room for.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{PATH, bash, is_well};
use crate::support::{answer::Answer, app::TestApp, mix, traces};

async fn post_text(app: &TestApp, body: String) -> Answer {
    let request = app.request(Method::POST, PATH).header("content-type", "application/json");
    app.send(request.body(body)).await
}

/// What others may wait while such bodies are read: that takes a debug build seconds.
const OTHERS_WAIT: Duration = Duration::from_secs(5);

/// Asks for small things, and returns the longest time that one took.
async fn others(app: &TestApp) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begin = Instant::now();
        assert_eq!(app.get("/v1/submissions").await.status, StatusCode::OK);
        longest = longest.max(begin.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_huge_deep_or_endless_cost_nothing_lasting() {
    let app = TestApp::start().await;
    let memory = traces::anonymous_bytes(app.pid());
    let deep = |open: &str, close: &str, levels: usize| {
        let (open, close) = (open.repeat(levels), close.repeat(levels));
        format!("{{\"language\":\"bash\",\"source\":{open}1{close}}}")
    };
    for _ in 0..6 {
        let all = [
            (400, deep("[", "]", 100_000)),
            (400, deep("{\"a\":", "}", 100_000)),
            (422, deep("[", "]", 100)),
            (413, format!("{{\"source\":\"{}\"}}", "x".repeat(30 << 20))),
            (413, format!("{{\"tests\":[{}{{}}]}}", "{},".repeat(1_000_000))),
            (
                422,
                format!(
                    "{{\"language\":\"bash\",\"source\":\"\",\"tests\":[{}{{}}]}}",
                    "{},".repeat(300_000)
                ),
            ),
            (422, format!("{{{}\"a\":1}}", "\"a\":1,".repeat(100_000))),
            (
                422,
                format!(
                    "{{\"language\":\"bash\",\"source\":\"\",\"args\":[{}\"\"]}}",
                    "\"\",".repeat(300_000)
                ),
            ),
            (422, format!("{{\"language\":\"{}\",\"source\":\"\"}}", "x".repeat(1_000_000))),
        ];
        let answers = join_all(all.iter().map(|(_, body)| post_text(&app, body.clone())));
        let (answers, longest) = tokio::join!(answers, others(&app));
        assert!(longest < OTHERS_WAIT, "somebody else waited for {longest:?}");
        for ((status, body), answer) in all.iter().zip(answers) {
            answer.problem(*status);
            assert!(answer.body.len() < 20_000, "{} for {:.80}", answer.body.len(), body);
        }
    }
    is_well(&app).await;
    // What the allocator keeps for itself stays below this; what these bodies become when they are
    // read is about 300 MiB.
    traces::until_none("memory", || {
        let now = traces::anonymous_bytes(app.pid());
        if now <= memory + (64 << 20) { Vec::new() } else { vec![now >> 10, memory >> 10] }
    });
}

#[tokio::test]
async fn limits_that_are_no_numbers_are_refused_by_name() {
    let app = TestApp::start().await;
    let names =
        ["cpu_time_ms", "wall_time_ms", "memory_bytes", "processes", "output_bytes", "disk_bytes"];
    for name in names {
        for value in [
            "-1",
            "0",
            "-0",
            "0.5",
            "1e308",
            "1e3",
            "18446744073709551615",
            "18446744073709551616",
            "\"1\"",
            "[1]",
            "true",
            "-1e308",
        ] {
            let body = format!(
                "{{\"language\":\"bash\",\"source\":\"\",\"limits\":{{\"{name}\":{value}}}}}"
            );
            let problem = post_text(&app, body).await.problem(422);
            assert_eq!(
                problem["errors"][0]["field"],
                format!("limits.{name}"),
                "{value}: {problem}"
            );
        }
        for value in ["NaN", "Infinity", "1e309", "0x10", "01", "1_000", ""] {
            let body = format!(
                "{{\"language\":\"bash\",\"source\":\"\",\"limits\":{{\"{name}\":{value}}}}}"
            );
            let answer = post_text(&app, body).await;
            assert!(matches!(answer.status.as_u16(), 400 | 422), "{value}: {}", answer.text());
        }
    }
    for (field, value) in [("points", "1e308"), ("points", "-1"), ("points", "1e400")] {
        let body = format!(
            "{{\"language\":\"bash\",\"source\":\"\",\"tests\":[{{\"{field}\":{value}}},{{\"{field}\":{value}}}]}}"
        );
        let answer = post_text(&app, body).await;
        assert!(matches!(answer.status.as_u16(), 400 | 422), "{value}: {}", answer.text());
    }
    is_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so_and_when_to_come_back() {
    let app = TestApp::with(&["--queue-limit", "5", "--slots", "1"]).await;
    let marker = mix::marker(7);
    let sleeper = bash(&format!("sleep {marker}"));
    let running = app.submit_for_id(&sleeper).await;
    app.in_state(&running, "running").await;
    let answers = join_all((0..40).map(|_| app.post_json(PATH, &sleeper))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!(accepted.len(), 5, "exactly as many as may wait");
    for answer in &refused {
        let problem = answer.problem(503);
        assert_eq!(problem["type"], "urn:braindrill:problem:queue-full");
        assert!(problem["detail"].as_str().unwrap().contains('5'), "{problem}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    }
    let batch = json!({ "items": vec![sleeper.clone(); 3] });
    let answer = app.post_json("/v1/submissions/batch", &batch).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json()["items"].as_array().unwrap().iter().all(|item| item["status"] == 503));
    for answer in &accepted {
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(app.delete(&format!("{PATH}/{id}")).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(app.delete(&format!("{PATH}/{running}")).await.status, StatusCode::NO_CONTENT);
    is_well(&app).await;
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
}
