//! The nomad backend against a real Nomad, with scripts in place of the runner.

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
        nomad::{JobSettings, MAX_PAYLOAD_BYTES, NomadBackend, NomadSettings},
    },
    nomad::ClientSettings,
    protocol::{
        Event, EventKind, ExecutionRequest, ExecutionResult, MAX_CHUNK_BYTES, VERSION, lines,
        payload,
    },
    submission::{Blob, Limits, Placement, Report, SubmissionId, SystemClock, Verdict},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::{
    nomad_agent::NomadAgent,
    proxy::{Proxy, Way},
    skip,
};

/// How long anything may take here; the longest is two dispatches on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A Nomad, and a runner made of shell lines, registered under a job of its own.
struct Stage {
    agent: Arc<NomadAgent>,
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
        let Some(agent) = NomadAgent::shared().await else {
            skip("there is no `nomad` on PATH");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let runner_path = dir.path().join("runner.sh");
        let text = format!("#!/bin/sh\nDIR={}\n{script}\n", dir.path().display());
        std::fs::write(&runner_path, text).unwrap();
        std::fs::set_permissions(&runner_path, PermissionsExt::from_mode(0o755)).unwrap();
        let name = JobSettings::name_for(&format!("{:08x}", rand_u32()));
        let mut job = JobSettings { name, runner_path, datacenters: vec!["dc1".to_owned()] };
        change(&mut job);
        let settings = NomadSettings { client: agent.settings(), job, capacity: 4 };
        let stopping = CancellationToken::new();
        let backend = NomadBackend::connect(settings.clone(), stopping.clone()).await.unwrap();
        Some(Stage { agent, dir, settings, stopping, backend })
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
        settings.client.address = proxy.address();
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
    };
    let chunks = output
        .chunks(MAX_CHUNK_BYTES)
        .map(|chunk| EventKind::Stdout { run: 0, data: Blob::from(chunk.to_vec()) });
    std::iter::once(EventKind::Started)
        .chain(chunks)
        .chain([EventKind::Finished { result: ExecutionResult::Report(report) }])
        .enumerate()
        .map(|(seq, kind)| Event { v: VERSION, seq: seq as u64, kind })
        .collect()
}

