//! A daemon of our own, on a free port with an empty data folder, and what is asked of it.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use braindrill::runner::self_test;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use crate::{agent, client::Client, process};

/// How long the daemon may take to be ready, and its languages to be checked.
const START_DEADLINE: Duration = Duration::from_secs(600);

/// What the self-tests of the first daemon found, for the others: they last longer than many a row.
static CHECKED: OnceLock<Vec<u8>> = OnceLock::new();

/// Ended and removed when dropped.
pub(crate) struct Daemon {
    process: Child,
    http: reqwest::Client,
    url: String,
    address: SocketAddr,
    data: Arc<tempfile::TempDir>,
    /// From its spawn until it was ready.
    start: Duration,
}

impl Daemon {
    /// Starts it with these options and variables, and waits until it is ready.
    pub(crate) async fn start(options: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        Self::start_on(Arc::new(tempfile::tempdir()?), options, variables).await
    }

    /// The same on a folder that may have data.
    pub(crate) async fn start_on(
        data: Arc<tempfile::TempDir>,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        Self::launch(data, options, variables).await.context("starting the daemon")
    }

    async fn launch(
        data: Arc<tempfile::TempDir>,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if let Some(found) = CHECKED.get() {
            std::fs::write(self_test::file_in(data.path()), found)?;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let begun = Instant::now();
        let process = agent::without_nomads_variables(env!("CARGO_BIN_EXE_braindrill"))
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(data.path())
            .args(options)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(data.path().join("log"))?)
            .spawn()?;
        let http = reqwest::Client::new();
        let url = format!("http://{address}");
        let mut daemon = Daemon { process, http, url, address, data, start: Duration::ZERO };
        while daemon.get("/healthz/ready").await.is_err() {
            daemon.pause(begun).await?;
        }
        daemon.start = begun.elapsed();
        Ok(daemon)
    }

    /// Waits until no language's self-test is to come: it would run in the midst of a measurement.
    /// Only the local backend has them.
    pub(crate) async fn languages_checked(&mut self) -> Result<()> {
        let begun = Instant::now();
        while self.get("/v1/languages").await?.to_string().contains(r#""status":"checking""#) {
            self.pause(begun).await?;
        }
        if let Ok(found) = std::fs::read(self_test::file_in(self.data.path())) {
            CHECKED.get_or_init(|| found);
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
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
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

    /// Has a submission accepted; its id.
    pub(crate) async fn accept(&self, submission: &Value) -> Result<String> {
        let request = self.http.post(format!("{}/v1/submissions", self.url)).json(submission);
        let accepted: Value = request.send().await?.error_for_status()?.json().await?;
        Ok(accepted["id"].as_str().context("no id")?.to_owned())
    }

    /// Follows a submission.
    pub(crate) async fn follow(&self, id: &str) -> Result<reqwest::Response> {
        let request = self.http.get(format!("{}/v1/submissions/{id}/events", self.url));
        Ok(request.send().await?.error_for_status()?)
    }

    /// Attaches to a submission.
    pub(crate) async fn attach(&self, id: &str) -> Result<WebSocketStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}/v1/submissions/{id}/attach", self.address);
        Ok(tokio_tungstenite::client_async(url, stream).await?.0)
    }

    /// A connection of its own to it.
    pub(crate) async fn client(&self) -> Result<Client> {
        Client::connect(self.address).await
    }

    /// So many connections.
    pub(crate) async fn clients(&self, count: usize) -> Result<Vec<Client>> {
        try_join_all((0..count).map(|_| self.client())).await
    }

    /// How long it took from its spawn until it was ready.
    pub(crate) fn start_time(&self) -> Duration {
        self.start
    }

    /// What it has in memory: its own process, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<f64> {
        process::memory_mib(self.process.id())
    }

    /// Submissions in this state.
    pub(crate) async fn count(&self, state: &str) -> Result<u64> {
        let stats = self.get("/v1/stats").await?;
        stats["submissions"][state].as_u64().with_context(|| format!("no {state} in {stats}"))
    }

    /// The processor time that it and what it started have taken.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.id())
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

/// Those of these flags that the daemon has, each with 0 behind it: off.
pub(crate) fn switches_off(flags: &[&'static str]) -> Result<Vec<&'static str>> {
    let help = Command::new(env!("CARGO_BIN_EXE_braindrill")).args(["serve", "--help"]).output()?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    Ok(flags.iter().filter(|flag| help.contains(**flag)).flat_map(|flag| [*flag, "0"]).collect())
}
