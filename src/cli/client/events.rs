//! A submission followed: server-sent events, taken up again behind the last one when they are cut off.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::{Server, refusal, text};

/// How long a daemon may be away before it is given up: it restarts within seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before asking again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// The longest that nothing may come: heartbeats come every 15 s.
pub(super) const SILENCE: Duration = Duration::from_secs(45);
/// The longest event: 64 KiB of output, of which each byte may be six in JSON, and some more.
const LONGEST: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Event {
    /// `state`, `compile`, `stdout`, `stderr`, `test` or `finished`.
    pub(in crate::cli) kind: String,
    /// The attempt that it belongs to.
    pub(in crate::cli) attempt: u64,
    /// All of it.
    pub(in crate::cli) value: Value,
}

impl Event {
    pub(in crate::cli) fn new(value: Value) -> Event {
        let kind = text(&value, "/type").to_owned();
        Event { kind, attempt: value["attempt"].as_u64().unwrap_or(0), value }
    }

    /// The bytes of output in it.
    pub(in crate::cli) fn output(&self) -> Vec<u8> {
        super::output(&self.value)
    }
}

/// The events of a submission, from the first.
#[derive(Debug)]
pub(in crate::cli) struct Events {
    server: Server,
    path: String,
    open: Option<Response>,
    buffer: Vec<u8>,
    /// The number of the last event.
    last: Option<u64>,
    has_ended: bool,
}

impl Events {
    pub(super) fn new(server: Server, path: String) -> Events {
        Events { server, path, open: None, buffer: Vec::new(), last: None, has_ended: false }
    }

    /// The next event; `None` after the last. May be dropped while it waits.
    ///
    /// # Errors
    /// The daemon is away for longer than a restart takes, or has no such submission any more.
    pub(in crate::cli) async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let mut away_since: Option<Instant> = None;
        while !self.has_ended {
            if let Some(value) = take_event(&mut self.buffer)? {
                let event = Event::new(value);
                self.last = event.value["n"].as_u64().or(self.last);
                self.has_ended = event.kind == "finished";
                return Ok(Some(event));
            }
            let read = match &mut self.open {
                Some(response) => {
                    let chunk = tokio::time::timeout(SILENCE, response.chunk()).await;
                    chunk.map_or(Ok(None), |chunk| chunk.map_err(anyhow::Error::new))
                }
                None => match self.connect().await? {
                    Connected::Yes => continue,
                    Connected::Over => return Ok(None),
                    Connected::No(error) => Err(error),
                },
            };
            match read {
                Ok(Some(chunk)) => {
                    away_since = None;
                    self.buffer.extend_from_slice(&chunk);
                }
                // Cut off, in the middle of an event perhaps.
                Ok(None) | Err(_) => {
                    self.open = None;
                    self.buffer.clear();
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        let error = read.err().unwrap_or_else(|| anyhow::anyhow!("it was cut off"));
                        return Err(error.context(self.server.is_away()));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(None)
    }

    async fn connect(&mut self) -> anyhow::Result<Connected> {
        let mut request = self.server.request(Method::GET, &self.path);
        if let Some(last) = self.last {
            request = request.header("Last-Event-ID", last);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Connected::No(error.into())),
        };
        match response.status() {
            StatusCode::OK => {
                self.open = Some(response);
                Ok(Connected::Yes)
            }
            StatusCode::NO_CONTENT => Ok(Connected::Over),
            status if status.is_server_error() => {
                Ok(Connected::No(anyhow::anyhow!("the daemon answers {status}")))
            }
            status => bail!("{}", refusal(status, &response.bytes().await.unwrap_or_default())),
        }
    }
}

enum Connected {
    Yes,
    /// Nothing is to come any more.
    Over,
    No(anyhow::Error),
}

/// Takes the data of the next whole event out of what has come; comments are passed over.
fn take_event(buffer: &mut Vec<u8>) -> anyhow::Result<Option<Value>> {
    while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let mut lines = block.split(|&byte| byte == b'\n');
        if let Some(data) = lines.find_map(|line| line.strip_prefix(b"data: ")) {
            let value = serde_json::from_slice(data).context("an event is no JSON")?;
            return Ok(Some(value));
        }
    }
    if buffer.len() > LONGEST {
        bail!("what answers sends no events of braindrill");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_however_they_come() {
        let sent = b"retry: 1000\n\n:\n\nid: 1\nevent: stdout\ndata: {\"type\":\"stdout\",\"n\":1}\n\nid: 2";
        let mut buffer = Vec::new();
        let mut taken = Vec::new();
        for byte in sent {
            buffer.push(*byte);
            taken.extend(take_event(&mut buffer).unwrap());
        }
        assert_eq!(taken, [serde_json::json!({ "type": "stdout", "n": 1 })]);
        assert_eq!(buffer, b"id: 2");
    }

    #[test]
    fn what_never_ends_is_no_event() {
        assert!(take_event(&mut vec![b'x'; LONGEST + 1]).is_err());
        assert!(take_event(&mut b"data: {\n\n".to_vec()).is_err());
    }

    #[test]
    fn output_is_bytes() {
        let event = |data, encoding| {
            Event::new(serde_json::json!({ "type": "stdout", "data": data, "encoding": encoding }))
        };
        assert_eq!(event("ä\n", "utf8").output(), "ä\n".as_bytes());
        assert_eq!(event("/wA=", "base64").output(), [0xff, 0]);
    }
}
