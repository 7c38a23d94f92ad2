//! Jobs, evaluations, allocations and nodes, and what they look like in JSON.

use std::{collections::BTreeMap, time::Instant};

use serde_json::{Map, Value, json};

use super::{recorded, stamps};

/// A job: its JSON as it was registered, kept up to date.
#[derive(Debug, Clone)]
pub(super) struct Job(pub(super) Value);

impl Job {
    pub(super) fn id(&self) -> &str {
        self.0["ID"].as_str().unwrap_or_default()
    }

    pub(super) fn parent(&self) -> &str {
        self.0["ParentID"].as_str().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        self.0["Type"].as_str().unwrap_or_default()
    }

    pub(super) fn status(&self) -> &str {
        self.0["Status"].as_str().unwrap_or_default()
    }

    pub(super) fn stopped(&self) -> bool {
        self.0["Stop"] == true
    }

    /// Whether it is there to be dispatched; its children have the same section.
    pub(super) fn is_template(&self) -> bool {
        !self.0["ParameterizedJob"].is_null() && self.0["Dispatched"] != true
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Value> {
        self.0["TaskGroups"].as_array().into_iter().flatten()
    }

    pub(super) fn group(&self, name: &str) -> Option<&Value> {
        self.groups().find(|group| group["Name"] == name)
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_default()
    }

    /// As it stands in a list. Lists carry no meta.
    pub(super) fn stub(&self, summary: Value) -> Value {
        let mut stub = Map::new();
        for field in [
            "CreateIndex",
            "Datacenters",
            "ID",
            "JobModifyIndex",
            "ModifyIndex",
            "Multiregion",
            "Name",
            "Namespace",
            "ParentID",
            "Priority",
            "Status",
            "StatusDescription",
            "Stop",
            "SubmitTime",
            "Type",
        ] {
            stub.insert(field.to_owned(), self.0[field].clone());
        }
        stub.insert("ParameterizedJob".to_owned(), self.is_template().into());
        stub.insert("Periodic".to_owned(), false.into());
        stub.insert("JobSummary".to_owned(), summary);
        stub.into()
    }
}

/// A try of the scheduler to place a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Evaluation {
    pub(super) id: String,
    pub(super) job_id: String,
    pub(super) job_type: String,
    pub(super) priority: u64,
    pub(super) job_modify_index: u64,
    pub(super) triggered_by: &'static str,
    pub(super) status: &'static str,
    pub(super) description: &'static str,
    pub(super) previous: Option<String>,
    pub(super) blocked: Option<String>,
    /// By task group.
    pub(super) failures: BTreeMap<String, Value>,
    /// By task group; of one that is over.
    pub(super) queued: Option<BTreeMap<String, usize>>,
    pub(super) create_index: u64,
    pub(super) create_time: i64,
    pub(super) modify_index: u64,
    pub(super) modify_time: i64,
}

impl Evaluation {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status, "complete" | "failed" | "canceled")
    }

    pub(super) fn json(&self) -> Value {
        let mut whole = json!({
            "CreateIndex": self.create_index, "CreateTime": self.create_time, "ID": self.id,
            "JobID": self.job_id, "JobModifyIndex": self.job_modify_index,
            "ModifyIndex": self.modify_index, "ModifyTime": self.modify_time,
            "Namespace": "default", "Priority": self.priority, "Status": self.status,
            "TriggeredBy": self.triggered_by, "Type": self.job_type,
        });
        if self.status != "pending" {
            whole["SnapshotIndex"] = self.create_index.into();
        }
        if let Some(previous) = &self.previous {
            whole["PreviousEval"] = json!(previous);
            whole["ClassEligibility"] = json!({ "v1:6819552170019681586": true });
        }
        if let Some(blocked) = &self.blocked {
            whole["BlockedEval"] = json!(blocked);
        }
        if !self.description.is_empty() {
            whole["StatusDescription"] = json!(self.description);
        }
        if !self.failures.is_empty() {
            whole["FailedTGAllocs"] = json!(self.failures);
        }
        if let Some(queued) = &self.queued {
            whole["QueuedAllocations"] = json!(queued);
        }
        whole
    }
}

