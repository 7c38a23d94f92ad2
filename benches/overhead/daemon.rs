//! A daemon of our own, on a free port with an empty data folder, and what is asked of it.

use std::{
    net::TcpListener,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{agent, process};

/// How long the daemon may take to be ready, and its languages to be checked.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Ended and removed when dropped.
pub(crate) struct Daemon {
    process: Child,
    http: reqwest::Client,
    url: String,
    data: tempfile::TempDir,
}

impl Daemon {
    /// Starts it with these options and variables, and waits until it is ready.
    pub(crate) async fn start(options: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::launch(options, variables).await.context("starting the daemon")
    }

    async fn launch(options: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let begun = Instant::now();
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let process = agent::without_nomads_variables(env!("CARGO_BIN_EXE_braindrill"))
            .args(["serve", "--listen", &address, "--data-dir"])
            .arg(data.path())
            .args(options)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(data.path().join("log"))?)
            .spawn()?;
        let http = reqwest::Client::new();
        let mut daemon = Daemon { process, http, url: format!("http://{address}"), data };
        while daemon.get("/healthz/ready").await.is_err() {
            daemon.pause(begun).await?;
        }
        Ok(daemon)
    }

    /// Waits until no language's self-test is to come: it would run in the midst of a measurement.
    /// Only the local backend has them.
    pub(crate) async fn languages_checked(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.get("/v1/languages").await?.to_string().contains(r#""status":"checking""#) {
            self.pause(begun).await?;
        }
        Ok(())
    }

    /// Waits a little for something that was first looked for at `begun`.
    async fn pause(&mut self, begun: Instant) -> Result<()> {
        let log = || std::fs::read_to_string(self.data.path().join("log"));
        if let Some(status) = self.process.try_wait()? {
            bail!("the daemon ended with {status}:\n{}", log()?);
        }
        let late = begun.elapsed() > START_DEADLINE;
        ensure!(!late, "the daemon is not ready after {START_DEADLINE:?}:\n{}", log()?);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(response.error_for_status()?.json().await?)
    }

    /// One Python hello, from the request to its verdict.
    pub(crate) async fn time_hello(&self) -> Result<Duration> {
        self.time(&hello(), "hello\n").await
    }

    /// One submission that must be accepted with this output, from the request to its verdict.
    pub(crate) async fn time(&self, submission: &Value, stdout: &str) -> Result<Duration> {
        let start = Instant::now();
        let request = self.http.post(format!("{}/v1/submissions?wait=60", self.url));
        let response = request.json(submission).send().await?.error_for_status()?;
        let submission: Value = response.json().await?;
        let elapsed = start.elapsed();
        let outcome = &submission["outcome"];
        ensure!(outcome["verdict"] == "accepted", "not accepted: {submission}");
        ensure!(outcome["runs"][0]["stdout"]["data"] == stdout, "a wrong output: {submission}");
        Ok(elapsed)
    }

    /// The processor time that it and what it started have taken.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.id())
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
