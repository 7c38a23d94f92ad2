//! Allocations and evaluations.

use serde_json::{Value, json};

use super::{
    exchange::{Reply, Request},
    records::Allocation,
    routes::{self, Refusal, Site, invalid_method},
    scheduler,
    tables::{Table, Tables},
};

/// Ids are whole, or Nomad's database complains.
fn whole(id: &str, what: &str) -> Result<(), Refusal> {
    let index = "index error: UUID must be 36 characters";
    match id.len() {
        36 => Ok(()),
        _ if what.is_empty() => Err((500, index.to_owned())),
        _ => Err((500, format!("{what} lookup failed: {index}"))),
    }
}

/// The allocations of which this holds. The index is that of all allocations: it moves with
/// those of others.
async fn some(
    site: &Site,
    request: Request,
    wanted: impl Fn(&Allocation) -> bool + Send + Clone + 'static,
) -> Reply {
    let watched = wanted.clone();
    let index = move |tables: &Tables| {
        let own = tables.allocations.values().filter(|each| watched(each));
        let moved = own.map(|each| each.modify_index).max().unwrap_or(0);
        (tables.last(Table::Allocations), moved)
    };
    routes::read(site, request, index, move |tables| {
        let own = tables.allocations.values().filter(|each| wanted(each));
        Ok(own.map(Allocation::stub).collect::<Vec<Value>>().into())
    })
    .await
}

pub(super) async fn list(site: &Site, request: Request) -> Reply {
    let prefix = request.query("prefix").unwrap_or_default().to_owned();
    some(site, request, move |each| each.id.starts_with(&prefix)).await
}

/// Of a job; unknown ones have none.
pub(super) async fn of_job(site: &Site, request: Request, job: &str) -> Reply {
    let job = job.to_owned();
    some(site, request, move |each| each.job.id() == job).await
}

pub(super) async fn of_evaluation(site: &Site, request: Request, id: &str) -> Reply {
    if let Err((status, text)) = whole(id, "") {
        return Reply::refusal(status, &text);
    }
    let id = id.to_owned();
    some(site, request, move |each| each.evaluation_id == id).await
}

pub(super) async fn read(site: &Site, request: Request, id: &str) -> Reply {
    if let Err((status, text)) = whole(id, "alloc") {
        return Reply::refusal(status, &text);
    }
    let (id, other) = (id.to_owned(), id.to_owned());
    let index = move |tables: &Tables| {
        let known = tables.allocations.get(&id).map(|each| each.modify_index);
        let index = known.unwrap_or_else(|| tables.last(Table::Allocations));
        (index, index)
    };
    routes::read(site, request, index, move |tables| {
        let known = tables.allocations.get(&other).map(|each| each.detail(true));
        known.ok_or((404, "alloc not found".to_owned()))
    })
    .await
}

/// Stops one, and has another made in its place.
pub(super) fn stop(site: &Site, request: &Request, id: &str) -> Reply {
    if !request.writes() {
        return invalid_method();
    }
    let Some(known) = site.cluster.read(|tables| tables.allocations.get(id).cloned()) else {
        return Reply::refusal(404, "allocation not found");
    };
    let evaluation = scheduler::evaluation_of(&known.job, "alloc-stop");
    let new = evaluation.id.clone();
    let index = site.cluster.commit("AllocationUpdateDesiredStatus", |change| {
        change.allocation(Allocation { migrate: true, ..known });
        change.evaluation(evaluation);
        change.index
    });
    Reply::json(&json!({ "EvalID": new, "Index": index })).written(index)
}

pub(super) async fn evaluation(site: &Site, request: Request, id: &str) -> Reply {
    if let Err((status, text)) = whole(id, "eval") {
        return Reply::refusal(status, &text);
    }
    let (id, other) = (id.to_owned(), id.to_owned());
    let index = move |tables: &Tables| {
        let known = tables.evaluations.get(&id).map(|each| each.modify_index);
        let index = known.unwrap_or_else(|| tables.last(Table::Evaluations));
        (index, index)
    };
    routes::read(site, request, index, move |tables| {
        let known = tables.evaluations.get(&other).map(|each| each.json());
        known.ok_or((404, "eval not found".to_owned()))
    })
    .await
}

pub(super) async fn evaluations_of_job(site: &Site, request: Request, job: &str) -> Reply {
    let (job, other) = (job.to_owned(), job.to_owned());
    let index = move |tables: &Tables| {
        let moved = tables.evaluations_of(&job).map(|each| each.modify_index).max().unwrap_or(0);
        (tables.last(Table::Evaluations), moved)
    };
    routes::read(site, request, index, move |tables| {
        Ok(tables.evaluations_of(&other).map(|each| each.json()).collect::<Vec<Value>>().into())
    })
    .await
}
