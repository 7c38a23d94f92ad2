//! Clients that mean no good, or do not know better: group 20 of the table of attacks.

mod connections;
mod output;
mod races;
mod requests;

use serde_json::{Value, json};

use crate::support::{app::TestApp, mix};

const PATH: &str = "/v1/submissions";

fn bash(source: &str) -> Value {
    json!({ "language": "bash", "source": source })
}

/// Asserts that the daemon still does its work.
async fn is_well(app: &TestApp) {
    let case = mix::case(0, "no program sleeps");
    case.check(&app.run(&case.request).await);
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
}
