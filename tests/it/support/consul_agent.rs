//! A real Consul, in one process, for one test; it can be stopped and started again.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use braindrill::consul::{Client, ClientSettings};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ports, skip};

/// How long an agent may take to have a leader and know itself: 2 s on a free machine.
const READY: Duration = Duration::from_secs(60);

/// A Consul agent in dev mode, on ports of its own. It remembers nothing once it is stopped. Ends
/// when dropped.
#[derive(Debug)]
pub(crate) struct ConsulAgent {
    program: PathBuf,
    dir: TempDir,
    settings: ClientSettings,
    child: Option<Child>,
}

impl ConsulAgent {
    /// An agent that is ready; without one the test skips itself.
    pub(crate) async fn start() -> Option<ConsulAgent> {
        ConsulAgent::start_with(json!({}), |_| {}).await
    }

    /// With more in its configuration, and settings by which it then is reached.
    pub(crate) async fn start_with(
        more: Value,
        change: impl FnOnce(&mut ClientSettings),
    ) -> Option<ConsulAgent> {
        let Some(program) = find() else {
            skip("there is no `consul`: not on PATH, nor where .ci/install test puts it");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let ports = ports::free::<4>();
        // The one port for clients speaks TLS when there is a certificate.
        let (plain, tls) = match more.get("cert_file") {
            None => (i32::from(ports[0]), -1),
            Some(_) => (-1, i32::from(ports[0])),
        };
        let mut config = json!({
            "disable_update_check": true,
            "ports": {
                "http": plain, "https": tls, "server": ports[1], "serf_lan": ports[2],
                "serf_wan": ports[3], "grpc": -1, "dns": -1,
            },
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        std::fs::write(dir.path().join("agent.json"), config.to_string()).unwrap();
        let mut settings = ClientSettings {
            address: format!("127.0.0.1:{}", ports[0]),
            ..ClientSettings::default()
        };
        change(&mut settings);
        let mut agent = ConsulAgent { program, dir, settings, child: None };
        agent.start_again().await;
        Some(agent)
    }

    /// Starts it, on the same ports as before, with nothing of what it knew.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.child.is_none(), "it was stopped");
        let log = std::fs::File::create(self.dir.path().join("agent.log")).unwrap();
        let child = Command::new(&self.program)
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-config-file", "agent.json"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let (client, begun) = (self.client(), Instant::now());
        loop {
            let found = client.healthy_instances("consul", None, None).await;
            if found.is_ok_and(|found| !found.value.is_empty()) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            let waits = ended.is_none() && begun.elapsed() < READY;
            assert!(waits, "Consul is not ready, {ended:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills it, as a machine that fails does, and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Consul's own command, to be run against it.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env("CONSUL_HTTP_ADDR", &self.settings.address);
        command
    }

    /// How it is reached.
    pub(crate) fn settings(&self) -> ClientSettings {
        self.settings.clone()
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.settings).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }
}

impl Drop for ConsulAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// On PATH, or where `.ci/install test` unpacks it.
fn find() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("consul"))
        .chain([target.join("tools/consul/usr/bin/consul")])
        .find(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
        // It is started in another folder.
        .map(|file| std::path::absolute(file).unwrap())
}
