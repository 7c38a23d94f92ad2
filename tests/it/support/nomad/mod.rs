//! A Nomad for tests: a real one where there is a `nomad` on PATH, else a stand-in.
//!
//! `BRAINDRILL_TEST_NOMAD=stand-in` takes the stand-in in any case. Which one it was stands at
//! the end of `make test`.

mod choice;
mod real;
mod stand_in;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use braindrill::nomad::{self, Client, ClientSettings, Servers};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::real::RealNomad;
pub(crate) use self::stand_in::{StandIn, Streams};
use super::skip;

/// How long a Nomad may take to have nodes that are ready: a real one 5 s on a free machine.
const READY: Duration = Duration::from_secs(60);

static SHARED: Mutex<Weak<Nomad>> = Mutex::new(Weak::new());

/// What a Nomad of one's own is like.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How many nodes. The only one shares the server's agent, and so its address; several have
    /// agents of their own, and the server has no node.
    pub(crate) nodes: usize,
    /// Whether the only node has an agent of its own too.
    ///
    /// When an agent that is server and node was killed and starts again, Nomad 1.1.0 asks itself
    /// too early what it is to run, learns that it is nothing, ends its tasks, and then runs them
    /// again, in the same allocations.
    pub(crate) apart: bool,
    /// How many connections the server takes from one address.
    pub(crate) connection_limit: usize,
    /// How long a node may be silent before it is given up; a real Nomad takes some seconds more.
    pub(crate) heartbeat: Duration,
    /// How often a stream of events says `{}`; a real Nomad knows only 30 s.
    pub(crate) stream_heartbeat: Duration,
    /// `HOST:PORT` of the Consul that a real one registers with; the stand-in knows none.
    pub(crate) consul: Option<String>,
    /// Whether a real one asks for tokens; see [`Nomad::with_acls`].
    pub(crate) acls: bool,
}

impl Options {
    fn is_together(&self) -> bool {
        self.nodes == 1 && !self.apart
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            nodes: 1,
            apart: false,
            connection_limit: 100,
            heartbeat: Duration::from_secs(2),
            stream_heartbeat: Duration::from_secs(30),
            consul: None,
            acls: false,
        }
    }
}

/// A Nomad on ports of its own. Ended, with its tasks, when dropped.
#[derive(Debug)]
pub(crate) struct Nomad(Kind);

#[derive(Debug)]
enum Kind {
    Real(RealNomad),
    StandIn(StandIn),
}

/// A node of a cluster, as its agent is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `http://HOST:PORT`; the server's where they share an agent.
    pub(crate) address: String,
}

/// When a task of a child ran, as its node reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskTime {
    pub(crate) job_id: String,
    pub(crate) allocation_id: String,
    pub(crate) started: OffsetDateTime,
    /// None while it runs.
    pub(crate) finished: Option<OffsetDateTime>,
}

impl Nomad {
    /// One that the tests running now share; ends with the last of them. Its only node shares the
    /// server's agent. It is not to be killed.
    pub(crate) async fn shared() -> Arc<Nomad> {
        let (nomad, fresh) = {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            match shared.upgrade() {
                Some(nomad) => (nomad, false),
                None => {
                    let nomad = Arc::new(match choice::real_one() {
                        Some(program) => Nomad(Kind::Real(RealNomad::in_memory(&program))),
                        None => Nomad::begin_stand_in(&Options::default()),
                    });
                    *shared = Arc::downgrade(&nomad);
                    (nomad, true)
                }
            }
        };
        tracing::debug!(fresh, address = nomad.address(), "a Nomad for a test");
        nomad.ready(1).await;
        nomad
    }

    /// One for this test alone, which may kill it.
    pub(crate) async fn own(options: Options) -> Nomad {
        match choice::real_one() {
            Some(program) => Nomad::real(&program, &options).await,
            None => Nomad::stand_in(options).await,
        }
    }

