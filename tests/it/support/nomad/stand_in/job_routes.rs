//! Jobs: parse, register, read, stop.

use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    exchange::{Reply, Request},
    job_file, job_shape,
    records::Job,
    routes::{self, Site, invalid_method},
    scheduler,
    tables::{Table, Tables},
};

pub(super) fn parse(request: &Request) -> Reply {
    if !request.writes() {
        return invalid_method();
    }
    let body = match request.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    if body["Canonicalize"] != true {
        return Reply::refusal(501, "the stand-in for Nomad fills in defaults always");
    }
    match job_file::job(body["JobHCL"].as_str().unwrap_or_default()) {
        Ok(job) => Reply::json(&job_shape::parsed(&job)),
        Err(complaint) => Reply::refusal(400, &complaint),
    }
}

/// As Go's multierror words it.
fn worded(problems: &[&str]) -> String {
    let errors = if problems.len() == 1 { "error" } else { "errors" };
    let lines: String = problems.iter().map(|problem| format!("\t* {problem}\n")).collect();
    format!("{} {errors} occurred:\n{lines}\n", problems.len())
}

pub(super) fn validate(request: &Request) -> Reply {
    let body = match request.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    let problems = job_shape::problems(&body["Job"]);
    let error = if problems.is_empty() { String::new() } else { worded(&problems) };
    Reply::json(&json!({
        "DriverConfigValidated": true, "Error": error, "ValidationErrors": problems,
        "Warnings": "",
    }))
}

pub(super) fn register(site: &Site, request: &Request) -> Reply {
    if !request.writes() {
        return invalid_method();
    }
    let body = match request.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    if body["Job"].is_null() {
        return Reply::refusal(400, "Job must be specified");
    }
    let problems = job_shape::problems(&body["Job"]);
    if !problems.is_empty() {
        return Reply::refusal(500, &worded(&problems));
    }
    let job = Job(job_shape::registered(&body["Job"]));
    let (index, evaluation) = register_job(&site.cluster, job);
    registered(index, evaluation).written(index)
}

/// Puts a job in; when it is to be placed, with an evaluation.
pub(super) fn register_job(cluster: &Cluster, job: Job) -> (u64, Option<String>) {
    let id = job.id().to_owned();
    let template = job.is_template();
    cluster.commit("JobRegistered", |change| {
        change.job(job);
        let evaluation = (!template).then(|| {
            let job = &change.tables.jobs[&id];
            let evaluation = scheduler::evaluation_of(job, "job-register");
            let id = evaluation.id.clone();
            change.evaluation(evaluation);
            id
        });
        (change.index, evaluation)
    })
}

fn registered(index: u64, evaluation: Option<String>) -> Reply {
    let created = if evaluation.is_some() { index } else { 0 };
    Reply::json(&json!({
        "EvalCreateIndex": created, "EvalID": evaluation.unwrap_or_default(), "Index": index,
        "JobModifyIndex": index, "KnownLeader": false, "LastContact": 0, "Warnings": "",
    }))
}

pub(super) async fn read(site: &Site, request: Request, id: &str) -> Reply {
    let (id, other) = (id.to_owned(), id.to_owned());
    let index = move |tables: &Tables| {
        let known = tables.jobs.get(&id).map(|job| job.number("ModifyIndex"));
        let index = known.unwrap_or_else(|| tables.last(Table::Jobs));
        (index, index)
    };
    routes::read(site, request, index, move |tables| {
        let known = tables.jobs.get(&other).map(|job| job.0.clone());
        known.ok_or((404, "job not found".to_owned()))
    })
    .await
}

pub(super) async fn summary(site: &Site, request: Request, id: &str) -> Reply {
    let id = id.to_owned();
    let index = |tables: &Tables| (tables.last(Table::Jobs), tables.last(Table::Jobs));
    routes::read(site, request, index, move |tables| {
        let job = tables.jobs.get(&id).ok_or((404, "job not found".to_owned()))?;
        Ok(tables.summary(job))
    })
    .await
}

pub(super) async fn list(site: &Site, request: Request) -> Reply {
    let prefix = request.query("prefix").unwrap_or_default().to_owned();
    let index = |tables: &Tables| (tables.last(Table::Jobs), tables.last(Table::Jobs));
    routes::read(site, request, index, move |tables| {
        let jobs = tables.jobs.values().filter(|job| job.id().starts_with(&prefix));
        Ok(jobs.map(|job| job.stub(tables.summary(job))).collect::<Vec<Value>>().into())
    })
    .await
}

/// Stops a job, or forgets it. Fine for one that is not there.
pub(super) fn delete(site: &Site, request: &Request, id: &str) -> Reply {
    let purge = request.flag("purge");
    let (index, evaluation) = site.cluster.commit("JobDeregistered", |change| {
        let known = change.tables.jobs.get(id).cloned();
        change.deregister(id, purge);
        let evaluation = match &known {
            Some(job) if job.is_template() => None,
            known => {
                let absent = Job(json!({ "ID": id, "Priority": 50 }));
                let job = known.as_ref().unwrap_or(&absent);
                let mut evaluation = scheduler::evaluation_of(job, "job-deregister");
                evaluation.job_type = "service".to_owned();
                evaluation.job_modify_index = change.index;
                Some(evaluation)
            }
        };
        let id = evaluation.as_ref().map(|evaluation| evaluation.id.clone());
        evaluation.into_iter().for_each(|evaluation| change.evaluation(evaluation));
        (change.index, id)
    });
    Reply::json(&json!({
        "EvalCreateIndex": index, "EvalID": evaluation.unwrap_or_default(), "Index": index,
        "JobModifyIndex": index, "KnownLeader": false, "LastContact": 0, "VolumeEvalID": "",
        "VolumeEvalIndex": 0,
    }))
    .written(index)
}

pub(super) fn evaluate(site: &Site, request: &Request, id: &str) -> Reply {
    if !request.writes() {
        return invalid_method();
    }
    let body = match request.json() {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    match body["JobID"].as_str() {
        None | Some("") => return Reply::refusal(400, "Job ID must be specified"),
        Some(named) if named != id => {
            return Reply::refusal(400, "Job ID not same as in the path");
        }
        Some(_) => {}
    }
    let Some(job) = site.cluster.read(|tables| tables.jobs.get(id).cloned()) else {
        return Reply::refusal(404, "job not found");
    };
    if job.is_template() {
        return Reply::refusal(500, "can't evaluate parameterized job");
    }
    let evaluation = scheduler::evaluation_of(&job, "job-register");
    let new = evaluation.id.clone();
    let index = site.cluster.commit("EvaluationUpdated", |change| {
        change.evaluation(evaluation);
        change.index
    });
    registered(index, Some(new)).written(index)
}
