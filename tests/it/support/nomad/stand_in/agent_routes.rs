//! The agent and the nodes.

use serde_json::{Value, json};

use super::{
    exchange::{Reply, Request},
    recorded,
    routes::{self, Site, invalid_method},
    tables::{Table, Tables},
};

/// Nobody speaks Nomad's own protocol to the stand-in: these ports are only told.
const RPC: &str = "127.0.0.1:4647";

pub(super) fn own(site: &Site, request: &Request) -> Reply {
    if request.method != hyper::Method::GET {
        return invalid_method();
    }
    let version = site.cluster.switches.version();
    let mut whole = recorded::body(recorded::AGENT);
    whole["config"]["Version"]["Version"] = json!(version);
    whole["config"]["AdvertiseAddrs"]["HTTP"] = json!(site.cluster.address);
    whole["member"]["Tags"]["build"] = json!(version);
    let node = site.node.as_ref().or(match site.cluster.nodes.as_slice() {
        [only] => Some(only),
        _ => None,
    });
    if let Some(node) = node {
        whole["stats"]["client"]["node_id"] = json!(node.id);
    }
    Reply::json(&whole)
}

pub(super) fn members(site: &Site, request: &Request) -> Reply {
    if request.method != hyper::Method::GET {
        return invalid_method();
    }
    let mut whole = recorded::body(recorded::MEMBERS);
    whole["Members"][0]["Tags"]["build"] = json!(site.cluster.switches.version());
    Reply::json(&whole)
}

pub(super) fn health(site: &Site) -> Reply {
    let part = || json!({ "message": "ok", "ok": true });
    Reply::json(&match site.node {
        Some(_) => json!({ "client": part() }),
        None => json!({ "client": part(), "server": part() }),
    })
}

pub(super) fn leader() -> Reply {
    Reply::json(&json!(RPC))
}

pub(super) fn peers() -> Reply {
    Reply::json(&json!([RPC]))
}

pub(super) async fn nodes(site: &Site, request: Request) -> Reply {
    let version = site.cluster.switches.version();
    let prefix = request.query("prefix").unwrap_or_default().to_owned();
    let index = |tables: &Tables| (tables.last(Table::Nodes), tables.last(Table::Nodes));
    routes::read(site, request, index, move |tables| {
        let nodes = tables.nodes.values().filter(|node| node.id.starts_with(&prefix));
        Ok(nodes.map(|node| node.stub(&version)).collect::<Vec<Value>>().into())
    })
    .await
}

pub(super) async fn node(site: &Site, request: Request, id: &str) -> Reply {
    let version = site.cluster.switches.version();
    let (id, other) = (id.to_owned(), id.to_owned());
    let index = move |tables: &Tables| {
        let known = tables.nodes.get(&id).map(|node| node.modify_index);
        let index = known.unwrap_or_else(|| tables.last(Table::Nodes));
        (index, index)
    };
    routes::read(site, request, index, move |tables| {
        let known = tables.nodes.get(&other).map(|node| node.detail(&version));
        known.ok_or((404, "node not found".to_owned()))
    })
    .await
}