    /// A real one that asks for tokens, and the token of whoever manages it. Without one the test skips
    /// itself.
    pub(crate) async fn with_acls() -> Option<(Nomad, String)> {
        let Some(program) = choice::real_one() else {
            skip("the ACLs of Nomad take a real one");
            return None;
        };
        let options = Options { acls: true, ..Options::default() };
        let nomad = Nomad(Kind::Real(RealNomad::on_disk(&program, &options)));
        let (begun, http) = (Instant::now(), reqwest::Client::new());
        let management = loop {
            let made = http.post(format!("{}/v1/acl/bootstrap", nomad.address())).send().await;
            if let Ok(made) = made.and_then(reqwest::Response::error_for_status) {
                break made.json::<Value>().await.unwrap()["SecretID"].as_str().unwrap().to_owned();
            }
            assert!(begun.elapsed() < READY, "Nomad has no leader:\n{}", nomad.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let token = Some(management.clone());
        let settings = ClientSettings { token, ..ClientSettings::default() };
        nomad.ready_for(&Client::new(&settings, nomad.servers()).unwrap(), 1).await;
        Some((nomad, management))
    }

    /// The stand-in, whatever is on PATH.
    pub(crate) async fn stand_in(options: Options) -> Nomad {
        let nomad = Nomad::begin_stand_in(&options);
        nomad.ready(options.nodes).await;
        nomad
    }

    fn begin_stand_in(options: &Options) -> Nomad {
        Nomad(Kind::StandIn(StandIn::start(options)))
    }

    async fn real(program: &std::path::Path, options: &Options) -> Nomad {
        let nomad = Nomad(Kind::Real(RealNomad::on_disk(program, options)));
        nomad.ready(options.nodes).await;
        nomad
    }

    /// Waits until code can be placed on so many nodes.
    async fn ready(&self, nodes: usize) {
        self.ready_for(&self.client(), nodes).await;
    }

    async fn ready_for(&self, client: &Client, nodes: usize) {
        let begun = Instant::now();
        loop {
            let ready = client
                .nodes()
                .await
                .map(|all| all.iter().filter(|node| node.takes("raw_exec")).count());
            if ready.is_ok_and(|ready| ready >= nodes) {
                return;
            }
            let ended = matches!(&self.0, Kind::Real(real) if real.has_ended());
            assert!(!ended && begun.elapsed() < READY, "Nomad is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        match &self.0 {
            Kind::Real(real) => real.log(),
            Kind::StandIn(_) => "the stand-in keeps no log".to_owned(),
        }
    }

    /// The server, as `http://HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.host_and_port())
    }

    /// Where the server listens.
    pub(crate) fn host_and_port(&self) -> String {
        match &self.0 {
            Kind::Real(real) => real.address(),
            Kind::StandIn(stand_in) => stand_in.address().to_owned(),
        }
    }

    /// How it is reached.
    pub(crate) fn servers(&self) -> Servers {
        Servers::fixed(nomad::addresses(&self.address()).unwrap())
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&ClientSettings::default(), self.servers()).unwrap()
    }

    /// The stand-in, with its switches, if it is one.
    pub(crate) fn as_stand_in(&self) -> Option<&StandIn> {
        match &self.0 {
            Kind::Real(_) => None,
            Kind::StandIn(stand_in) => Some(stand_in),
        }
    }

    /// What it answers to a GET, when that is JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.address());
        let answer = reqwest::get(&url).await.unwrap().error_for_status().unwrap();
        answer.json().await.unwrap()
    }

    /// Its nodes, in the order in which [`Nomad::kill_node`] counts them.
    pub(crate) async fn nodes(&self) -> Vec<NodeAddress> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut nodes = Vec::new();
        for node in self.get("/v1/nodes").await.as_array().unwrap() {
            let id = text(&node["ID"]);
            let detail = self.get(&format!("/v1/node/{id}")).await;
            let address = format!("http://{}", text(&detail["HTTPAddr"]));
            nodes.push(NodeAddress { id, name: text(&node["Name"]), address });
        }
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        nodes
    }

    /// Kills the server's agent with SIGKILL, and with it that of a node that shares it. What it
    /// was told is kept, and tasks run on.
    pub(crate) async fn kill(&self) {
        match &self.0 {
            Kind::Real(real) => real.kill(0),
            Kind::StandIn(stand_in) => stand_in.kill().await,
        }
    }

    /// Starts the server's agent again, on the same ports, and waits until it answers.
    pub(crate) async fn restart(&self) {
        match &self.0 {
            Kind::Real(real) => real.start(0),
            Kind::StandIn(stand_in) => stand_in.restart().await,
        }
        self.ready(1).await;
    }

    /// Kills the agent of a node of its own with SIGKILL; its tasks run on.
    pub(crate) async fn kill_node(&self, number: usize) {
        match &self.0 {
            Kind::Real(real) => real.kill(number + 1),
            Kind::StandIn(stand_in) => stand_in.kill_node(number).await,
        }
    }

    /// Starts the agent of a node again, on the same ports.
    pub(crate) async fn restart_node(&self, number: usize) {
        match &self.0 {
            Kind::Real(real) => real.start(number + 1),
            Kind::StandIn(stand_in) => stand_in.restart_node(number),
        }
    }

    /// When the tasks ran of all jobs whose ids begin so, those included that were purged.
    pub(crate) async fn task_times(&self, prefix: &str) -> Vec<TaskTime> {
        let time = |value: &Value| OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok();
        let mut times = Vec::new();
        for allocation in self.get("/v1/allocations").await.as_array().unwrap() {
            let job_id = allocation["JobID"].as_str().unwrap();
            let tasks = allocation["TaskStates"].as_object().into_iter().flatten();
            for (_, task) in tasks.filter(|_| job_id.starts_with(prefix)) {
                let Some(started) = time(&task["StartedAt"]) else { continue };
                times.push(TaskTime {
                    job_id: job_id.to_owned(),
                    allocation_id: allocation["ID"].as_str().unwrap().to_owned(),
                    started,
                    finished: time(&task["FinishedAt"]),
                });
            }
        }
        times
    }
}

/// How many of them ran at once, at the most.
pub(crate) fn most_at_once(times: &[TaskTime]) -> usize {
    let runs = |now: OffsetDateTime| {
        times
            .iter()
            .filter(|each| each.started <= now && each.finished.is_none_or(|end| end > now))
            .count()
    };
    times.iter().map(|each| runs(each.started)).max().unwrap_or(0)
}
