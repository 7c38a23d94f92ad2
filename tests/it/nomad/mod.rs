//! The nomad backend against a Nomad, real or stood in for, with scripts in place of the runner.

mod client;
mod early;
mod jobs;
mod large;
mod real_runner;
mod recovery;
mod results;
mod trouble;
mod watching;

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use braindrill::{
    backend::{
        Backend as _, Execution, StartError, Update,
        nomad::{JobFile, JobSettings, MAX_PAYLOAD_BYTES, NomadBackend, NomadSettings},
    },
    nomad::{self, ClientSettings, Servers},
    protocol::{
        Event, EventKind, ExecutionRequest, ExecutionResult, MAX_CHUNK_BYTES, Turns, VERSION,
        lines, payload,
    },
    submission::{Blob, Limits, Placement, Report, SubmissionId, SystemClock, Verdict},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{
    nomad::{Nomad, Options, StandIn, Streams},
    proxy::{Proxy, Way},
};

/// How long anything may take here; the longest is two dispatches on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A Nomad, and a runner made of shell lines, registered under a job of its own.
struct Stage {
    agent: Arc<Nomad>,
    dir: TempDir,
    settings: NomadSettings,
    stopping: CancellationToken,
    backend: NomadBackend,
}

impl Stage {
    /// In the script, `$DIR` is a folder that it shares with the test.
    async fn new(script: &str) -> Option<Stage> {
        Stage::with(script, |_| {}).await
    }

    async fn with(script: &str, change: impl FnOnce(&mut JobSettings)) -> Option<Stage> {
        Some(Stage::on(Nomad::shared().await, script, change).await)
    }

    /// With the stand-in, for its switches.
    async fn stand_in(script: &str) -> Stage {
        let agent = Nomad::stand_in(Options::default()).await;
        Stage::on(Arc::new(agent), script, |_| {}).await
    }

    async fn on(agent: Arc<Nomad>, script: &str, change: impl FnOnce(&mut JobSettings)) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let runner_path = dir.path().join("runner.sh");
        let text = format!("#!/bin/sh\nDIR={}\n{script}\n", dir.path().display());
        std::fs::write(&runner_path, text).unwrap();
        std::fs::set_permissions(&runner_path, PermissionsExt::from_mode(0o755)).unwrap();
        let mut job = JobSettings::own(&format!("{:08x}", rand_u32()), runner_path);
        change(&mut job);
        let nodes = tokio::sync::watch::Sender::default().subscribe();
        let settings = NomadSettings {
            servers: agent.servers(),
            client: ClientSettings::default(),
            nodes,
            job: tokio::sync::watch::channel(job).1,
            capacity: 4,
        };
        let stopping = CancellationToken::new();
        let backend = NomadBackend::connect(settings.clone(), stopping.clone()).await.unwrap();
        Stage { agent, dir, settings, stopping, backend }
    }

    fn switches(&self) -> &StandIn {
        self.agent.as_stand_in().unwrap()
    }

    fn job(&self) -> JobSettings {
        self.settings.job.borrow().clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the script find these events as lines in a file.
    fn lay_out(&self, name: &str, events: &[Event]) {
        let lines: Vec<u8> = events.iter().flat_map(lines::encode).collect();
        std::fs::write(self.path(name), lines).unwrap();
    }

    /// A backend like that of a daemon that was started again.
    async fn successor(&self) -> NomadBackend {
        NomadBackend::connect(self.settings.clone(), CancellationToken::new()).await.unwrap()
    }

    /// A backend that reaches Nomad by a way that can fail.
    async fn behind_a_proxy(&self) -> (Proxy, NomadBackend) {
        let proxy = Proxy::to(self.agent.host_and_port()).await;
        let mut settings = self.settings.clone();
        settings.servers = servers(&proxy.address());
        let backend = NomadBackend::connect(settings, CancellationToken::new()).await.unwrap();
        (proxy, backend)
    }

    async fn is_gone(&self, placement: &Placement) -> bool {
        let (job_id, client) = (job_id(placement), self.agent.client());
        let allocations = client.allocations(&job_id, None).await.unwrap().value;
        client.job(&job_id).await.unwrap().is_none()
            && allocations.iter().all(|allocation| allocation.is_over())
    }
}

#[allow(clippy::disallowed_methods, reason = "a name that no other test has")]
fn rand_u32() -> u32 {
    uuid::Uuid::now_v7().as_u128() as u32
}

fn servers(address: &str) -> Servers {
    Servers::fixed(nomad::addresses(address).unwrap())
}

fn job_id(placement: &Placement) -> String {
    let Placement::Nomad { job_id, .. } = placement else { panic!("{placement:?}") };
    job_id.clone()
}

fn request(source: &str) -> Arc<ExecutionRequest> {
    use braindrill::submission::Clock as _;
    let json = serde_json::json!({
        "v": VERSION,
        "submission": SubmissionId::new(SystemClock.now()),
        "attempt": 1,
        "request": {
            "language": "bash",
            "source": source,
            "entrypoint": "main.sh",
            "limits": Limits::DEFAULT,
            "priority": 50,
        },
        "language": {
            "id": "bash",
            "name": "Bash",
            "extension": "sh",
            "source_file": "main.sh",
            "tools": BTreeMap::from([("bash", ["/bin/bash"])]),
            "version": { "command": ["{tool:bash}", "--version"] },
            "run": { "command": ["{tool:bash}", "{entrypoint}"] },
        },
    });
    Arc::new(serde_json::from_value(json).unwrap())
}

/// `started`, this output in chunks, `finished`.
fn events(output: &[u8]) -> Vec<Event> {
    let report = Report {
        verdict: Verdict::Accepted,
        reason: "exited with code 0".to_owned(),
        compile: None,
        runs: Vec::new(),
        points: 0.0,
        files: Vec::new(),
    };
    let chunks = output.chunks(MAX_CHUNK_BYTES).map(|chunk| EventKind::Stdout {
        run: 0,
        data: Blob::from(chunk.to_vec()),
        turns: Turns::default(),
    });
    std::iter::once(EventKind::Started)
        .chain(chunks)
        .chain([EventKind::Finished { result: ExecutionResult::Report(report) }])
        .enumerate()
        .map(|(seq, kind)| Event { v: VERSION, seq: seq as u64, kind })
        .collect()
}

/// All updates until their end.
async fn collect(execution: &mut Execution) -> Vec<Update> {
    let mut updates = Vec::new();
    let all = async {
        while let Some(update) = execution.events.recv().await {
            updates.push(update);
        }
    };
    let ended = tokio::time::timeout(DEADLINE, all).await;
    assert!(ended.is_ok(), "the events do not end: {updates:?}");
    updates
}

fn events_of(updates: &[Update]) -> Vec<Event> {
    let event = |update: &Update| match update {
        Update::Event(event) => Some(event.clone()),
        _ => None,
    };
    updates.iter().filter_map(event).collect()
}

fn lost(updates: &[Update]) -> &str {
    let Some(Update::Lost(reason)) = updates.last() else { panic!("{updates:?}") };
    reason
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_exists(path: &Path) {
    until(&format!("{} exists", path.display()), async || path.exists()).await;
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
