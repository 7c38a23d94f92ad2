//! Which request is answered by whom.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper::Method;
use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    agent_routes, alloc_routes,
    cluster::Cluster,
    dispatch,
    exchange::{Reply, Request, duration},
    files, job_routes, logs,
    node::Node,
    stream,
    tables::Tables,
};

/// Nomad's longest wait of a blocking query, and what is meant when none is given.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// An address where requests arrive.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) cluster: Arc<Cluster>,
    /// The node whose agent this is, when it is not the server's.
    pub(super) node: Option<Arc<Node>>,
    /// What its agent does apart from its connections.
    pub(super) work: TaskTracker,
    /// Cancelled when its agent ends.
    pub(super) end: CancellationToken,
}

/// A refusal: its status and its text.
pub(super) type Refusal = (u16, String);

pub(super) fn refused((status, text): Refusal) -> Reply {
    Reply::refusal(status, &text)
}

pub(super) fn invalid_method() -> Reply {
    Reply::refusal(405, "Invalid method")
}

pub(super) async fn answer(site: &Site, request: Request) -> Reply {
    let path = request.path.clone();
    if site.node.is_none() {
        let index = request.query("index").filter(|_| path == "/v1/event/stream");
        let index = index.map(|index| format!(" {index}")).unwrap_or_default();
        site.cluster.switches.note_asked(format!("{} {path}{index}", request.method));
    }
    let Some(path) = path.strip_prefix("/v1/") else { return Reply::refusal(404, "") };
    // What the agent answers by itself.
    match path {
        "jobs/parse" => return job_routes::parse(&request),
        "agent/self" => return agent_routes::own(site, &request),
        "agent/members" => return agent_routes::members(site, &request),
        "agent/health" => return agent_routes::health(site),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("client/fs/") {
        return file_route(site, &request, rest);
    }
    if site.node.is_some() && !site.cluster.server_is_up() {
        return Reply::refusal(500, "no servers");
    }
    if !site.cluster.switches.leader.load(Ordering::SeqCst) {
        return Reply::refusal(500, "No cluster leader");
    }
    server_route(site, request, path).await
}

fn file_route(site: &Site, request: &Request, rest: &str) -> Reply {
    let (what, allocation) = rest.split_once('/').unwrap_or((rest, ""));
    match what {
        "logs" => logs::logs(site, request, allocation),
        "stream" => logs::stream(site, request, allocation),
        "cat" | "readat" => files::content(site, request, what, allocation),
        "ls" => files::list(site, request, allocation),
        "stat" => files::stat(site, request, allocation),
        _ => Reply::refusal(404, "Invalid method"),
    }
}

async fn server_route(site: &Site, request: Request, path: &str) -> Reply {
    match path {
        "jobs" if request.method == Method::GET => return job_routes::list(site, request).await,
        "jobs" => return job_routes::register(site, &request),
        "allocations" => return alloc_routes::list(site, request).await,
        "nodes" => return agent_routes::nodes(site, request).await,
        "status/leader" => return agent_routes::leader(),
        "status/peers" => return agent_routes::peers(),
        "event/stream" => return stream::stream(site, &request).await,
        "validate/job" => return job_routes::validate(&request),
        _ => {}
    }
    let (table, rest) = path.split_once('/').unwrap_or((path, ""));
    match table {
        "job" => job_route(site, request, rest).await,
        "allocation" => match rest.strip_suffix("/stop") {
            Some(id) => alloc_routes::stop(site, &request, id),
            None => alloc_routes::read(site, request, rest).await,
        },
        "evaluation" => match rest.strip_suffix("/allocations") {
            Some(id) => alloc_routes::of_evaluation(site, request, id).await,
            None => alloc_routes::evaluation(site, request, rest).await,
        },
        "node" => agent_routes::node(site, request, rest).await,
        _ => Reply::refusal(404, ""),
    }
}

async fn job_route(site: &Site, request: Request, rest: &str) -> Reply {
    let id = |suffix: &str| rest.strip_suffix(suffix);
    if let Some(id) = id("/dispatch") {
        dispatch::dispatch(site, &request, id)
    } else if let Some(id) = id("/allocations") {
        alloc_routes::of_job(site, request, id).await
    } else if let Some(id) = id("/evaluations") {
        alloc_routes::evaluations_of_job(site, request, id).await
    } else if let Some(id) = id("/evaluate") {
        job_routes::evaluate(site, &request, id)
    } else if let Some(id) = id("/summary") {
        job_routes::summary(site, request, id).await
    } else if request.method == Method::DELETE {
        job_routes::delete(site, &request, rest)
    } else {
        job_routes::read(site, request, rest).await
    }
}

/// Answers a read; with an index, not before there is something newer or the wait is over.
///
/// `watched` tells the index that the answer bears, that of a whole table for lists, and the
/// index of the last change to what was asked for, which is what ends a wait.
pub(super) async fn read(
    site: &Site,
    request: Request,
    watched: impl Fn(&Tables) -> (u64, u64) + Send + 'static,
    render: impl Fn(&Tables) -> Result<Value, Refusal> + Send + 'static,
) -> Reply {
    if request.method != Method::GET {
        return invalid_method();
    }
    let least = match request.query("index").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(index)) => index,
        Some(Err(_)) => return Reply::refusal(400, "Invalid index"),
    };
    let wait = match request.query("wait").map(duration) {
        None => LONGEST_WAIT,
        Some(Some(wait)) => wait.min(LONGEST_WAIT),
        Some(None) => return Reply::refusal(400, "Invalid wait time"),
    };
    let cluster = site.cluster.clone();
    let now = move |cluster: &Cluster| {
        cluster.read(|tables| {
            let (index, _) = watched(tables);
            let reply = render(tables).map_or_else(refused, |value| Reply::json(&value));
            (reply.indexed(index), index, watched(tables).1)
        })
    };
    let (reply, index, _) = now(&cluster);
    if least == 0 || index > least {
        return reply;
    }
    let mut changes = cluster.changes();
    // Nomad waits up to a sixteenth longer, so that clients spread.
    let deadline = tokio::time::sleep(wait + wait / 32);
    tokio::pin!(deadline);
    loop {
        changes.borrow_and_update();
        let (reply, _, moved) = now(&cluster);
        if moved > least {
            return reply;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = &mut deadline => return now(&cluster).0,
        }
    }
}
