//! What the server knows: four tables, and one index that every change moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::{
    broker::Batch,
    records::{Allocation, Evaluation, Job, NodeRecord},
    stamps,
};

/// Of which a read returns the last index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Jobs,
    Evaluations,
    Allocations,
    Nodes,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    index: u64,
    last: [u64; 4],
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) evaluations: BTreeMap<String, Evaluation>,
    pub(super) allocations: BTreeMap<String, Allocation>,
    pub(super) nodes: BTreeMap<String, NodeRecord>,
    /// Evaluations that wait for the scheduler.
    pub(super) pending: VecDeque<String>,
    /// The child that was made for a parent and an idempotency token.
    pub(super) tokens: BTreeMap<(String, String), String>,
}

impl Tables {
    /// The index of the last change in a table; never 0.
    pub(super) fn last(&self, table: Table) -> u64 {
        self.last[table as usize].max(1)
    }

    pub(super) fn allocations_of<'a>(
        &'a self,
        job: &'a str,
    ) -> impl Iterator<Item = &'a Allocation> {
        self.allocations.values().filter(move |each| each.job.id() == job)
    }

    pub(super) fn evaluations_of<'a>(
        &'a self,
        job: &'a str,
    ) -> impl Iterator<Item = &'a Evaluation> {
        self.evaluations.values().filter(move |each| each.job_id == job)
    }

    pub(super) fn summary(&self, job: &Job) -> Value {
        let mut children = [0; 3];
        for child in self.jobs.values().filter(|child| child.parent() == job.id()) {
            children[match child.status() {
                "dead" => 0,
                "pending" => 1,
                _ => 2,
            }] += 1;
        }
        let mut modified = job.number("CreateIndex");
        let mut groups = BTreeMap::new();
        for group in job.groups() {
            let name = group["Name"].as_str().unwrap_or_default();
            let mut counts = BTreeMap::from(
                ["Complete", "Failed", "Lost", "Queued", "Running", "Starting"].map(|n| (n, 0)),
            );
            for allocation in self.allocations_of(job.id()).filter(|each| each.group == name) {
                modified = modified.max(allocation.modify_index);
                let count = match allocation.client_status {
                    "complete" => "Complete",
                    "failed" => "Failed",
                    "lost" => "Lost",
                    "running" => "Running",
                    _ => "Starting",
                };
                *counts.get_mut(count).expect("all are there") += 1;
            }
            let queued = self.evaluations_of(job.id()).filter(|each| each.status == "blocked");
            *counts.get_mut("Queued").expect("it is there") += queued.count();
            groups.insert(name, counts);
        }
        let [dead, pending, running] = children;
        json!({
            "Children": { "Dead": dead, "Pending": pending, "Running": running },
            "CreateIndex": job.number("CreateIndex"), "JobID": job.id(), "ModifyIndex": modified,
            "Namespace": "default", "Summary": groups,
        })
    }

    /// As Nomad's `getJobStatus`.
    fn status_of(&self, job: &Job) -> &'static str {
        if job.is_template() || job.kind() == "system" {
            return if job.stopped() { "dead" } else { "running" };
        }
        if self.allocations_of(job.id()).any(|each| !each.is_done()) {
            return "running";
        }
        let mut evaluations = self.evaluations_of(job.id()).peekable();
        let was_placed = self.allocations_of(job.id()).next().is_some();
        let was_tried = evaluations.peek().is_some();
        if evaluations.any(|each| !each.is_over()) || !(was_placed || was_tried || job.stopped()) {
            return "pending";
        }
        "dead"
    }
}

/// One write: all that changes under one index.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) index: u64,
    pub(super) now: i64,
    touched: Vec<(Table, String)>,
    gone: Vec<Job>,
}

