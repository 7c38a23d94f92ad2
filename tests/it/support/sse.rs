//! Server-sent events as a client reads them.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use super::app::TestApp;

/// How long the next message may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One who follows a submission.
#[derive(Debug)]
pub(crate) struct Follower {
    response: Response,
    buffer: Vec<u8>,
    /// Comments that came until now.
    pub(crate) beats: usize,
}

/// One message, with its `data` as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Follower {
    /// Follows from the acceptance, or from behind an event.
    pub(crate) async fn of(app: &TestApp, id: &str, after: Option<u64>) -> Follower {
        let mut request =
            app.request(reqwest::Method::GET, &format!("/v1/submissions/{id}/events"));
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Follower { response, buffer: Vec::new(), beats: 0 }
    }

    /// The next message; `None` when the answer has ended, or was cut off.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("UTF-8");
                if block.starts_with(':') {
                    self.beats += 1;
                } else if let Some(message) = message(&block) {
                    return Some(message);
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            match chunk.expect("something comes") {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// All messages until the end.
    pub(crate) async fn rest(mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.next().await {
            all.push(message);
        }
        all
    }

    /// The next message of a kind.
    pub(crate) async fn next_of(&mut self, event: &str) -> Message {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("{event} before the end"));
            if message.event == event {
                return message;
            }
        }
    }
}

/// None where it only says how soon to come back.
fn message(block: &str) -> Option<Message> {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name));
        let values: Vec<_> = lines.filter_map(|rest| rest.strip_prefix(": ")).collect();
        assert!(values.len() <= 1, "{name} twice in {block:?}");
        values.first().map(|value| (*value).to_owned())
    };
    let data = field("data")?;
    Some(Message {
        id: field("id")?.parse().unwrap(),
        event: field("event")?,
        data: serde_json::from_str(&data).unwrap(),
    })
}

/// The bytes that one stream of the first run gave in these messages.
pub(crate) fn output(messages: &[Message], event: &str) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let of_kind = messages.iter().filter(|message| message.event == event);
    let bytes = of_kind.flat_map(|message| {
        let data = message.data["data"].as_str().unwrap();
        match message.data["encoding"].as_str().unwrap() {
            "utf8" => data.as_bytes().to_vec(),
            _ => STANDARD.decode(data).unwrap(),
        }
    });
    bytes.collect()
}
