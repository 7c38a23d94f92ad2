//! Nomad's answers, as far as they are read here. Go writes null for what is empty, and omits or
//! adds fields between versions: everything but identities may be absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Null is as good as absent.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a dispatch made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dispatched {
    /// The child job.
    #[serde(rename = "DispatchedJobID")]
    pub job_id: String,
    /// Its first evaluation.
    #[serde(rename = "EvalID", default, deserialize_with = "or_default")]
    pub evaluation_id: String,
}

/// A job as it is registered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its meta; in a child, that of the dispatch too.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Whether it was stopped.
    #[serde(default, deserialize_with = "or_default")]
    pub stop: bool,
    /// The raft index of its making; grows with time.
    #[serde(default, deserialize_with = "or_default")]
    pub create_index: u64,
    /// How often it was changed.
    #[serde(default, deserialize_with = "or_default")]
    pub version: u64,
    /// Present in a job that can be dispatched.
    #[serde(default)]
    pub parameterized_job: Option<serde_json::Value>,
}

/// A job in a list. Lists carry no meta.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JobStub {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// `pending`, `running` or `dead`; dead says that it is over, not how.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// Whether it was stopped.
    #[serde(default, deserialize_with = "or_default")]
    pub stop: bool,
    /// The raft index of its making; grows with time.
    #[serde(default, deserialize_with = "or_default")]
    pub create_index: u64,
    /// When it was sent, in nanoseconds since 1970.
    #[serde(default, deserialize_with = "or_default")]
    pub submit_time: u64,
}

impl JobStub {
    /// Whether nothing of it will run any more.
    pub fn is_dead(&self) -> bool {
        self.stop || self.status == "dead"
    }
}

/// A try of the scheduler to place a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Evaluation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// `blocked`, `pending`, `complete`, `failed` or `canceled`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// The evaluation that waits for room, when this one found none.
    #[serde(default, deserialize_with = "or_default")]
    pub blocked_eval: String,
    /// Why each task group could not be placed.
    #[serde(rename = "FailedTGAllocs", default, deserialize_with = "or_default")]
    pub failures: BTreeMap<String, PlacementFailure>,
    /// The raft index of its making.
    #[serde(default, deserialize_with = "or_default")]
    pub create_index: u64,
}

impl Evaluation {
    /// Whether the scheduler is done with it.
    pub fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "complete" | "failed" | "canceled")
    }
}

/// Why a task group could not be placed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PlacementFailure {
    /// Nodes that were looked at.
    #[serde(default, deserialize_with = "or_default")]
    pub nodes_evaluated: u64,
    /// Nodes that may not run it.
    #[serde(default, deserialize_with = "or_default")]
    pub nodes_filtered: u64,
    /// Nodes that have no room.
    #[serde(default, deserialize_with = "or_default")]
    pub nodes_exhausted: u64,
    /// What is short, with the number of nodes where it is.
    #[serde(default, deserialize_with = "or_default")]
    pub dimension_exhausted: BTreeMap<String, u64>,
}

/// A job's allocation on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Allocation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The job that it is of.
    #[serde(rename = "JobID", default, deserialize_with = "or_default")]
    pub job_id: String,
    /// The node that it is on.
    #[serde(rename = "NodeID", default, deserialize_with = "or_default")]
    pub node_id: String,
    /// `pending`, `running`, `complete`, `failed`, `lost` or (since 1.3) `unknown`. A short task
    /// goes from `pending` to its end without `running` being seen.
    #[serde(default, deserialize_with = "or_default")]
    pub client_status: String,
    /// `run`, `stop` or `evict`.
    #[serde(default, deserialize_with = "or_default")]
    pub desired_status: String,
    /// The raft index of its making; a replacement has a higher one.
    #[serde(default, deserialize_with = "or_default")]
    pub create_index: u64,
    /// The raft index of its last change.
    #[serde(default, deserialize_with = "or_default")]
    pub modify_index: u64,
    /// Its tasks, by name, once the node has reported.
    #[serde(default, deserialize_with = "or_default")]
    pub task_states: BTreeMap<String, TaskState>,
}

