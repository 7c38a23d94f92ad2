//! A daemon of our own, on a free port with an empty data folder, and what is asked of it.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long the daemon may take to be ready, and its languages to be checked.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Ended and removed when dropped.
pub(crate) struct Daemon {
    process: Child,
    http: reqwest::Client,
    url: String,
    _data: tempfile::TempDir,
}

impl Daemon {
    /// Starts it and waits until it is ready and busy with nothing of its own.
    pub(crate) async fn start() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let process = Command::new(env!("CARGO_BIN_EXE_braindrill"))
            .args(["serve", "--backend", "local", "--listen", &address, "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(data.path().join("log"))?)
            .spawn()?;
        let http = reqwest::Client::new();
        let mut daemon = Daemon { process, http, url: format!("http://{address}"), _data: data };
        let deadline = Instant::now() + START_DEADLINE;
        while !daemon.is_idle().await {
            if let Some(status) = daemon.process.try_wait()? {
                let log = std::fs::read_to_string(daemon._data.path().join("log"))?;
                bail!("the daemon ended with {status}:\n{log}");
            }
            ensure!(Instant::now() < deadline, "the daemon is not ready after {START_DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(daemon)
    }

    /// Whether it is ready and no language's self-test is to come.
    async fn is_idle(&self) -> bool {
        let get = async |path: &str| -> Result<Value> {
            let response = self.http.get(format!("{}{path}", self.url)).send().await?;
            Ok(response.error_for_status()?.json().await?)
        };
        if get("/healthz/ready").await.is_err() {
            return false;
        }
        match get("/v1/languages").await {
            Ok(languages) => !languages.to_string().contains(r#""status":"checking""#),
            Err(_) => false,
        }
    }

    /// One Python hello, from the request to its verdict.
    pub(crate) async fn time_hello(&self) -> Result<Duration> {
        let start = Instant::now();
        let request = self.http.post(format!("{}/v1/submissions?wait=10", self.url));
        let response = request.json(&hello()).send().await?.error_for_status()?;
        let submission: Value = response.json().await?;
        let elapsed = start.elapsed();
        let verdict = submission["outcome"]["verdict"].as_str();
        ensure!(verdict == Some("accepted"), "not accepted: {submission}");
        Ok(elapsed)
    }

    /// Submits so many, not waiting for verdicts; from the first request to the last 201.
    pub(crate) async fn submit_many(&self, count: usize, connections: usize) -> Result<Duration> {
        self.post_all("/v1/submissions", hello(), count, connections).await
    }

    /// Submits batches of 100.
    pub(crate) async fn submit_batches(
        &self,
        batches: usize,
        connections: usize,
    ) -> Result<Duration> {
        let body = json!({ "items": vec![hello(); 100] });
        self.post_all("/v1/submissions/batch", body, batches, connections).await
    }

    async fn post_all(
        &self,
        path: &str,
        body: Value,
        count: usize,
        connections: usize,
    ) -> Result<Duration> {
        let url = format!("{}{path}", self.url);
        let mut clients = JoinSet::new();
        let start = Instant::now();
        for client in 0..connections {
            let (http, url, body) = (self.http.clone(), url.clone(), body.clone());
            let share = count / connections + usize::from(client < count % connections);
            clients.spawn(async move {
                for _ in 0..share {
                    let response = http.post(&url).json(&body).send().await?;
                    let answer = response.error_for_status()?.text().await?;
                    // A batch answers 200 with a problem in place of what it did not take.
                    ensure!(!answer.contains("urn:braindrill:problem:"), "refused: {answer}");
                }
                Ok(())
            });
        }
        while let Some(joined) = clients.join_next().await {
            joined.context("a client panicked")??;
        }
        Ok(start.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hello() -> Value {
    json!({ "language": "python", "source": "print('hello')" })
}
