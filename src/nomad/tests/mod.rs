//! The client against small servers that answer, refuse and break as a test wants it.

mod connections;
mod failover;
mod server;
mod tokens;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use server::{Act, Closed, Server};

use super::*;

const EMPTY: Act = Act::Answer(200, "[]");
const NO_LEADER: Act = Act::Answer(500, "rpc error: No cluster leader");
const CHILD: Act = Act::Answer(200, r#"{"DispatchedJobID":"run/dispatch-1","EvalID":"e"}"#);

/// How long anything may take here.
const DEADLINE: Duration = Duration::from_secs(20);

fn client(urls: Vec<Url>) -> Client {
    Client::new(&ClientSettings::default(), Servers::fixed(urls)).unwrap()
}

async fn dispatch(client: &Client, token: Option<&str>) -> Result<Dispatched, NomadError> {
    client.dispatch("run", b"payload", &BTreeMap::new(), token).await
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn job_ids_are_escaped_and_a_base_path_is_kept() {
    let client = client(Vec::new());
    let request = client.request(Method::GET, &["job", "a/dispatch-1 2"]);
    let url = request.url(&Url::parse("http://localhost:1/nomad/").unwrap());
    assert_eq!(url.as_str(), "http://localhost:1/nomad/v1/job/a%2Fdispatch-1%202");
}

#[test]
fn namespace_and_region_go_with_every_call() {
    let settings = ClientSettings {
        namespace: Some("judges".to_owned()),
        region: Some("eu".to_owned()),
        ..ClientSettings::default()
    };
    let client = Client::new(&settings, Servers::fixed(Vec::new())).unwrap();
    let url = Url::parse(DEFAULT_ADDRESS).unwrap();
    for client in [client.at(url.clone()), client] {
        let url = client.request(Method::GET, &["nodes"]).url(&url);
        assert_eq!(url.as_str(), "http://127.0.0.1:4646/v1/nodes?region=eu&namespace=judges");
    }
}
