//! From evaluations to allocations.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    records::{Allocation, DATACENTER, Evaluation, Job, NODE_CPU, NODE_MEMORY_MB, NodeRecord},
    stamps,
    tables::Tables,
};

/// Of an allocation on a node that was given up.
const LOST: &str = "alloc is lost since its node is down";

/// Works off evaluations as they come, until it is dropped.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.changes();
    loop {
        changes.borrow_and_update();
        while let Some(evaluation) = next(&cluster) {
            work_off(&cluster, evaluation);
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn next(cluster: &Cluster) -> Option<Evaluation> {
    if !cluster.switches.leader.load(Ordering::SeqCst) {
        return None;
    }
    cluster.take_pending()
}

/// An evaluation that is to be worked off.
pub(super) fn evaluation_of(job: &Job, triggered_by: &'static str) -> Evaluation {
    Evaluation {
        id: stamps::uuid(),
        job_id: job.id().to_owned(),
        job_type: job.kind().to_owned(),
        priority: job.number("Priority"),
        job_modify_index: job.number("JobModifyIndex"),
        triggered_by,
        status: "pending",
        ..Evaluation::default()
    }
}

/// What is to be done for one job.
#[derive(Debug, Default)]
struct Plan {
    /// Allocations to stop, why, and whether they are lost.
    stop: Vec<(String, &'static str, bool)>,
    place: Vec<Placing>,
    /// By task group: the first that found no node, and how many did.
    failures: BTreeMap<String, (Value, usize)>,
}

#[derive(Debug)]
struct Placing {
    group: String,
    number: usize,
    node: NodeRecord,
    previous: Option<String>,
    metrics: Value,
}

fn work_off(cluster: &Cluster, mut evaluation: Evaluation) {
    let room = cluster.switches.room.load(Ordering::SeqCst);
    let plan = cluster.read(|tables| plan(tables, &evaluation.job_id, room));
    if !plan.stop.is_empty() || !plan.place.is_empty() {
        cluster.commit("PlanResult", |change| {
            change.mention(&evaluation.id);
            for (id, why, lost) in &plan.stop {
                let Some(known) = change.tables.allocations.get(id) else { continue };
                let mut stopped = known.clone();
                (stopped.wanted, stopped.desired_description) = (false, why);
                if *lost {
                    stopped.client_status = "lost";
                }
                let successor = plan.place.iter().any(|each| each.previous.as_deref() == Some(id));
                stopped.next = successor.then(stamps::uuid);
                change.allocation(stopped);
            }
            let Some(job) = change.tables.jobs.get(&evaluation.job_id).cloned() else { return };
            for placing in plan.place {
                let previous = placing.previous.as_ref();
                let previous = previous.and_then(|id| change.tables.allocations.get(id).cloned());
                let id = previous.as_ref().and_then(|each| each.next.clone());
                let id = id.unwrap_or_else(stamps::uuid);
                if let Some(mut previous) = previous.filter(|each| each.next.is_none()) {
                    previous.next = Some(id.clone());
                    change.allocation(previous);
                }
                let index = change.index;
                change.allocation(placed(placing, id, &job, &evaluation.id, index));
            }
        });
    }
    evaluation.status = "complete";
    if evaluation.triggered_by == "job-deregister" {
        cancel_blocked(cluster, &evaluation.job_id);
    }
    let groups = cluster.read(|tables| {
        let job = tables.jobs.get(&evaluation.job_id);
        job.map(|job| job.groups().map(|group| group["Name"].clone()).collect::<Vec<_>>())
    });
    let queued = groups.unwrap_or_default().into_iter().filter_map(|name| {
        let name = name.as_str()?.to_owned();
        let count = plan.failures.get(&name).map_or(0, |(_, count)| *count);
        Some((name, count))
    });
    evaluation.queued = Some(queued.collect());
    evaluation.failures =
        plan.failures.into_iter().map(|(group, (metrics, _))| (group, metrics)).collect();
    if !evaluation.failures.is_empty() {
        if evaluation.triggered_by == "queued-allocs" {
            // It goes on waiting.
            (evaluation.status, evaluation.queued) = ("blocked", None);
        } else {
            let blocked = Evaluation {
                id: stamps::uuid(),
                status: "blocked",
                triggered_by: "queued-allocs",
                description: "created to place remaining allocations",
                previous: Some(evaluation.id.clone()),
                queued: None,
                create_index: 0,
                ..evaluation.clone()
            };
            evaluation.blocked = Some(blocked.id.clone());
            cluster.commit("EvaluationUpdated", |change| change.evaluation(blocked));
        }
    }
    cluster.commit("EvaluationUpdated", |change| change.evaluation(evaluation));
}

fn placed(placing: Placing, id: String, job: &Job, evaluation: &str, index: u64) -> Allocation {
    Allocation {
        id,
        evaluation_id: evaluation.to_owned(),
        job: job.clone(),
        group: placing.group,
        number: placing.number,
        node_id: placing.node.id,
        node_name: placing.node.name,
        wanted: true,
        desired_description: "",
        migrate: false,
        next: None,
        previous: placing.previous,
        client_status: "pending",
        client_description: "",
        tasks: None,
        metrics: placing.metrics,
        placed_index: index,
        create_index: 0,
        create_time: 0,
        modify_index: 0,
        modify_time: 0,
    }
}

fn cancel_blocked(cluster: &Cluster, job: &str) {
    let blocked = cluster.read(|tables| {
        let blocked = tables.evaluations_of(job).filter(|each| each.status == "blocked");
        blocked.cloned().collect::<Vec<_>>()
    });
    if !blocked.is_empty() {
        cluster.commit("EvaluationUpdated", |change| {
            for mut evaluation in blocked {
                evaluation.status = "canceled";
                change.evaluation(evaluation);
            }
        });
    }
}

fn plan(tables: &Tables, job_id: &str, room: bool) -> Plan {
    let mut plan = Plan::default();
    let job = tables.jobs.get(job_id).filter(|job| !job.stopped());
    let Some(job) = job else {
        for left in tables.allocations_of(job_id).filter(|each| !each.is_over()) {
            let node_is_up = tables.nodes.get(&left.node_id).is_some_and(|node| node.ready);
            if !node_is_up {
                plan.stop.push((left.id.clone(), LOST, true));
            } else if left.wanted {
                plan.stop.push((left.id.clone(), "alloc not needed due to job update", false));
            }
        }
        return plan;
    };
    if job.is_template() {
        return plan;
    }
    for group in job.groups() {
        let name = group["Name"].as_str().unwrap_or_default();
        let count = match job.kind() {
            "system" => tables.nodes.values().filter(|node| node.ready).count(),
            _ => usize::try_from(group["Count"].as_u64().unwrap_or(1)).unwrap_or(1),
        };
        for number in 0..count {
            let newest = tables
                .allocations_of(job_id)
                .filter(|each| each.group == name && each.number == number)
                .max_by_key(|each| each.create_index);
            if let Some(known) = newest {
                match replaced(tables, job, known) {
                    None => continue,
                    Some((why, lost)) if !known.is_over() && (lost || known.wanted) => {
                        plan.stop.push((known.id.clone(), why, lost));
                    }
                    Some(_) => {}
                }
            }
            match choose(tables, &plan, job, group, room) {
                Ok((node, metrics)) => plan.place.push(Placing {
                    group: name.to_owned(),
                    number,
                    node,
                    previous: newest.map(|known| known.id.clone()),
                    metrics,
                }),
                Err(metrics) => {
                    plan.failures.entry(name.to_owned()).or_insert((metrics, 0)).1 += 1;
                }
            }
        }
    }
    plan
}

/// Why another is to take the place of this one, and whether it is lost; None when not.
fn replaced(tables: &Tables, job: &Job, known: &Allocation) -> Option<(&'static str, bool)> {
    let node_is_up = tables.nodes.get(&known.node_id).is_some_and(|node| node.ready);
    if known.client_status == "lost" {
        return Some(("", true));
    }
    if known.is_over() {
        // Our jobs are not rescheduled, and this stand-in knows no rescheduling.
        return None;
    }
    if !node_is_up {
        return Some((LOST, true));
    }
    if known.migrate {
        return Some(("alloc is being migrated", false));
    }
    (known.job.number("Version") != job.number("Version"))
        .then_some(("alloc is being updated due to job update", false))
}

/// A node with room, the fullest first, and how it was chosen.
fn choose(
    tables: &Tables,
    plan: &Plan,
    job: &Job,
    group: &Value,
    room: bool,
) -> Result<(NodeRecord, Value), Value> {
    let datacenters = job.0["Datacenters"].as_array().cloned().unwrap_or_default();
    let in_reach = datacenters.iter().any(|each| each == DATACENTER);
    let nodes: Vec<_> = tables.nodes.values().filter(|node| node.ready && in_reach).collect();
    let available = datacenters.iter().filter_map(Value::as_str);
    let available: BTreeMap<_, _> =
        available.map(|each| (each, if each == DATACENTER { nodes.len() } else { 0 })).collect();
    let mut metrics = json!({
        "AllocationTime": 40_000, "ClassExhausted": null, "ClassFiltered": null,
        "CoalescedFailures": 0, "ConstraintFiltered": null, "DimensionExhausted": null,
        "NodesAvailable": available, "NodesEvaluated": nodes.len(), "NodesExhausted": 0,
        "NodesFiltered": 0, "QuotaExhausted": null, "ResourcesExhausted": null,
        "ScoreMetaData": null, "Scores": null,
    });
    if nodes.is_empty() {
        return Err(metrics);
    }
    let tasks: Vec<&Value> = group["Tasks"].as_array().into_iter().flatten().collect();
    if tasks.iter().any(|task| task["Driver"] != "raw_exec") {
        metrics["NodesFiltered"] = nodes.len().into();
        metrics["ConstraintFiltered"] = json!({ "missing drivers": nodes.len() });
        return Err(metrics);
    }
    let (cpu, memory) = asked(group);
    let used = |node: &NodeRecord| {
        let placed = tables
            .allocations
            .values()
            .filter(|each| each.node_id == node.id && !each.is_over() && each.wanted);
        let placed = placed.filter_map(|each| each.job.group(&each.group)).map(asked);
        let planned = plan.place.iter().filter(|each| each.node.id == node.id);
        let planned = planned.filter_map(|each| job.group(&each.group)).map(asked);
        placed.chain(planned).fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    };
    let short = |node: &NodeRecord| {
        let used = used(node);
        if !room || used.1 + memory > NODE_MEMORY_MB {
            Some("memory")
        } else {
            (used.0 + cpu > NODE_CPU).then_some("cpu")
        }
    };
    let mut exhausted: BTreeMap<&str, usize> = BTreeMap::new();
    let mut best: Option<&NodeRecord> = None;
    for node in nodes {
        match short(node) {
            Some(dimension) => *exhausted.entry(dimension).or_default() += 1,
            None if best.is_none_or(|best| used(node) > used(best)) => best = Some(node),
            None => {}
        }
    }
    match best {
        Some(node) => {
            metrics["ScoreMetaData"] = json!([{
                "NodeID": node.id, "NormScore": 0.01, "Scores": {
                    "binpack": 0.01, "job-anti-affinity": 0.0, "node-affinity": 0.0,
                    "node-reschedule-penalty": 0.0,
                },
            }]);
            Ok((node.clone(), metrics))
        }
        None => {
            let named = |task: &&Value| {
                let asked = &task["Resources"];
                let name = task["Name"].as_str().unwrap_or_default().to_owned();
                let short = json!({
                    "CPU": 0, "Cores": 0, "Devices": null, "DiskMB": 0, "IOPS": 0,
                    "MemoryMB": asked["MemoryMB"], "MemoryMaxMB": 0, "Networks": null,
                });
                (name, short)
            };
            metrics["ResourcesExhausted"] =
                tasks.iter().map(named).collect::<serde_json::Map<_, _>>().into();
            metrics["NodesExhausted"] = exhausted.values().sum::<usize>().into();
            metrics["DimensionExhausted"] = json!(exhausted);
            Err(metrics)
        }
    }
}

/// What a group takes: CPU and memory.
fn asked(group: &Value) -> (u64, u64) {
    let tasks = group["Tasks"].as_array().into_iter().flatten();
    tasks.fold((0, 0), |(cpu, memory), task| {
        let number = |field: &str| task["Resources"][field].as_u64().unwrap_or(0);
        (cpu + number("CPU"), memory + number("MemoryMB"))
    })
}

/// Lets what waits for room try again.
pub(super) fn unblock(cluster: &Cluster) {
    let waits = |tables: &Tables| {
        let blocked = tables.evaluations.values().filter(|each| each.status == "blocked");
        blocked.cloned().collect::<Vec<_>>()
    };
    let waiting = cluster.read(waits);
    if !waiting.is_empty() {
        cluster.commit("EvaluationUpdated", |change| {
            for mut evaluation in waiting {
                evaluation.status = "pending";
                change.evaluation(evaluation);
            }
        });
    }
}

/// A node is given up: whatever was on it is lost, and placed elsewhere.
pub(super) fn node_down(cluster: &Cluster, record: NodeRecord) {
    let id = record.id.clone();
    cluster.commit("NodeRegistration", |change| change.node(record));
    let jobs: BTreeMap<String, Job> = cluster.read(|tables| {
        let there =
            tables.allocations.values().filter(|each| each.node_id == id && !each.is_over());
        there.map(|each| (each.job.id().to_owned(), each.job.clone())).collect()
    });
    cluster.commit("EvaluationUpdated", |change| {
        for job in jobs.values() {
            change.evaluation(evaluation_of(job, "node-update"));
        }
    });
}
