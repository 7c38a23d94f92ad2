//! A real Nomad, in one process, for one test or for several at once.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use braindrill::nomad::{Client, ClientSettings};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// How long an agent may take to have a node that is ready: 5 s on a free machine.
const READY: Duration = Duration::from_secs(60);

/// How long an agent may take to stop its tasks and end.
const STOP: Duration = Duration::from_secs(15);

static SHARED: Mutex<Weak<NomadAgent>> = Mutex::new(Weak::new());

/// A Nomad agent in dev mode, on ports and in folders of its own. Stopped, with its tasks, when
/// dropped.
#[derive(Debug)]
pub(crate) struct NomadAgent {
    child: Child,
    address: String,
    dir: TempDir,
}

impl NomadAgent {
    /// An agent that the tests running now share; ends with the last of them. None when there is
    /// no `nomad` on PATH.
    pub(crate) async fn shared() -> Option<Arc<NomadAgent>> {
        let (agent, fresh) = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            match shared.upgrade() {
                Some(agent) => (agent, false),
                None => {
                    let agent = Arc::new(NomadAgent::spawn()?);
                    *shared = Arc::downgrade(&agent);
                    (agent, true)
                }
            }
        };
        tracing::debug!(fresh, address = agent.address, "a Nomad for a test");
        agent.ready().await;
        Some(agent)
    }

    fn spawn() -> Option<NomadAgent> {
        let program = on_path("nomad")?;
        let dir = tempfile::tempdir().unwrap();
        // Held together, so that they differ; a port that is taken in between fails the test.
        let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = held.iter().map(|each| each.local_addr().unwrap().port()).collect();
        drop(held);
        let config = format!(
            "ports {{\n http = {}\n rpc = {}\n serf = {}\n}}\n\
             plugin \"raw_exec\" {{\n config {{\n enabled = true\n }}\n}}\n\
             client {{\n options = {{\n \"fingerprint.denylist\" = \"env_aws,env_gce,env_azure\"\n }}\n}}\n",
            ports[0], ports[1], ports[2]
        );
        let file = dir.path().join("agent.hcl");
        std::fs::write(&file, config).unwrap();
        for folder in ["alloc", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let log = std::fs::File::create(dir.path().join("agent.log")).unwrap();
        let child = Command::new(program)
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-config"])
            .arg(&file)
            .arg("-alloc-dir")
            .arg(dir.path().join("alloc"))
            .arg("-state-dir")
            .arg(dir.path().join("state"))
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        let address = format!("http://127.0.0.1:{}", ports[0]);
        Some(NomadAgent { child, address, dir })
    }

    /// Waits until code can be placed.
    async fn ready(&self) {
        let client = self.client();
        let begun = Instant::now();
        loop {
            let nodes = client.nodes().await;
            if nodes.is_ok_and(|nodes| nodes.iter().any(|node| node.takes("raw_exec"))) {
                return;
            }
            assert!(begun.elapsed() < READY, "Nomad is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its host and port.
    pub(crate) fn host_and_port(&self) -> String {
        self.address.trim_start_matches("http://").to_owned()
    }

    /// Its URL.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How it is reached.
    pub(crate) fn settings(&self) -> ClientSettings {
        ClientSettings { address: self.address.clone(), ..ClientSettings::default() }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.settings()).unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }
}

impl Drop for NomadAgent {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        // In dev mode it stops its tasks and removes their folders on this signal.
        let _ = kill(pid, Signal::SIGINT);
        let begun = Instant::now();
        while begun.elapsed() < STOP {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}