impl Allocation {
    /// Whether nothing of it runs any more.
    pub fn is_over(&self) -> bool {
        matches!(self.client_status.as_str(), "complete" | "failed" | "lost")
    }
}

/// A task of an allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskState {
    /// `pending`, `running` or `dead`.
    #[serde(default, deserialize_with = "or_default")]
    pub state: String,
    /// Whether it failed.
    #[serde(default, deserialize_with = "or_default")]
    pub failed: bool,
    /// Its last ten events, oldest first.
    #[serde(default, deserialize_with = "or_default")]
    pub events: Vec<TaskEvent>,
}

/// Something that happened to a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskEvent {
    /// `Started`, `Terminated`, `Driver Failure` and so on.
    #[serde(rename = "Type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// For people; may hold paths of the node.
    #[serde(default, deserialize_with = "or_default")]
    pub display_message: String,
    /// Of a `Terminated`.
    #[serde(default, deserialize_with = "or_default")]
    pub exit_code: i64,
    /// Of a `Terminated`; 0 without one.
    #[serde(default, deserialize_with = "or_default")]
    pub signal: i64,
}

/// A node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// `initializing`, `ready` or `down`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// Where its agent answers HTTP, as host and port. Absent from lists.
    #[serde(rename = "HTTPAddr", default, deserialize_with = "or_default")]
    pub http_addr: String,
    /// `eligible` or `ineligible`.
    #[serde(default, deserialize_with = "or_default")]
    pub scheduling_eligibility: String,
    /// The datacenter that it is in.
    #[serde(default, deserialize_with = "or_default")]
    pub datacenter: String,
    /// Its drivers by name.
    #[serde(default, deserialize_with = "or_default")]
    pub drivers: BTreeMap<String, Driver>,
}

impl Node {
    /// Whether the scheduler places tasks of this driver on it now.
    pub fn takes(&self, driver: &str) -> bool {
        self.status == "ready"
            && self.scheduling_eligibility == "eligible"
            && self.drivers.get(driver).is_some_and(|driver| driver.detected && driver.healthy)
    }
}

/// A driver on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Driver {
    /// Whether it is there and enabled.
    #[serde(default, deserialize_with = "or_default")]
    pub detected: bool,
    /// Whether it works.
    #[serde(default, deserialize_with = "or_default")]
    pub healthy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_allocations_are_read() {
        let text = include_str!("../../tests/data/nomad-1.1.0/allocations-failed.json");
        let allocations: Vec<Allocation> = serde_json::from_str(text).unwrap();
        let [allocation] = allocations.as_slice() else { panic!("{allocations:?}") };
        assert!(allocation.is_over());
        assert_eq!(allocation.client_status, "failed");
        assert_eq!(allocation.node_id, "afc6e14c-9957-0773-a975-9bfec4f89af0");
        let last = allocation.task_states["main"].events.iter().rev();
        let terminated = last.clone().find(|event| event.kind == "Terminated").unwrap();
        assert_eq!((terminated.exit_code, terminated.signal), (3, 0));
    }

    #[test]
    fn a_recorded_node_takes_only_the_drivers_that_work() {
        let text = include_str!("../../tests/data/nomad-1.1.0/nodes.json");
        let nodes: Vec<Node> = serde_json::from_str(text).unwrap();
        assert!(nodes[0].takes("raw_exec"));
        assert!(!nodes[0].takes("docker"));
        assert!(!nodes[0].takes("nothing"));
        let draining = Node { scheduling_eligibility: "ineligible".to_owned(), ..nodes[0].clone() };
        assert!(!draining.takes("raw_exec"));
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let text = r#"{"ID":"a","TaskStates":null,"NodeID":null,"ClientStatus":"pending"}"#;
        let allocation: Allocation = serde_json::from_str(text).unwrap();
        assert!(!allocation.is_over());
        assert!(allocation.task_states.is_empty());
    }
}
