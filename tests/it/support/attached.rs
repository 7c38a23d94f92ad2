//! A client of `/attach`.

use std::{future::Future, panic::Location, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Method, StatusCode, Upgraded};
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::client::generate_key,
        protocol::{Message, Role},
    },
};

use super::{
    answer::{Answer, whole},
    app::TestApp,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who is attached to a submission.
pub(crate) struct Attached {
    socket: WebSocketStream<Upgraded>,
    /// Every event that came.
    pub(crate) events: Vec<Value>,
    /// Output that was not waited for yet.
    said: String,
    /// The code and the reason of the end.
    pub(crate) closed: Option<(u16, String)>,
}

impl Attached {
    /// Attaches; `query` is empty, or begins with a question mark.
    pub(crate) async fn to(app: &TestApp, id: &str, query: &str) -> Attached {
        match Attached::try_to(app, &format!("/v1/submissions/{id}/attach{query}"), &[]).await {
            Ok(attached) => attached,
            Err(answer) => panic!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
        }
    }

    /// The same at any path, with more headers; the answer where there is no conversation.
    pub(crate) async fn try_to(
        app: &TestApp,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Attached, Answer> {
        let mut request = app
            .request(Method::GET, path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(whole(response).await.unwrap());
        }
        let upgraded = response.upgrade().await.unwrap();
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        Ok(Attached { socket, events: Vec::new(), said: String::new(), closed: None })
    }

    /// Sends bytes for standard input.
    pub(crate) async fn send(&mut self, data: &str) {
        self.socket.send(Message::binary(data.as_bytes().to_vec())).await.unwrap();
    }

    /// Sends a message of the client's.
    pub(crate) async fn say(&mut self, message: Value) {
        self.say_raw(&message.to_string()).await;
    }

    /// The same as it stands.
    pub(crate) async fn say_raw(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Closes the conversation at once, and waits for nothing.
    pub(crate) async fn leave(mut self) {
        self.socket.send(Message::Close(None)).await.unwrap();
    }

    /// Sends pings; how many of them were answered when nothing more comes for a second, or at the end.
    pub(crate) async fn ping(&mut self, count: usize) -> usize {
        for _ in 0..count {
            if self.socket.send(Message::Ping(Default::default())).await.is_err() {
                break;
            }
        }
        let mut answered = 0;
        loop {
            match timeout(Duration::from_secs(1), self.socket.next()).await {
                Ok(Some(Ok(Message::Pong(_)))) => answered += 1,
                Ok(Some(Ok(Message::Close(frame)))) => {
                    self.closed = frame.map(|it| (it.code.into(), it.reason.to_string()));
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) | Err(_) => return answered,
            }
        }
    }

    /// Takes the next event; false at the end.
    async fn next(&mut self) -> bool {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if matches!(event["type"].as_str(), Some("stdout" | "stderr")) {
                        self.said.push_str(event["data"].as_str().unwrap());
                    }
                    self.events.push(event);
                    return true;
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.expect("a code");
                    self.closed = Some((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// Waits until the program has written this, behind what was waited for before.
    #[track_caller]
    pub(crate) fn hear<'a>(&'a mut self, words: &'a str) -> impl Future<Output = ()> + 'a {
        let from = Location::caller();
        async move {
            let heard = timeout(PATIENCE, async {
                while !self.said.contains(words) {
                    if !self.next().await {
                        return false;
                    }
                }
                true
            });
            let heard = heard.await.unwrap_or(false);
            assert!(heard, "{from}: no {words:?} in {:?}", self.said);
            let end = self.said.find(words).expect("it is there") + words.len();
            self.said.drain(..end);
        }
    }

    /// Reads to the end; what was written and not waited for.
    pub(crate) async fn rest(&mut self) -> String {
        let read = timeout(PATIENCE, async { while self.next().await {} });
        read.await.expect("an end");
        std::mem::take(&mut self.said)
    }

    /// Reads to the end; the verdict.
    pub(crate) async fn verdict(&mut self) -> String {
        self.rest().await;
        assert_eq!(self.closed, Some((1000, "finished".to_owned())), "{:?}", self.events);
        let last = self.events.last().unwrap();
        assert_eq!(last["type"], "finished", "{last}");
        last["verdict"].as_str().unwrap().to_owned()
    }
}