impl<'a> Change<'a> {
    pub(super) fn begin(tables: &'a mut Tables) -> Change<'a> {
        tables.index += 1;
        let index = tables.index;
        Change { tables, index, now: stamps::now(), touched: Vec::new(), gone: Vec::new() }
    }

    fn touch(&mut self, table: Table, key: &str) {
        self.tables.last[table as usize] = self.index;
        if !self.touched.iter().any(|(each, known)| *each == table && known == key) {
            self.touched.push((table, key.to_owned()));
        }
    }

    /// A new job, or a new version of one.
    pub(super) fn job(&mut self, mut job: Job) {
        let known = self.tables.jobs.get(job.id());
        let version = known.map_or(0, |known| known.number("Version") + 1);
        let created = known.map_or(self.index, |known| known.number("CreateIndex"));
        job.0["Version"] = version.into();
        job.0["CreateIndex"] = created.into();
        job.0["SubmitTime"] = self.now.into();
        for field in ["ModifyIndex", "JobModifyIndex"] {
            job.0[field] = self.index.into();
        }
        let id = job.id().to_owned();
        self.tables.jobs.insert(id.clone(), job);
        self.touch(Table::Jobs, &id);
    }

    /// Stops a job, or forgets it.
    pub(super) fn deregister(&mut self, id: &str, purge: bool) {
        if purge {
            if let Some(job) = self.tables.jobs.remove(id) {
                self.gone.push(job);
                self.tables.last[Table::Jobs as usize] = self.index;
            }
        } else if let Some(job) = self.tables.jobs.get(id) {
            let mut job = job.clone();
            let submitted = job.0["SubmitTime"].clone();
            job.0["Stop"] = true.into();
            self.job(job);
            // It is no submission.
            self.tables.jobs.get_mut(id).expect("it was put there").0["SubmitTime"] = submitted;
        }
    }

    pub(super) fn evaluation(&mut self, mut evaluation: Evaluation) {
        if evaluation.create_index == 0 {
            (evaluation.create_index, evaluation.create_time) = (self.index, self.now);
        }
        (evaluation.modify_index, evaluation.modify_time) = (self.index, self.now);
        if evaluation.status == "pending" {
            self.tables.pending.push_back(evaluation.id.clone());
        }
        let id = evaluation.id.clone();
        self.tables.evaluations.insert(id.clone(), evaluation);
        self.touch(Table::Evaluations, &id);
    }

    /// Notes the evaluation in the events of this change, as it is.
    pub(super) fn mention(&mut self, evaluation: &str) {
        self.touched.push((Table::Evaluations, evaluation.to_owned()));
    }

    pub(super) fn allocation(&mut self, mut allocation: Allocation) {
        if allocation.create_index == 0 {
            (allocation.create_index, allocation.create_time) = (self.index, self.now);
        }
        (allocation.modify_index, allocation.modify_time) = (self.index, self.now);
        let id = allocation.id.clone();
        self.tables.allocations.insert(id.clone(), allocation);
        self.touch(Table::Allocations, &id);
    }

    pub(super) fn node(&mut self, mut node: NodeRecord) {
        if node.create_index == 0 {
            node.create_index = self.index;
        }
        (node.modify_index, node.updated) = (self.index, self.now);
        let id = node.id.clone();
        self.tables.nodes.insert(id.clone(), node);
        self.touch(Table::Nodes, &id);
    }

    /// Brings the states of jobs up to date, and tells what happened.
    pub(super) fn end(mut self, kind: &str) -> Batch {
        let job_of = |(table, key): &(Table, String)| match table {
            Table::Jobs => Some(key.clone()),
            Table::Evaluations => self.tables.evaluations.get(key).map(|each| each.job_id.clone()),
            Table::Allocations => {
                self.tables.allocations.get(key).map(|each| each.job.id().to_owned())
            }
            Table::Nodes => None,
        };
        let jobs: BTreeSet<String> = self.touched.iter().filter_map(job_of).collect();
        for id in jobs {
            let Some(job) = self.tables.jobs.get(&id) else { continue };
            let status = self.tables.status_of(job);
            if job.status() != status {
                let job = self.tables.jobs.get_mut(&id).expect("it was there");
                job.0["Status"] = status.into();
                job.0["ModifyIndex"] = self.index.into();
                self.touch(Table::Jobs, &id);
            }
        }
        let gone = self.gone.iter().map(|job| {
            event("Job", "JobDeregistered", job.id(), Value::Null, self.index, job.0.clone())
        });
        let events = self.touched.iter().filter_map(|(table, key)| self.event(kind, *table, key));
        let events = gone.chain(events).collect();
        Batch { index: self.index, events }
    }

    fn event(&self, kind: &str, table: Table, key: &str) -> Option<Value> {
        let tables = &self.tables;
        let (topic, keys, payload) = match table {
            Table::Jobs => ("Job", Value::Null, tables.jobs.get(key)?.0.clone()),
            Table::Evaluations => {
                let evaluation = tables.evaluations.get(key)?;
                ("Evaluation", json!([evaluation.job_id, ""]), evaluation.json())
            }
            Table::Allocations => {
                let allocation = tables.allocations.get(key)?;
                ("Allocation", json!([allocation.job.id(), ""]), allocation.detail(false))
            }
            Table::Nodes => ("Node", Value::Null, tables.nodes.get(key)?.stub("")),
        };
        Some(event(topic, kind, key, keys, self.index, payload))
    }
}

fn event(topic: &str, kind: &str, key: &str, keys: Value, index: u64, payload: Value) -> Value {
    json!({
        "FilterKeys": keys, "Index": index, "Key": key, "Namespace": "default",
        "Payload": { topic: payload }, "Topic": topic, "Type": kind,
    })
}
