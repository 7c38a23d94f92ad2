//! A warm worker, found through a real Consul where there is one.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::{agent, daemon::Daemon};

/// What daemon and worker share.
const SECRET: (&str, &str) = ("BRAINDRILL_WORKER_SECRET", "for-a-measurement-on-loopback");

/// How long Consul may take to have a leader, or the daemon to find the worker.
const READY: Duration = Duration::from_secs(60);

/// Ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The worker, and the Consul that has it in its list.
pub(crate) struct Cluster {
    worker: String,
    consul: Option<String>,
    folder: TempDir,
    processes: Vec<Process>,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let worker = format!("127.0.0.1:{}", free_port()?);
        let folder = tempfile::tempdir()?;
        let mut cluster = Cluster { worker, consul: None, folder, processes: Vec::new() };
        if let Some(program) = find_consul() {
            cluster.start_consul(&program).await?;
        }
        let mut command = agent::without_nomads_variables(env!("CARGO_BIN_EXE_braindrill"));
        command.args(["worker", "--listen", &cluster.worker]).env(SECRET.0, SECRET.1);
        // They would run in the midst of a measurement.
        command.args(["--self-test", "false"]);
        match &cluster.consul {
            Some(address) => command.env("CONSUL_HTTP_ADDR", address),
            None => command.arg("--no-consul"),
        };
        cluster.spawn(command, "worker")?;
        Ok(cluster)
    }

    async fn start_consul(&mut self, program: &Path) -> Result<()> {
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
        let config = json!({
            "disable_update_check": true,
            "ports": {
                "http": ports[0], "server": ports[1], "serf_lan": ports[2], "serf_wan": ports[3],
                "https": -1, "grpc": -1, "dns": -1,
            },
        });
        let file = self.folder.path().join("agent.json");
        std::fs::write(&file, config.to_string())?;
        let mut command = agent::without_nomads_variables(program);
        command.args(["agent", "-dev", "-bind", "127.0.0.1", "-config-file"]).arg(&file);
        self.spawn(command, "consul")?;
        let address = format!("127.0.0.1:{}", ports[0]);
        let (leader, begun) = (format!("http://{address}/v1/status/leader"), Instant::now());
        loop {
            if let Ok(answer) = reqwest::get(&leader).await
                && answer.text().await.is_ok_and(|text| text.len() > 2)
            {
                break;
            }
            ensure!(begun.elapsed() < READY, "Consul is not ready after {READY:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.consul = Some(address);
        Ok(())
    }

    fn spawn(&mut self, mut command: Command, name: &str) -> Result<()> {
        let log = std::fs::File::create(self.folder.path().join(name))?;
        let child = command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).spawn()?;
        self.processes.push(Process(child));
        Ok(())
    }

    /// What rows are called that were measured with it.
    pub(crate) fn name(&self) -> &'static str {
        match self.consul {
            Some(_) => "pool",
            None => "pool (no Consul, --workers)",
        }
    }

    /// A daemon that has found the worker.
    pub(crate) async fn daemon(&self) -> Result<Daemon> {
        let url = format!("http://{}", self.worker);
        let mut options = vec!["--backend", "pool"];
        let mut variables = vec![SECRET];
        match &self.consul {
            Some(address) => variables.push(("CONSUL_HTTP_ADDR", address)),
            None => options.extend(["--no-consul", "--workers", &url]),
        }
        let daemon = Daemon::start(&options, &variables).await?;
        let begun = Instant::now();
        loop {
            let workers = daemon.get("/v1/workers").await?.to_string();
            if workers.contains(r#""healthy":true"#) {
                return Ok(daemon);
            }
            ensure!(begun.elapsed() < READY, "the daemon has found no worker: {workers}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// On PATH, or where `.ci/install` unpacks it.
fn find_consul() -> Option<PathBuf> {
    let unpacked = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
        .join("tools/consul/usr/bin/consul");
    agent::on_path("consul").or_else(|| unpacked.is_file().then_some(unpacked))
}
