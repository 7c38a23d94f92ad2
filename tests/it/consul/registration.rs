//! A service that keeps itself registered.

use std::time::{Duration, Instant};

use braindrill::consul::{
    CheckKind, Client, ClientSettings, Instance, ServiceDefinition, keep_registered, watch_service,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::{Backstage, poll, until, with_ttl};
use crate::support::consul_agent::ConsulAgent;

/// Something that says that it is well to whoever asks. Ends with the value.
async fn well() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/healthz/live", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, tasks)
}

fn with_http(id: &str, url: &str) -> ServiceDefinition {
    let mut service = with_ttl(id, "http", Duration::from_secs(10));
    service.name = "braindrill".to_owned();
    service.check.kind = CheckKind::Http {
        url: url.to_owned(),
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(5),
    };
    service
}

async fn healthy(client: &Client, service: &str) -> Vec<Instance> {
    client.healthy_instances(service, None, None).await.unwrap().value
}

#[tokio::test]
async fn a_service_is_found_once_consul_saw_that_it_is_well_and_gone_after_the_end() {
    let Some(agent) = ConsulAgent::start().await else { return };
    let (client, stage) = (agent.client(), Backstage::new());
    let (url, _well) = well().await;
    let service = with_http("braindrill-1", &url);
    let mut there = keep_registered(agent.client(), service.clone(), &stage.background);
    until(&mut there, "registered", |there| *there).await;
    let registered = client.registered("braindrill-1").await.unwrap().unwrap();
    assert_eq!((registered.name.as_str(), registered.port), ("braindrill", 7311));
    let ask = async || healthy(&client, "braindrill").await;
    let found = poll("healthy", ask, |found| !found.is_empty()).await;
    assert_eq!(found[0].id, "braindrill-1");
    assert_eq!((found[0].tags.clone(), found[0].meta.clone()), (service.tags, service.meta));

    stage.end().await;
    assert!(!*there.borrow());
    assert_eq!(client.registered("braindrill-1").await.unwrap(), None);
    assert_eq!(healthy(&client, "braindrill").await, []);
}

#[tokio::test]
async fn a_service_that_its_check_finds_dead_is_not_healthy() {
    let Some(agent) = ConsulAgent::start().await else { return };
    let (client, stage) = (agent.client(), Backstage::new());
    let (url, well) = well().await;
    let mut watched = watch_service(agent.client(), "braindrill", None, &stage.background);
    keep_registered(agent.client(), with_http("braindrill-1", &url), &stage.background);
    until(&mut watched, "healthy", |known| known.as_ref().is_some_and(|all| all.len() == 1)).await;
    drop(well);
    until(&mut watched, "ill", |known| known.as_ref().is_some_and(Vec::is_empty)).await;
    assert!(client.registered("braindrill-1").await.unwrap().is_some(), "it is still registered");
    stage.end().await;
}

#[tokio::test]
async fn what_consul_lost_is_registered_again() {
    let Some(mut agent) = ConsulAgent::start().await else { return };
    let stage = Backstage::new();
    // Both ways of being well; the second is looked at every second because of its check.
    let (url, _well) = well().await;
    let services =
        [with_http("braindrill-1", &url), with_ttl("worker-1", "http", Duration::from_secs(3))];
    let mut there =
        services.clone().map(|service| keep_registered(agent.client(), service, &stage.background));
    for there in &mut there {
        until(there, "registered", |there| *there).await;
    }
    let back = async |client: &Client| {
        for service in &services {
            let ask = async || healthy(client, &service.name).await;
            poll("healthy", ask, |found| found.len() == 1).await;
        }
    };
    back(&agent.client()).await;

    // Somebody took them out.
    for service in &services {
        agent.client().deregister(&service.id).await.unwrap();
    }
    back(&agent.client()).await;

    // Somebody changed it.
    let mut changed = services[1].clone();
    changed.port = 1;
    agent.client().register(&changed).await.unwrap();
    let ask = async || agent.client().registered("worker-1").await.unwrap();
    poll("put right", ask, |found| found.as_ref().is_some_and(|found| found.port == 7311)).await;

    // Consul forgot all.
    agent.stop();
    for there in &mut there {
        until(there, "seen to be away", |there| !*there).await;
    }
    agent.start_again().await;
    back(&agent.client()).await;
    stage.end().await;
}

#[tokio::test]
async fn an_end_without_consul_takes_three_seconds_at_most() {
    // A port that takes connections and never answers: the worst of ways to be away.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ClientSettings {
        address: silent.local_addr().unwrap().to_string(),
        ..ClientSettings::default()
    };
    let stage = Backstage::new();
    let client = Client::new(&settings).unwrap();
    let service = with_ttl("worker-1", "http", Duration::from_secs(3));
    let there = keep_registered(client, service, &stage.background);
    // It has called and waits for the answer.
    let _held = silent.accept().await.unwrap();
    let begun = Instant::now();
    stage.end().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!*there.borrow());
}