/// A place of a task group on a node.
#[derive(Debug, Clone)]
pub(super) struct Allocation {
    pub(super) id: String,
    pub(super) evaluation_id: String,
    /// The job as it was when this was placed.
    pub(super) job: Job,
    pub(super) group: String,
    pub(super) number: usize,
    pub(super) node_id: String,
    pub(super) node_name: String,
    pub(super) wanted: bool,
    pub(super) desired_description: &'static str,
    pub(super) migrate: bool,
    pub(super) next: Option<String>,
    pub(super) previous: Option<String>,
    pub(super) client_status: &'static str,
    pub(super) client_description: &'static str,
    /// By task, as the node last reported.
    pub(super) tasks: Option<Value>,
    pub(super) metrics: Value,
    pub(super) placed_index: u64,
    pub(super) create_index: u64,
    pub(super) create_time: i64,
    pub(super) modify_index: u64,
    pub(super) modify_time: i64,
}

impl Allocation {
    /// Whether nothing of it runs.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.client_status, "complete" | "failed" | "lost")
    }

    /// Whether it counts no more for its job: over, or about to be.
    pub(super) fn is_done(&self) -> bool {
        !self.wanted || self.is_over()
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}[{}]", self.job.id(), self.group, self.number)
    }

    fn common(&self) -> Value {
        json!({
            "ClientDescription": self.client_description, "ClientStatus": self.client_status,
            "CreateIndex": self.create_index, "CreateTime": self.create_time,
            "DesiredStatus": if self.wanted { "run" } else { "stop" },
            "EvalID": self.evaluation_id, "ID": self.id, "JobID": self.job.id(),
            "ModifyIndex": self.modify_index, "ModifyTime": self.modify_time,
            "Name": self.name(), "Namespace": "default", "NodeID": self.node_id,
            "NodeName": self.node_name, "TaskGroup": self.group,
        })
    }

    fn transition(&self) -> Value {
        let migrate = if self.migrate { json!(true) } else { Value::Null };
        json!({ "ForceReschedule": null, "Migrate": migrate, "Reschedule": null })
    }

    /// As it stands in a list.
    pub(super) fn stub(&self) -> Value {
        let more = json!({
            "DeploymentStatus": null, "DesiredDescription": self.desired_description,
            "DesiredTransition": self.transition(), "FollowupEvalID": "",
            "JobType": self.job.kind(), "JobVersion": self.job.number("Version"),
            "PreemptedAllocations": null, "PreemptedByAllocation": "", "RescheduleTracker": null,
            "TaskStates": self.tasks,
        });
        merged(self.common(), more)
    }

    /// As it is sent alone; in an event, its job is left out.
    pub(super) fn detail(&self, with_job: bool) -> Value {
        let group = self.job.group(&self.group).cloned().unwrap_or_default();
        let disk = group["EphemeralDisk"]["SizeMB"].as_u64().unwrap_or(300);
        let (mut tasks, mut resources, mut lifecycles) = (Map::new(), Map::new(), Map::new());
        let (mut cpu, mut memory) = (0, 0);
        for task in group["Tasks"].as_array().into_iter().flatten() {
            let name = task["Name"].as_str().unwrap_or_default().to_owned();
            let asked = &task["Resources"];
            cpu += asked["CPU"].as_u64().unwrap_or(0);
            memory += asked["MemoryMB"].as_u64().unwrap_or(0);
            let allocated = json!({
                "Cpu": { "CpuShares": asked["CPU"], "ReservedCores": null }, "Devices": null,
                "Memory": { "MemoryMB": asked["MemoryMB"], "MemoryMaxMB": 0 }, "Networks": null,
            });
            tasks.insert(name.clone(), allocated);
            resources.insert(name.clone(), asked.clone());
            lifecycles.insert(name, Value::Null);
        }
        let sum = |cpu: u64, memory: u64, most: u64| {
            json!({
                "CPU": cpu, "Cores": 0, "Devices": null, "DiskMB": disk, "IOPS": 0,
                "MemoryMB": memory, "MemoryMaxMB": most, "Networks": null,
            })
        };
        let mut whole = merged(
            self.common(),
            json!({
                "AllocModifyIndex": self.placed_index,
                "AllocatedResources": {
                    "Shared": { "DiskMB": disk, "Networks": null, "Ports": null },
                    "TaskLifecycles": lifecycles, "Tasks": tasks,
                },
                "Metrics": self.metrics, "Resources": sum(cpu, memory, memory),
                "SharedResources": sum(0, 0, 0), "TaskResources": resources,
            }),
        );
        if let Some(tasks) = &self.tasks {
            whole["TaskStates"] = tasks.clone();
            whole["NetworkStatus"] = json!({ "Address": "", "DNS": null, "InterfaceName": "" });
        }
        if !self.desired_description.is_empty() {
            whole["DesiredDescription"] = json!(self.desired_description);
        }
        if self.migrate {
            whole["DesiredTransition"] = self.transition();
        }
        for (field, other) in
            [("NextAllocation", &self.next), ("PreviousAllocation", &self.previous)]
        {
            if let Some(other) = other {
                whole[field] = json!(other);
            }
        }
        if with_job {
            whole["Job"] = self.job.0.clone();
        }
        whole
    }
}

