//! One submission over HTTP, from the request to its verdict.

use std::time::{Duration, Instant};

use serde::Deserialize;

/// The longest that one request asks the daemon to wait: the API's maximum.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How much longer than its `wait` a request may take before it counts as timed out: the way there
/// and back, and a busy machine at both ends.
const GRACE: Duration = Duration::from_secs(10);

/// What the types of our own problems begin with; says nothing in a report.
const PROBLEM_PREFIX: &str = "urn:braindrill:problem:";

/// A client of one daemon's HTTP API. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    language: String,
    timeout: Duration,
}

/// How one submission went, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// It finished, with this verdict.
    Finished(String),
    /// It did not: the kind of error, from a small set.
    Failed(String),
}

#[derive(Deserialize)]
struct Submission {
    id: String,
    state: String,
    outcome: Option<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    verdict: String,
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(rename = "type")]
    kind: Option<String>,
    title: Option<String>,
}

impl Client {
    /// A client for the daemon at `url` that gives up on a submission after `timeout`.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub(super) fn new(
        url: &str,
        language: &str,
        connections: usize,
        timeout: Duration,
    ) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().pool_max_idle_per_host(connections).build()?;
        Ok(Client {
            http,
            base: url.trim_end_matches('/').to_owned(),
            language: language.to_owned(),
            timeout,
        })
    }

    /// Asks whether a daemon is there at all, so that a wrong address fails at once.
    ///
    /// # Errors
    /// What is in the way, in a few words.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let request = self.http.get(format!("{}/healthz/live", self.base)).timeout(GRACE).send();
        let response = request.await.map_err(|error| transport_error(&error).to_owned())?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(format!("/healthz/live answers {}", response.status()))
        }
    }

    /// Submits `source` and waits for the end.
    pub(super) async fn submit(&self, source: &str) -> Sent {
        match self.try_submit(source).await {
            Ok(verdict) => Sent::Finished(verdict),
            Err(kind) => Sent::Failed(kind),
        }
    }

    async fn try_submit(&self, source: &str) -> Result<String, String> {
        let deadline = Instant::now() + self.timeout;
        let body = serde_json::json!({ "language": self.language, "source": source });
        let mut request = self.http.post(format!("{}/v1/submissions", self.base)).json(&body);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = left.min(MAX_WAIT).as_secs().max(1);
            let request_timeout = Duration::from_secs(wait) + GRACE;
            let response = request
                .query(&[("wait", wait)])
                .timeout(request_timeout)
                .send()
                .await
                .map_err(|error| transport_error(&error).to_owned())?;
            let submission = read(response).await?;
            if submission.state == "finished" {
                let outcome = submission.outcome.ok_or("finished without an outcome")?;
                return Ok(outcome.verdict);
            }
            if Instant::now() >= deadline {
                return Err("unfinished in time".to_owned());
            }
            request = self.http.get(format!("{}/v1/submissions/{}", self.base, submission.id));
        }
    }
}

async fn read(response: reqwest::Response) -> Result<Submission, String> {
    let status = response.status();
    let body = response.bytes().await.map_err(|error| transport_error(&error).to_owned())?;
    if !status.is_success() {
        return Err(problem_kind(status.as_u16(), &body));
    }
    serde_json::from_slice(&body).map_err(|_| "answer is not a submission".to_owned())
}

/// The kind of a refused request: its status, and the problem's type where it has one of its own.
fn problem_kind(status: u16, body: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let kind = problem.kind.filter(|kind| kind != "about:blank").or(problem.title);
    match kind {
        Some(kind) => format!("{status} {}", kind.strip_prefix(PROBLEM_PREFIX).unwrap_or(&kind)),
        None => status.to_string(),
    }
}

fn transport_error(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else if error.is_builder() {
        "this is no URL"
    } else {
        "connection broke"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_known_by_its_type_else_its_title_else_its_status() {
        let kind = |body: &str| problem_kind(503, body.as_bytes());
        assert_eq!(kind(r#"{"type":"urn:x:queue-full","title":"Full"}"#), "503 urn:x:queue-full");
        assert_eq!(kind(r#"{"type":"urn:braindrill:problem:queue-full"}"#), "503 queue-full");
        assert_eq!(kind(r#"{"type":"about:blank","title":"Full"}"#), "503 Full");
        assert_eq!(kind("<html>"), "503");
    }
}
