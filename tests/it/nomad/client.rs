//! The client alone, against a whole Nomad.

use braindrill::nomad::{Blocking, Client, Problem};
use tokio::task::JoinSet;

use super::*;

/// A client of a Nomad, of which it knows an address where nobody listens too.
struct Several {
    client: Client,
    agent: Arc<Nomad>,
    /// Bound, so that nobody else gets its address.
    _closed: tokio::net::TcpSocket,
}

async fn client() -> Option<Several> {
    let agent = Nomad::shared().await;
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addresses =
        format!("http://{},http://{}", closed.local_addr().unwrap(), agent.host_and_port());
    let client = Client::new(&ClientSettings::default(), servers(&addresses)).unwrap();
    Some(Several { client, agent, _closed: closed })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_nomad_has_connections_all_succeed() {
    let Some(Several { client, .. }) = &client().await else { return };
    let mut calls = JoinSet::new();
    for number in 0..300 {
        let client = client.clone();
        calls.spawn(async move {
            // Given up on our side, a query keeps its connection on the server till its wait is over.
            let blocking = Blocking { index: u64::MAX >> 1, wait: Duration::from_millis(200) };
            if number % 3 == 0 {
                client.allocations("none", Some(blocking)).await.map(drop)
            } else {
                client.nodes().await.map(drop)
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_whether_it_honours_tokens() {
    let Some(Several { client, agent, .. }) = &client().await else { return };
    let own = agent.get("/v1/agent/self").await;
    let version = own["member"]["Tags"]["build"].as_str().unwrap();
    let numbers: Vec<u32> = version.split(['.', '-']).map_while(|each| each.parse().ok()).collect();
    let honours = numbers.as_slice() >= &[1, 1, 3][..];
    assert_eq!(client.honours_idempotency_tokens().await, honours, "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_servers_that_honour_tokens_a_dispatch_sent_twice_makes_one_child() {
    let stage = Stage::stand_in("true").await;
    stage.switches().set_version("1.1.3");
    let client = stage.agent.client();
    assert!(client.honours_idempotency_tokens().await);
    let job = &stage.job().name;
    let meta = BTreeMap::from([
        ("braindrill_submission", "none".to_owned()),
        ("braindrill_attempt", "1".to_owned()),
    ]);
    let first = client.dispatch(job, b"x", &meta, Some("none-1")).await.unwrap();
    let second = client.dispatch(job, b"x", &meta, Some("none-1")).await.unwrap();
    assert_eq!(first.job_id, second.job_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_with_a_token_is_taken_and_refusals_are_understood() {
    let Some(stage) = Stage::new("true").await else { return };
    let client = stage.agent.client();
    let meta = BTreeMap::from([
        ("braindrill_submission", "none".to_owned()),
        ("braindrill_attempt", "1".to_owned()),
    ]);
    let job = &stage.job().name;

    let child = client.dispatch(job, b"x", &meta, Some("none-1")).await.unwrap();
    assert!(child.job_id.starts_with(&format!("{job}/dispatch-")), "{child:?}");
    client.purge(&child.job_id).await.unwrap();

    let problem = async |job: &str, payload: &[u8]| {
        let error = client.dispatch(job, payload, &meta, Some("none-2")).await.unwrap_err();
        assert!(error.nothing_was_done());
        error.problem().unwrap()
    };
    assert_eq!(problem("nothing", b"x").await, Problem::JobMissing);
    assert_eq!(problem(job, &[0; MAX_PAYLOAD_BYTES + 1]).await, Problem::PayloadTooLarge);
    let error = client.stdout("00000000-0000-0000-0000-000000000000", "a", 0).await.unwrap_err();
    assert_eq!(error.problem(), Some(Problem::NoLogs));
}