fn merged(one: Value, other: Value) -> Value {
    let (Value::Object(mut one), Value::Object(other)) = (one, other) else {
        unreachable!("both are written as objects");
    };
    one.extend(other);
    one.into()
}

/// A node as the server knows it.
#[derive(Debug, Clone)]
pub(super) struct NodeRecord {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) http: String,
    pub(super) ready: bool,
    pub(super) heard: Instant,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
    pub(super) updated: i64,
}

/// What a node has to give; half of an ordinary machine.
pub(super) const NODE_CPU: u64 = 6_000;
pub(super) const NODE_MEMORY_MB: u64 = 24_000;
pub(super) const DATACENTER: &str = "dc1";

impl NodeRecord {
    fn drivers(&self) -> Value {
        let driver = |name: &str, healthy: bool| {
            let attributes = format!("driver.{name}");
            json!({
                "Attributes": if healthy { json!({ attributes: "true" }) } else { Value::Null },
                "Detected": healthy,
                "HealthDescription": if healthy { "Healthy" } else { "" },
                "Healthy": healthy, "UpdateTime": stamps::rfc3339(self.updated),
            })
        };
        json!({ "raw_exec": driver("raw_exec", true), "docker": driver("docker", false) })
    }

    /// As it stands in a list.
    pub(super) fn stub(&self, version: &str) -> Value {
        let mut stub = self.common();
        stub["Address"] = json!("127.0.0.1");
        stub["Version"] = json!(version);
        stub
    }

    fn common(&self) -> Value {
        json!({
            "CreateIndex": self.create_index, "Datacenter": DATACENTER, "Drain": false,
            "Drivers": self.drivers(), "HostVolumes": null, "ID": self.id, "LastDrain": null,
            "ModifyIndex": self.modify_index, "Name": self.name, "NodeClass": "",
            "SchedulingEligibility": "eligible",
            "Status": if self.ready { "ready" } else { "down" }, "StatusDescription": "",
        })
    }

    /// As it is sent alone: a recorded one with what differs put in.
    pub(super) fn detail(&self, version: &str) -> Value {
        let mut whole = recorded::body(recorded::NODE);
        whole["HTTPAddr"] = json!(self.http);
        whole["StatusUpdatedAt"] = json!(self.updated / 1_000_000_000);
        let attributes = [("nomad.version", version), ("nomad.advertise.address", &self.http)];
        for (name, value) in attributes {
            whole["Attributes"][name] = json!(value);
        }
        merged(whole, self.common())
    }
}
