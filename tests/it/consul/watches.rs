//! What is watched, over changes and over an absence of Consul.

use braindrill::consul::{Instance, KeyState, watch_key, watch_service};

use super::{Backstage, DEADLINE, enter, until};
use crate::support::consul_agent::ConsulAgent;

fn ids(known: &Option<Vec<Instance>>) -> Option<Vec<&str>> {
    known.as_ref().map(|found| found.iter().map(|each| each.id.as_str()).collect())
}

#[tokio::test]
async fn healthy_instances_come_and_go_as_they_do_in_consul() {
    let Some(agent) = ConsulAgent::start().await else { return };
    let (client, stage) = (agent.client(), Backstage::new());
    let mut watched =
        watch_service(agent.client(), "braindrill-worker", Some("http"), &stage.background);
    assert_eq!(*watched.borrow(), None, "nothing is known before Consul answered");
    until(&mut watched, "known to be nobody", |known| ids(known) == Some(vec![])).await;

    enter(&client, "one", "http").await;
    let known = until(&mut watched, "one", |known| ids(known) == Some(vec!["one"])).await.unwrap();
    assert_eq!(known[0].authority(), "127.0.0.1:7311");
    assert_eq!(known[0].meta["slots"], "4");

    // Another tag is none of ours, and one whose check never passed is not healthy.
    enter(&client, "other", "rpc").await;
    client.register(&super::with_ttl("ill", "http", DEADLINE)).await.unwrap();
    enter(&client, "two", "http").await;
    until(&mut watched, "two", |known| ids(known) == Some(vec!["one", "two"])).await;

    client.deregister("one").await.unwrap();
    until(&mut watched, "the second", |known| ids(known) == Some(vec!["two"])).await;
    client.deregister("two").await.unwrap();
    until(&mut watched, "nobody", |known| ids(known) == Some(vec![])).await;
    stage.end().await;
}

#[tokio::test]
async fn what_was_known_stays_while_consul_is_away_and_is_renewed_when_it_is_back() {
    let Some(mut agent) = ConsulAgent::start().await else { return };
    let stage = Backstage::new();
    // So that its index is beyond all that the next Consul has.
    for number in 0..20 {
        agent.client().put_key("filler", format!("{number}")).await.unwrap();
    }
    enter(&agent.client(), "before", "http").await;
    agent.client().put_key("braindrill/settings", "before").await.unwrap();
    let mut services =
        watch_service(agent.client(), "braindrill-worker", Some("http"), &stage.background);
    let mut key = watch_key(agent.client(), "braindrill/settings", &stage.background);
    until(&mut services, "there", |known| ids(known) == Some(vec!["before"])).await;
    until(&mut key, "there", |key| *key == KeyState::Value("before".into())).await;
    assert_eq!(stage.background.troubles(), Vec::<String>::new());

    agent.stop();
    let troubles = super::poll(
        "seen to be away",
        async || stage.background.troubles(),
        |troubles| troubles.len() == 2,
    )
    .await;
    assert!(troubles[0].starts_with("key braindrill/settings: "), "{troubles:?}");
    assert!(troubles[1].starts_with("service braindrill-worker with tag http: "), "{troubles:?}");
    assert_eq!(ids(&services.borrow()), Some(vec!["before"]));
    assert_eq!(*key.borrow(), KeyState::Value("before".into()));

    // It comes back with nothing of what it knew and counts from the beginning.
    agent.start_again().await;
    until(&mut services, "gone", |known| ids(known) == Some(vec![])).await;
    until(&mut key, "gone", |key| *key == KeyState::Absent).await;
    assert_eq!(stage.background.troubles(), Vec::<String>::new());
    enter(&agent.client(), "after", "http").await;
    agent.client().put_key("braindrill/settings", "after").await.unwrap();
    until(&mut services, "there anew", |known| ids(known) == Some(vec!["after"])).await;
    until(&mut key, "there anew", |key| *key == KeyState::Value("after".into())).await;
    stage.end().await;
}

#[tokio::test]
async fn a_key_is_seen_to_come_to_change_and_to_go() {
    let Some(agent) = ConsulAgent::start().await else { return };
    let (client, stage) = (agent.client(), Backstage::new());
    let mut key = watch_key(agent.client(), "braindrill/settings", &stage.background);
    assert_eq!(*key.borrow(), KeyState::Unread);
    until(&mut key, "absent", |key| *key == KeyState::Absent).await;
    for value in ["{}", "{\"slots\": 2}", ""] {
        client.put_key("braindrill/settings", value).await.unwrap();
        until(&mut key, value, |key| *key == KeyState::Value(value.into())).await;
    }
    client.delete_key("braindrill/settings").await.unwrap();
    until(&mut key, "absent again", |key| *key == KeyState::Absent).await;
    client.delete_key("braindrill/settings").await.unwrap();
    assert_eq!(client.get_key("braindrill/settings", None).await.unwrap().value, None);
    stage.end().await;
}

#[tokio::test]
async fn a_watch_that_nobody_reads_ends() {
    let Some(agent) = ConsulAgent::start().await else { return };
    let stage = Backstage::new();
    let mut watched = watch_service(agent.client(), "consul", None, &stage.background);
    until(&mut watched, "known", Option::is_some).await;
    drop(watched);
    stage.tasks.close();
    tokio::time::timeout(DEADLINE, stage.tasks.wait()).await.expect("the task ends by itself");
}
