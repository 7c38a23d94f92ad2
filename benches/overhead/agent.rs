//! A Nomad agent of our own, in dev mode, on ports and in folders of its own.

use std::{
    ffi::OsStr,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use braindrill::nomad::{Client, ClientSettings, Servers};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::process;

/// How long an agent may take to have a node that is ready: 5 s on a free machine.
const READY: Duration = Duration::from_secs(60);

/// How long an agent may take to stop its tasks and end.
const STOP: Duration = Duration::from_secs(30);

/// How long the children of a loop may take to be purged after its end.
const SETTLE: Duration = Duration::from_secs(30);

/// A command that knows of no other Nomad or Consul: what the environment says of them may lead to a
/// cluster that others work with.
pub(crate) fn without_nomads_variables(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("NOMAD_") || text.starts_with("CONSUL_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Stopped, with its tasks, when dropped.
pub(crate) struct Agent {
    process: Child,
    address: String,
    folder: TempDir,
}

impl Agent {
    /// Starts the `nomad` on PATH, and waits until it takes jobs. None when there is no `nomad`.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(program) = on_path("nomad") else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        // Held together, so that they differ.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
        let mut ports = Vec::new();
        for listener in held {
            ports.push(listener?.local_addr()?.port());
        }
        let config = folder.path().join("agent.hcl");
        // Without looking for clouds, which takes seconds, or for a Consul, which is somebody's.
        let text = format!(
            r#"
            ports {{
              http = {}
              rpc = {}
              serf = {}
            }}
            plugin "raw_exec" {{
              config {{
                enabled = true
              }}
            }}
            client {{
              options = {{
                "fingerprint.denylist" = "consul,env_aws,env_gce,env_azure"
              }}
            }}
            consul {{
              auto_advertise = false
              server_auto_join = false
              client_auto_join = false
            }}
            "#,
            ports[0], ports[1], ports[2]
        );
        std::fs::write(&config, text)?;
        let (alloc, state) = (folder.path().join("alloc"), folder.path().join("state"));
        std::fs::create_dir(&alloc)?;
        std::fs::create_dir(&state)?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = without_nomads_variables(program)
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-config"])
            .arg(config)
            .arg("-alloc-dir")
            .arg(alloc)
            .arg("-state-dir")
            .arg(state)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .spawn()?;
        let address = format!("http://127.0.0.1:{}", ports[0]);
        let mut agent = Agent { process, address, folder };
        agent.ready().await?;
        Ok(Some(agent))
    }

    /// Waits until code can be placed.
    async fn ready(&mut self) -> Result<()> {
        let client = self.client()?;
        let deadline = Instant::now() + READY;
        loop {
            let nodes = client.nodes().await.unwrap_or_default();
            if nodes.iter().any(|node| node.takes("raw_exec")) {
                return Ok(());
            }
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            if let Some(status) = self.process.try_wait()? {
                bail!("the Nomad agent ended with {status}:\n{}", log()?);
            }
            ensure!(Instant::now() < deadline, "Nomad is not ready after {READY:?}:\n{}", log()?);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Result<Client> {
        let servers = Servers::fixed(vec![self.address.parse()?]);
        Ok(Client::new(&ClientSettings::default(), servers)?)
    }

    /// Its version, as `nomad version` says it.
    pub(crate) fn version() -> Option<String> {
        let output = Command::new(on_path("nomad")?).arg("version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.split_whitespace().nth(1)?.to_owned())
    }

    /// Waits until no dispatched job is left.
    pub(crate) async fn settle(&self) -> Result<()> {
        let client = self.client()?;
        let deadline = Instant::now() + SETTLE;
        loop {
            let jobs = client.jobs("").await.context("listing the jobs")?.value;
            let Some(child) = jobs.iter().find(|job| job.id.contains("/dispatch-")) else {
                return Ok(());
            };
            ensure!(Instant::now() < deadline, "{} is not purged after {SETTLE:?}", child.id);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The processor time that it took with all its executors and tasks so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        process::cpu_time(self.process.id())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).expect("a process id is an i32");
        // In dev mode it stops its tasks and unmounts their folders on this signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first file of this name on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}
