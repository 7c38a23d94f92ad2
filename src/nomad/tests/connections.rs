//! How many requests and connections there are at once.

use tokio::task::JoinSet;

use super::{
    super::budget::{MOST, MOST_IDLE},
    *,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_calls_at_once_are_forty_at_a_time() {
    let server = Server::always(Act::Hold).await;
    let client = client(vec![server.url()]);
    let mut calls = JoinSet::new();
    for number in 0..100 {
        // Clients for one agent alone count too.
        let client = if number % 2 == 0 { client.clone() } else { client.at(server.url()) };
        calls.spawn(async move { client.nodes().await.map(drop) });
    }
    let seen = server.seen.clone();
    until("forty are under way", || seen.under_way.now() == MOST).await;
    assert_eq!(seen.connections.now(), MOST);
    server.let_go(100);
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    assert_eq!(server.requests().len(), 100);
    assert_eq!(seen.under_way.most(), MOST);
    until("idle connections are few", || seen.connections.now() <= MOST_IDLE).await;
    // A connection that is about to be kept for later may meet a new one that was not needed.
    assert!(seen.connections.most() < MOST + MOST_IDLE, "{}", seen.connections.most());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_its_place_until_it_is_dropped_and_leaves_places_to_calls() {
    let act = |line: &str, _| if line.contains("/logs/") { Act::Stream } else { EMPTY };
    let server = Server::start(act).await;
    let client = client(vec![server.url()]);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(client.stdout("a", "runner", 0).await.unwrap());
    }
    assert_eq!(server.seen.under_way.now(), 20);
    let mut waiting = JoinSet::new();
    let another = client.clone();
    waiting.spawn(async move { another.stdout("b", "runner", 0).await });

    client.nodes().await.unwrap();
    assert_eq!(server.requests().iter().filter(|line| line.contains("/logs/")).count(), 20);

    let mut last = streams.pop().unwrap();
    assert_eq!(last.next().await.unwrap().unwrap(), b"["[..]);
    drop(last);
    let stream = waiting.join_next().await.unwrap().unwrap();
    stream.unwrap();
    assert!(server.requests().last().unwrap().starts_with("GET /v1/client/fs/logs/b?"));
}

#[tokio::test]
async fn queries_that_wait_for_news_leave_places_to_calls() {
    let act = |line: &str, _| if line.contains("wait=") { Act::Hold } else { EMPTY };
    let server = Server::start(act).await;
    let client = client(vec![server.url()]);
    let mut queries = JoinSet::new();
    for _ in 0..MOST {
        let client = client.clone();
        let blocking = Blocking { index: 1, wait: DEADLINE };
        queries.spawn(async move { client.allocations("a", Some(blocking)).await.map(drop) });
    }
    until("as many wait as may", || server.seen.under_way.now() == 12).await;
    client.nodes().await.unwrap();
    server.let_go(MOST);
    while let Some(query) = queries.join_next().await {
        query.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_gives_its_place_back() {
    let server = Server::always(Act::Hold).await;
    let client = client(vec![server.url()]);
    for round in 1..=3 {
        let mut calls = JoinSet::new();
        for _ in 0..MOST {
            let client = client.clone();
            calls.spawn(async move { client.nodes().await.map(drop) });
        }
        until("all are under way", || server.requests().len() == round * MOST).await;
        calls.shutdown().await;
    }
    server.let_go(1000);
    client.nodes().await.unwrap();
}