/// All updates until their end.
async fn collect(execution: &mut Execution) -> Vec<Update> {
    let all = async {
        let mut updates = Vec::new();
        while let Some(update) = execution.events.recv().await {
            updates.push(update);
        }
        updates
    };
    tokio::time::timeout(DEADLINE, all).await.expect("the events end")
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_dispatched_and_its_events_come_back() {
    let script = "cp $NOMAD_TASK_DIR/request $DIR/request; cat $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(b"42\n");
    stage.lay_out("events", &events);
    let request = request("print(6*7)");

    let mut execution = stage.backend.start(request.clone()).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(events_of(&updates), events);
    let sent = std::fs::read(stage.path("request")).unwrap();
    assert_eq!(payload::decode(&sent).unwrap(), *request);
    let Some(Update::Placement(Placement::Nomad { job_id, allocation_id, node_id, .. })) =
        updates.first()
    else {
        panic!("{updates:?}")
    };
    assert_eq!(*job_id, self::job_id(&execution.placement));
    let workers = stage.backend.workers().await.unwrap();
    assert_eq!(node_id.as_ref(), Some(&workers[0].id));
    assert!(workers[0].healthy && allocation_id.is_some());

    // The result is kept until it is released, and that may be done twice.
    assert!(!stage.is_gone(&execution.placement).await);
    for _ in 0..2 {
        stage.backend.release(&execution.placement).await.unwrap();
        assert!(stage.is_gone(&execution.placement).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_output_as_is_ever_kept_comes_back_whole() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    let output: Vec<u8> = (0..16u32 << 20).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let events = events(&output);
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("yes")).await.unwrap();

    // Not assert_eq: a difference would print it all.
    assert!(events_of(&collect(&mut execution).await) == events);
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runners_own_copy_is_read_when_its_log_is_not_whole() {
    let script = "cp $DIR/events $NOMAD_ALLOC_DIR/data/events.jsonl; head -c 300 $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(&[7; 200_000]);
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("yes")).await.unwrap();

    assert_eq!(events_of(&collect(&mut execution).await), events);
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_ends_without_a_result_is_a_lost_attempt() {
    let Some(stage) = Stage::new("head -n 1 $DIR/events; exit 3").await else { return };
    let events = events(b"");
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("exit 3")).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(events_of(&updates), events[..1]);
    assert_eq!(lost(&updates), "its runner ended with exit code 3 without a result");
    assert!(stage.is_gone(&execution.placement).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_runner_is_a_lost_attempt_that_names_no_path() {
    let missing = |job: &mut JobSettings| job.runner_path = "/nonexistent/runner".into();
    let Some(stage) = Stage::with("", missing).await else { return };

    let mut execution = stage.backend.start(request("true")).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(lost(&updates), "its runner could not be started by Nomad (Driver Failure)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_no_node_takes_says_what_it_waits_for_and_can_be_released() {
    let elsewhere = |job: &mut JobSettings| job.datacenters = vec!["elsewhere".to_owned()];
    let Some(stage) = Stage::with("cat $DIR/events", elsewhere).await else { return };

    let mut execution = stage.backend.start(request("true")).await.unwrap();
    let update = tokio::time::timeout(DEADLINE, execution.events.recv()).await.unwrap();

    let Some(Update::Waiting(sentence)) = update else { panic!("{update:?}") };
    assert_eq!(sentence, "Nomad has no node that is ready in the datacenters of its job");
    // A daemon that starts again finds it waiting, whether it had saved the placement or not.
    let successor = stage.successor().await;
    stage.stopping.cancel();
    let placement = execution.placement.clone();
    drop(execution);
    let again = successor.recover(request("true"), Some(placement.clone())).await.unwrap();
    assert_eq!(again.as_ref().map(|execution| &execution.placement), Some(&placement));
    successor.release(&placement).await.unwrap();
    assert!(stage.is_gone(&placement).await);
    let updates = collect(&mut again.unwrap()).await;
    assert_eq!(lost(&updates), "its job was removed from Nomad");
    assert!(successor.recover(request("true"), Some(placement)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_events_stops_the_child() {
    let script = "sleep 1000 & echo $! > $DIR/pid; mv $DIR/pid $DIR/began; wait";
    let Some(stage) = Stage::new(script).await else { return };

    let execution = stage.backend.start(request("sleep 1000")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let pid = std::fs::read_to_string(stage.path("began")).unwrap();
    assert!(is_alive(&pid));
    drop(execution.events);

    until("the child is gone", async || stage.is_gone(&execution.placement).await).await;
    assert!(!is_alive(&pid));
    stage.backend.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releasing_a_running_attempt_returns_when_nothing_of_it_runs() {
    let script = "trap '' INT; sleep 1000 & echo $! > $DIR/pid; mv $DIR/pid $DIR/began; wait; wait";
    let Some(stage) = Stage::new(script).await else { return };

    let mut execution = stage.backend.start(request("sleep 1000")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let pid = std::fs::read_to_string(stage.path("began")).unwrap();
    stage.backend.release(&execution.placement).await.unwrap();

    assert!(!is_alive(&pid));
    assert!(stage.is_gone(&execution.placement).await);
    assert!(!lost(&collect(&mut execution).await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_starts_again_takes_up_what_ran_meanwhile() {
    let script = "head -n 1 $DIR/events; touch $DIR/began; \
                  while [ ! -e $DIR/go ]; do sleep 0.05; done; tail -n +2 $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(b"42\n");
    stage.lay_out("events", &events);
    let request = request("print(6*7)");

    let execution = stage.backend.start(request.clone()).await.unwrap();
    until_exists(&stage.path("began")).await;
    stage.stopping.cancel();
    let placement = execution.placement.clone();
    drop(execution);
    stage.backend.shut_down().await;

    let successor = stage.successor().await;
    let mut by_placement =
        successor.recover(request.clone(), Some(placement.clone())).await.unwrap().unwrap();
    let mut by_meta = successor.recover(request.clone(), None).await.unwrap().unwrap();
    let next_attempt = ExecutionRequest { attempt: 2, ..(*request).clone() };
    assert!(successor.recover(Arc::new(next_attempt), None).await.unwrap().is_none());
    std::fs::write(stage.path("go"), "").unwrap();

    assert_eq!(events_of(&collect(&mut by_placement).await), events);
    assert_eq!(events_of(&collect(&mut by_meta).await), events);
    // Killed before the result was on disk, it reads it once more.
    let mut again = successor.recover(request.clone(), None).await.unwrap().unwrap();
    assert_eq!(events_of(&collect(&mut again).await), events);
    assert_eq!(job_id(&again.placement), job_id(&placement));
    successor.release(&placement).await.unwrap();
    assert!(successor.recover(request, None).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_dispatched_twice_by_accident_is_taken_up_once() {
    let script = "touch $DIR/began.$NOMAD_ALLOC_ID; cat $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let request = request("print(6*7)");
    let mut first = stage.backend.start(request.clone()).await.unwrap();
    let mut second = stage.backend.start(request.clone()).await.unwrap();
    collect(&mut first).await;
    collect(&mut second).await;

    let mut found = stage.backend.recover(request, None).await.unwrap().unwrap();

    assert_eq!(job_id(&found.placement), job_id(&second.placement));
    assert!(stage.is_gone(&first.placement).await);
    assert_eq!(events_of(&collect(&mut found).await), events(b"42\n"));
    stage.backend.release(&found.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_removed_or_changed_is_registered_again() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let client = stage.agent.client();

    client.purge(&stage.settings.job.name).await.unwrap();
    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    stage.backend.release(&execution.placement).await.unwrap();

    let version = async || client.job(&stage.settings.job.name).await.unwrap().unwrap().version;
    let before = version().await;
    stage.successor().await;
    assert_eq!(version().await, before);
    let mut changed = stage.settings.clone();
    changed.job.datacenters.push("dc2".to_owned());
    NomadBackend::connect(changed, CancellationToken::new()).await.unwrap();
    assert_eq!(version().await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_of_which_the_answer_is_lost_is_found_again() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let (proxy, backend) = stage.behind_a_proxy().await;
    let request = request("print(6*7)");

    proxy.set(Way::LosesAnswersToDispatches);
    let error = backend.start(request.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Ambiguous(_)), "{error:?}");

    let mut found = backend.recover(request, None).await.unwrap().unwrap();
    assert_eq!(events_of(&collect(&mut found).await), events(b"42\n"));
    backend.release(&found.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_nomad_cannot_be_reached() {
    let script = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events; \
                  touch $DIR/ended";
    let Some(stage) = Stage::new(script).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let (proxy, backend) = stage.behind_a_proxy().await;
    let mut execution = backend.start(request("print(6*7)")).await.unwrap();
    until_exists(&stage.path("began")).await;

    proxy.set(Way::Cut);
    let refused = backend.start(request("print(6*7)")).await.unwrap_err();
    assert!(!matches!(refused, StartError::Refused(_)), "{refused:?}");
    assert!(backend.release(&execution.placement).await.is_err());
    std::fs::write(stage.path("go"), "").unwrap();
    until_exists(&stage.path("ended")).await;
    proxy.set(Way::Open);

    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    backend.release(&execution.placement).await.unwrap();
}

fn settings_at(address: String) -> NomadSettings {
    NomadSettings {
        client: ClientSettings { address, ..ClientSettings::default() },
        job: JobSettings {
            name: JobSettings::name_for("00000000"),
            runner_path: "/usr/local/bin/braindrill".into(),
            datacenters: vec!["dc1".to_owned()],
        },
        capacity: 1,
    }
}

#[tokio::test]
async fn without_nomad_the_backend_is_there_and_every_attempt_waits() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let backend =
        NomadBackend::connect(settings_at(closed), CancellationToken::new()).await.unwrap();

    let refused = backend.start(request("print(6*7)")).await.unwrap_err();

    assert!(matches!(&refused, StartError::Unavailable(why) if why.contains("be reached")));
    assert!(backend.recover(request("print(6*7)"), None).await.is_err());
    assert!(backend.workers().await.is_err());
}

#[tokio::test]
async fn a_request_that_no_dispatch_can_carry_is_refused() {
    let address = "http://127.0.0.1:1".to_owned();
    let backend =
        NomadBackend::connect(settings_at(address), CancellationToken::new()).await.unwrap();
    let mut digest = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut noise = vec![0; MAX_PAYLOAD_BYTES];
    digest.fill(&mut noise);
    let noise: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();

    let refused = backend.start(request(&noise)).await.unwrap_err();

    assert!(matches!(&refused, StartError::Refused(why) if why.contains("16384")), "{refused}");
}
