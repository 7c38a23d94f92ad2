//! Real agents of Nomad, each a process with ports and folders of its own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::Options;
use crate::support::ports;

/// How long an agent may take to stop its tasks and end.
const STOP: Duration = Duration::from_secs(15);

/// One agent with its node, or a server and its nodes. Stopped, with their tasks, when dropped.
#[derive(Debug)]
pub(super) struct RealNomad {
    /// The server first.
    agents: Vec<Agent>,
    /// Whether it forgets all when it ends, and stops its tasks then.
    in_memory: bool,
    dir: TempDir,
}

#[derive(Debug)]
struct Agent {
    program: PathBuf,
    args: Vec<String>,
    ports: [u16; 3],
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl RealNomad {
    /// A single agent in dev mode: starts fastest, and keeps nothing.
    pub(super) fn in_memory(program: &Path) -> RealNomad {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["alloc", "state"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut agent = Agent::new(program, dir.path(), "agent", "");
        let more = ["-dev", "-alloc-dir", &path("alloc"), "-state-dir", &path("state")];
        agent.args.extend(more.map(str::to_owned));
        agent.start();
        RealNomad { agents: vec![agent], in_memory: true, dir }
    }

    /// Agents that find on their disks what they were told before they were killed.
    pub(super) fn on_disk(program: &Path, options: &Options) -> RealNomad {
        let dir = tempfile::tempdir().unwrap();
        let server = format!(
            "server {{\n enabled = true\n bootstrap_expect = 1\n raft_multiplier = 1\n \
             min_heartbeat_ttl = \"1s\"\n heartbeat_grace = \"{}s\"\n}}\n\
             limits {{\n http_max_conns_per_client = {}\n}}\n",
            options.heartbeat.as_secs().max(1),
            options.connection_limit
        );
        let acls = if options.acls { "acl {\n enabled = true\n}\n" } else { "" };
        let consul = options.consul.as_ref();
        let consul = consul.map(|address| format!("consul {{\n address = \"{address}\"\n}}\n"));
        let server = server + acls + &consul.unwrap_or_default();
        let client = |servers: &str| format!("client {{\n enabled = true\n{CLIENT}{servers}}}\n");
        let mut agents = Vec::new();
        if options.is_together() {
            agents.push(Agent::new(program, dir.path(), "node0", &(server + &client(""))));
        } else {
            agents.push(Agent::new(program, dir.path(), "server", &server));
            let servers = format!(" servers = [\"127.0.0.1:{}\"]\n", agents[0].ports[1]);
            for number in 0..options.nodes {
                let name = format!("node{number}");
                agents.push(Agent::new(program, dir.path(), &name, &client(&servers)));
            }
        }
        for (agent, name) in agents.iter_mut().zip(0..) {
            let data = dir.path().join(format!("data{name}"));
            agent.args.extend(["-data-dir".to_owned(), data.display().to_string()]);
            agent.start();
        }
        RealNomad { agents, in_memory: false, dir }
    }

    /// `HOST:PORT` of the server.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.agents[0].ports[0])
    }

    /// Kills an agent with SIGKILL.
    pub(super) fn kill(&self, agent: usize) {
        assert!(!self.in_memory, "an agent in dev mode keeps nothing");
        self.agents[agent].kill();
    }

    /// Starts an agent that was killed.
    pub(super) fn start(&self, agent: usize) {
        self.agents[agent].start();
    }

    /// Whether one that was started is no more, of itself.
    pub(super) fn has_ended(&self) -> bool {
        self.agents.iter().any(Agent::has_ended)
    }

    pub(super) fn log(&self) -> String {
        let logs = self.agents.iter().map(|agent| std::fs::read_to_string(&agent.log));
        logs.map(Result::unwrap_or_default).collect::<Vec<_>>().join("\n")
    }
}

/// Of every node: it asks no cloud what it is, and deletes no logs because the disk of whoever
/// runs the tests is rather full, as with its default of 80 %.
const CLIENT: &str = " gc_disk_usage_threshold = 99.0\n gc_inode_usage_threshold = 99.0\n \
    options = {\n  \"fingerprint.denylist\" = \"env_aws,env_gce,env_azure\"\n }\n";

impl Agent {
    fn new(program: &Path, dir: &Path, name: &str, config: &str) -> Agent {
        let ports = ports::free::<3>();
        let config = format!(
            "name = \"{name}\"\ndisable_update_check = true\nbind_addr = \"127.0.0.1\"\n\
             advertise {{\n http = \"127.0.0.1\"\n rpc = \"127.0.0.1\"\n serf = \"127.0.0.1\"\n}}\n\
             ports {{\n http = {}\n rpc = {}\n serf = {}\n}}\n\
             plugin \"raw_exec\" {{\n config {{\n enabled = true\n }}\n}}\n{}",
            ports[0],
            ports[1],
            ports[2],
            if config.is_empty() { format!("client {{\n{CLIENT}}}\n") } else { config.to_owned() }
        );
        let file = dir.join(format!("{name}.hcl"));
        std::fs::write(&file, config).unwrap();
        let args = vec!["agent".to_owned(), "-config".to_owned(), file.display().to_string()];
        let log = dir.join(format!("{name}.log"));
        Agent { program: program.to_owned(), args, ports, log, child: Mutex::default() }
    }

    fn start(&self) {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let child = Command::new(&self.program)
            .args(&self.args)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    fn has_ended(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// In dev mode it stops its tasks and removes their folders on this signal.
    fn stop(&self) {
        let mut held = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(child) = held.as_mut() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = kill(pid, Signal::SIGINT);
        let begun = Instant::now();
        while begun.elapsed() < STOP {
            if matches!(child.try_wait(), Ok(Some(_))) {
                *held = None;
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for RealNomad {
    fn drop(&mut self) {
        for agent in &self.agents {
            if self.in_memory {
                agent.stop();
            }
            agent.kill();
        }
        kill_all_in(self.dir.path());
        unmount_all_in(self.dir.path());
    }
}

/// Kills what agents left running, and they leave something when they are killed: whatever names this folder in its arguments
/// or environment, works in it, or has a file open there.
fn kill_all_in(folder: &Path) {
    let name = folder.display().to_string();
    // Twice, since an executor may start one more meanwhile.
    for _ in 0..2 {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let process = entry.path();
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.filter(|pid| *pid != std::process::id() as i32) else { continue };
            let says = |file: &str| {
                let text = std::fs::read(process.join(file)).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(&name)
            };
            let links = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            let mut links = links.map(|entry| entry.path()).chain([process.join("cwd")]);
            if says("cmdline")
                || says("environ")
                || links.any(|link| link.read_link().is_ok_and(|path| path.starts_with(folder)))
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The folders of secrets are file systems of their own.
fn unmount_all_in(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        if Path::new(path).starts_with(folder) {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}
