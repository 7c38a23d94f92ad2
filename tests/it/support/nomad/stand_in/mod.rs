//! A stand-in for Nomad: speaks its HTTP protocol as version 1.1.0 does, with its bad manners, and
//! really runs what is dispatched.
//!
//! ```text
//!   server -> routes -> job_routes, dispatch      a write: tables, one index, events
//!                       alloc_routes, agent_routes a read, which may wait
//!                       stream                     broker
//!                       logs, files                a node's folders
//!   scheduler: evaluations -> allocations          node: allocations -> run -> task -> process
//! ```
//!
//! It lives on threads of its own, so that it outlives the test that began it. What is recorded
//! of the real one is in `tests/data/nomad-1.1.0`; `nomad_contract` holds the stand-in to it.
//!
//! It is not: a reader of HCL in general, a scheduler with rescheduling, updates in steps,
//! constraints or devices, a cluster with several servers, a keeper of ACLs.

mod agent_routes;
mod alloc_routes;
mod artifact;
mod broker;
mod cluster;
mod dispatch;
mod environment;
mod exchange;
mod files;
mod hcl;
mod job_file;
mod job_routes;
mod job_shape;
mod logs;
mod node;
mod process;
mod recorded;
mod records;
mod rotation;
mod routes;
mod run;
mod scheduler;
mod server;
mod stamps;
mod stream;
mod tables;
mod task;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::cluster::Streams;
use self::{
    cluster::{Cluster, Switches},
    node::Node,
    routes::Site,
    server::Connections,
};
use super::Options;

/// How often the server looks for nodes that are silent.
const WATCH: Duration = Duration::from_millis(100);

/// How long what runs may take to be gone when the stand-in ends.
const END: Duration = Duration::from_secs(10);

/// Nomad's `gc_max_allocs`.
const KEPT_ALLOCATIONS: usize = 50;

