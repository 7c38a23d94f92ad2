//! What no real Consul does on demand: an index that moves all the time, and answers of others.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use braindrill::{
    consul::{Client, ClientSettings, ConsulError, watch_service},
    error_chain::error_chain,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};

use super::{Backstage, until};

/// Gives these answers in turn and then from the beginning. Ends with its value.
struct Script {
    client: Client,
    /// When each request came, and its first line.
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
    count: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Script {
    async fn new(answers: &'static [&'static str]) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let settings = ClientSettings { address, ..ClientSettings::default() };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let log = asked.clone();
        tasks.spawn(async move {
            for answer in answers.iter().cycle() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let line =
                    String::from_utf8_lossy(&head[..read]).lines().next().unwrap().to_owned();
                log.lock().unwrap().push((Instant::now(), line));
                counted.send_modify(|count| *count += 1);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Script { client: Client::new(&settings).unwrap(), asked, count, _tasks: tasks }
    }
}

#[tokio::test]
async fn an_index_that_goes_to_and_fro_makes_no_hot_loop() {
    let mut script = Script::new(&[
        "HTTP/1.1 200 OK\r\nconnection: close\r\nx-consul-index: 10\r\ncontent-length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nconnection: close\r\nx-consul-index: 5\r\ncontent-length: 2\r\n\r\n[]",
    ])
    .await;
    let stage = Backstage::new();
    let _watched = watch_service(script.client.clone(), "a", None, &stage.background);
    until(&mut script.count, "asked six times", |count| *count >= 6).await;
    stage.end().await;
    let asked = script.asked.lock().unwrap();
    // Between six starts there are five intervals of 250 ms; a busy machine blurs them a little.
    let took = asked[5].0 - asked[0].0;
    assert!(took > Duration::from_millis(1150), "six queries within {took:?}");
    for (number, (_, line)) in asked.iter().take(6).enumerate() {
        assert_eq!(line.contains("index=10&wait="), number % 2 == 1, "{number}: {line}");
    }
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_not_taken_for_consuls() {
    let page = Script::new(&[
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 15\r\n\r\n<html>hi</html>",
    ])
    .await;
    let refused = page.client.healthy_instances("a", None, None).await.unwrap_err();
    assert!(matches!(refused, ConsulError::Undecodable(_)), "{refused:?}");

    // A web server that knows no such path does not say that a key is absent.
    let lost = Script::new(&[
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlost",
    ])
    .await;
    let refused = lost.client.get_key("a", None).await.unwrap_err();
    assert_eq!(error_chain(&refused), "Consul answered 404: lost");

    // Nor is the token taken to where a redirection leads.
    let redirecting = Script::new(&[
        "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n",
    ])
    .await;
    let refused = redirecting.client.get_key("a", None).await.unwrap_err();
    assert!(matches!(refused, ConsulError::Answered { status: 302, .. }), "{refused:?}");
    assert_eq!(redirecting.asked.lock().unwrap().len(), 1);
}
