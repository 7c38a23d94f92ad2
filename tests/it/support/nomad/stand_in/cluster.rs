//! All that is left when the agent is killed: what the server wrote down, and what the nodes run.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{
    broker::Broker,
    node::Node,
    records::{Evaluation, NodeRecord},
    tables::{Change, Tables},
};

#[derive(Debug)]
pub(super) struct Cluster {
    tables: Mutex<Tables>,
    changed: watch::Sender<u64>,
    pub(super) broker: Broker,
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) switches: Switches,
    /// The tasks that nodes run; they outlive an agent.
    pub(super) running: TaskTracker,
    /// Whether the server is there, for nodes of their own.
    pub(super) server_up: AtomicBool,
    /// The server's `HOST:PORT`.
    pub(super) address: String,
    /// From one sign of life of a node that is missing to the time when it is given up.
    pub(super) heartbeat_ttl: Duration,
    /// How often a stream of events says `{}`.
    pub(super) stream_heartbeat: Duration,
}

/// What tests turn.
#[derive(Debug)]
pub(super) struct Switches {
    pub(super) room: AtomicBool,
    pub(super) leader: AtomicBool,
    pub(super) loses_next_evaluation: AtomicBool,
    pub(super) kept_allocations: AtomicUsize,
    version: Mutex<String>,
    streams: Mutex<Streams>,
    /// What the server was asked, as `METHOD /path`; the index behind it for a stream of events.
    asked: Mutex<Vec<String>>,
}

/// What becomes of streams of events that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// They go on.
    Open,
    /// They say this, and end.
    Say(&'static str),
    /// They are refused with this status.
    Refused(u16),
}

impl Switches {
    pub(super) fn new(kept_allocations: usize) -> Switches {
        Switches {
            room: AtomicBool::new(true),
            leader: AtomicBool::new(true),
            loses_next_evaluation: AtomicBool::new(false),
            kept_allocations: AtomicUsize::new(kept_allocations),
            version: Mutex::new("1.1.0".to_owned()),
            streams: Mutex::new(Streams::Open),
            asked: Mutex::default(),
        }
    }

    pub(super) fn streams(&self) -> Streams {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_streams(&self, streams: Streams) {
        *self.streams.lock().unwrap_or_else(PoisonError::into_inner) = streams;
    }

    pub(super) fn note_asked(&self, what: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn version(&self) -> String {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_version(&self, version: &str) {
        version.clone_into(&mut self.version.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Since 1.1.3.
    pub(super) fn honours_tokens(&self) -> bool {
        let version = self.version();
        let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
        numbers.as_slice() >= &[1, 1, 3][..]
    }
}

impl Cluster {
    pub(super) fn new(
        nodes: Vec<Arc<Node>>,
        switches: Switches,
        address: String,
        heartbeat_ttl: Duration,
        stream_heartbeat: Duration,
    ) -> Arc<Cluster> {
        Arc::new(Cluster {
            tables: Mutex::default(),
            changed: watch::channel(0).0,
            broker: Broker::new(),
            nodes,
            switches,
            running: TaskTracker::new(),
            server_up: AtomicBool::new(false),
            address,
            heartbeat_ttl,
            stream_heartbeat,
        })
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.tables.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One write, of which the events are of this type.
    pub(super) fn commit<T>(&self, kind: &str, act: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut change = Change::begin(&mut tables);
        let result = act(&mut change);
        let batch = change.end(kind);
        let index = batch.index;
        // Under the lock, so that batches are in the order of their indexes.
        if !batch.events.is_empty() {
            self.broker.publish(batch);
        }
        drop(tables);
        self.changed.send_replace(index);
        result
    }

    /// The next evaluation that the scheduler is to work off.
    pub(super) fn take_pending(&self) -> Option<Evaluation> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let id = tables.pending.pop_front()?;
            let known = tables.evaluations.get(&id).filter(|each| each.status == "pending");
            if let Some(evaluation) = known {
                return Some(evaluation.clone());
            }
        }
    }

    /// Something that is not in the tables changed.
    pub(super) fn nudge(&self) {
        self.changed.send_modify(|_| {});
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A sign of life of a node.
    pub(super) fn hear(&self, node: &Node) {
        let known = {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            let known = tables.nodes.get_mut(&node.id).filter(|record| record.ready);
            known.map(|record| record.heard = Instant::now()).is_some()
        };
        if !known {
            self.commit("NodeRegistration", |change| change.node(self.record(node, change)));
            super::scheduler::unblock(self);
        }
    }

    fn record(&self, node: &Node, change: &Change<'_>) -> NodeRecord {
        let known = change.tables.nodes.get(&node.id);
        NodeRecord {
            id: node.id.clone(),
            name: node.name.clone(),
            http: node.http.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ready: true,
            heard: Instant::now(),
            create_index: known.map_or(0, |known| known.create_index),
            modify_index: 0,
            updated: 0,
        }
    }

    /// All nodes are heard now: a server that comes up gives them time.
    pub(super) fn hear_all(&self) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for record in tables.nodes.values_mut() {
            record.heard = Instant::now();
        }
    }

    /// Gives up nodes that were silent too long.
    pub(super) fn miss_silent_nodes(&self) {
        let silent =
            |record: &&NodeRecord| record.ready && record.heard.elapsed() > self.heartbeat_ttl;
        let lost: Vec<NodeRecord> =
            self.read(|tables| tables.nodes.values().filter(silent).cloned().collect());
        for mut record in lost {
            record.ready = false;
            super::scheduler::node_down(self, record);
        }
    }

    pub(super) fn server_is_up(&self) -> bool {
        self.server_up.load(Ordering::SeqCst)
    }

    /// The node of this id.
    pub(super) fn node(&self, id: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.id == id)
    }
}