/// A whole cluster on ports of its own. Ended, with all that it runs, when dropped.
#[derive(Debug)]
pub(crate) struct StandIn {
    cluster: Arc<Cluster>,
    server: Mutex<Option<Agent>>,
    /// The agents of nodes that have one of their own.
    agents: Vec<Mutex<Option<Agent>>>,
    connections: Arc<Connections>,
    /// Whether the only node shares the server's agent.
    together: bool,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

/// A process of Nomad, as far as it can be killed.
#[derive(Debug)]
struct Agent {
    tasks: JoinSet<()>,
    work: TaskTracker,
    end: CancellationToken,
}

impl StandIn {
    /// Starts one.
    pub(super) fn start(options: &Options) -> StandIn {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("stand-in for Nomad")
            .enable_all()
            .build()
            .unwrap();
        let nodes: Vec<_> = (0..options.nodes)
            .map(|number| {
                let name = format!("node{number}");
                Node::new(name.clone(), dir.path().join(name))
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cluster = Cluster::new(
            nodes,
            Switches::new(KEPT_ALLOCATIONS),
            address.clone(),
            options.heartbeat,
            options.stream_heartbeat,
        );
        let stand_in = StandIn {
            connections: Connections::new(options.connection_limit),
            agents: cluster.nodes.iter().map(|_| Mutex::default()).collect(),
            cluster,
            together: options.is_together(),
            server: Mutex::default(),
            runtime: Some(runtime),
            _dir: dir,
        };
        if stand_in.together {
            set(&stand_in.cluster.nodes[0].http, address);
        }
        stand_in.start_server(listener);
        if !stand_in.together {
            for number in 0..stand_in.cluster.nodes.len() {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap().to_string();
                set(&stand_in.cluster.nodes[number].http, address);
                stand_in.start_node(number, listener);
            }
        }
        stand_in
    }

    fn agent(&self, listener: TcpListener, node: Option<Arc<Node>>) -> Agent {
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        let _inside = runtime.enter();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (work, end) = (TaskTracker::new(), CancellationToken::new());
        let connections = match node {
            None => self.connections.clone(),
            Some(_) => Connections::new(usize::MAX),
        };
        let site =
            Site { cluster: self.cluster.clone(), node, work: work.clone(), end: end.clone() };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(server::serve(listener, site, connections), runtime.handle());
        Agent { tasks, work, end }
    }

    fn start_server(&self, listener: TcpListener) {
        let mut agent = self.agent(listener, None);
        let handle = self.runtime.as_ref().expect("it is there until the end").handle();
        self.cluster.hear_all();
        self.cluster.server_up.store(true, Ordering::SeqCst);
        agent.tasks.spawn_on(scheduler::run(self.cluster.clone()), handle);
        let cluster = self.cluster.clone();
        let watch = async move {
            loop {
                tokio::time::sleep(WATCH).await;
                cluster.miss_silent_nodes();
            }
        };
        agent.tasks.spawn_on(watch, handle);
        if let Some(only) = self.shared_node() {
            only.up.store(true, Ordering::SeqCst);
            agent.tasks.spawn_on(only.clone().live(self.cluster.clone()), handle);
        }
        set(&self.server, Some(agent));
        self.cluster.nudge();
    }

    fn start_node(&self, number: usize, listener: TcpListener) {
        let node = &self.cluster.nodes[number];
        let mut agent = self.agent(listener, Some(node.clone()));
        let handle = self.runtime.as_ref().expect("it is there until the end").handle();
        node.up.store(true, Ordering::SeqCst);
        agent.tasks.spawn_on(node.clone().live(self.cluster.clone()), handle);
        set(&self.agents[number], Some(agent));
    }

    /// `HOST:PORT` of the server.
    pub(super) fn address(&self) -> &str {
        &self.cluster.address
    }

    /// Kills the server's agent, as with SIGKILL: connections break, events are forgotten, what
    /// was written stays, and tasks run on.
    pub(super) async fn kill(&self) {
        self.cluster.server_up.store(false, Ordering::SeqCst);
        if let Some(only) = self.shared_node() {
            only.up.store(false, Ordering::SeqCst);
        }
        end(&self.server).await;
        self.cluster.broker.forget();
    }

    /// The node that shares the server's agent.
    fn shared_node(&self) -> Option<&Arc<Node>> {
        self.together.then(|| &self.cluster.nodes[0])
    }

    /// Starts the server's agent again, on the same port.
    pub(super) async fn restart(&self) {
        if let Some(only) = self.shared_node() {
            only.give_up().await;
        }
        self.start_server(TcpListener::bind(&self.cluster.address).unwrap());
    }

    /// Kills the agent of a node of its own; its tasks run on. The server gives it up when it
    /// was silent too long.
    pub(super) async fn kill_node(&self, number: usize) {
        self.cluster.nodes[number].up.store(false, Ordering::SeqCst);
        end(&self.agents[number]).await;
    }

    /// Starts the agent of a node again, on the same port.
    pub(super) fn restart_node(&self, number: usize) {
        let http = self.cluster.nodes[number].http.lock();
        let address = http.unwrap_or_else(PoisonError::into_inner).clone();
        self.start_node(number, TcpListener::bind(address).unwrap());
    }

    /// The machine of a node dies: its agent and all that it runs. The server learns it at once.
    pub(crate) async fn lose_node(&self, number: usize) {
        self.kill_node(number).await;
        let node = &self.cluster.nodes[number];
        node.stop_all();
        let record = self.cluster.read(|tables| tables.nodes.get(&node.id).cloned());
        if let Some(mut record) = record.filter(|record| record.ready) {
            record.ready = false;
            scheduler::node_down(&self.cluster, record);
        }
    }

    /// Whether there is room for anything more; there is at first. Without, evaluations are
    /// blocked, and go on when there is room again.
    pub(crate) fn set_room(&self, room: bool) {
        self.cluster.switches.room.store(room, Ordering::SeqCst);
        if room {
            scheduler::unblock(&self.cluster);
        }
    }

    /// Whether the cluster has a leader; it has at first.
    pub(crate) fn set_leader(&self, leader: bool) {
        self.cluster.switches.leader.store(leader, Ordering::SeqCst);
        self.cluster.nudge();
    }

    /// The version that it says it is of, 1.1.0 at first; since 1.1.3 idempotency tokens count.
    pub(crate) fn set_version(&self, version: &str) {
        self.cluster.switches.set_version(version);
    }

    /// The next dispatch makes a child and fails before it makes an evaluation.
    pub(crate) fn lose_next_evaluation(&self) {
        self.cluster.switches.loses_next_evaluation.store(true, Ordering::SeqCst);
    }

    /// How many allocations a node keeps before it deletes the folders of old ones; 50 at first.
    /// With none it does as a real one of which the disk is fuller than 80 %.
    pub(crate) fn keep_allocations(&self, kept: usize) {
        self.cluster.switches.kept_allocations.store(kept, Ordering::SeqCst);
    }

    /// How many connections the server takes; over that they are reset.
    pub(crate) fn set_connection_limit(&self, limit: usize) {
        self.connections.set_limit(limit);
    }

    /// How many connections the server has, those included of which only a query is left.
    pub(crate) fn connections(&self) -> usize {
        self.connections.open()
    }

    /// What becomes of streams of events that are asked for from now on; they go on at first.
    pub(crate) fn set_streams(&self, streams: Streams) {
        self.cluster.switches.set_streams(streams);
    }

    /// What the server was asked so far, in order: `METHOD /path`, and the index behind it for a
    /// stream of events.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.cluster.switches.asked()
    }

    /// Drops every stream of events, as those of readers that are too slow.
    pub(crate) fn drop_streams(&self) {
        self.cluster.broker.drop_all();
    }
}

fn set<T>(place: &Mutex<T>, value: T) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

async fn end(place: &Mutex<Option<Agent>>) {
    let agent = place.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut agent) = agent {
        agent.end.cancel();
        agent.tasks.shutdown().await;
        agent.work.close();
        agent.work.wait().await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let cluster = self.cluster.clone();
        let agents: Vec<_> = std::iter::once(&self.server)
            .chain(&self.agents)
            .filter_map(|place| place.lock().unwrap_or_else(PoisonError::into_inner).take())
            .collect();
        let runtime = self.runtime.take().expect("it is there until the end");
        // On a thread of its own, since a test's may not block on a runtime.
        let ended = std::thread::spawn(move || {
            drop(agents);
            for node in &cluster.nodes {
                node.stop_all();
            }
            cluster.running.close();
            let over = async { tokio::time::timeout(END, cluster.running.wait()).await.is_ok() };
            let over = runtime.block_on(over);
            runtime.shutdown_timeout(Duration::from_secs(1));
            over
        })
        .join();
        if !std::thread::panicking() {
            assert!(matches!(ended, Ok(true)), "something that the stand-in ran did not end");
        }
    }
}
