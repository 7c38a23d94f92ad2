//! The daemon's end: asks a worker to run an attempt, and reads what happens.

use std::{convert::Infallible, time::Duration};

use futures_util::stream;
use reqwest::{Body, Client, Method, RequestBuilder, Response, StatusCode, Url, header, redirect};
use tokio::sync::mpsc;

use super::{
    Facts, RELEASE, RefusalKind, WorkerSecret,
    exchange::{EXECUTIONS, INPUT, LEASE_HEADER, RELEASE_HEADER, Refusal, SILENCE, WORKER},
};
use crate::protocol::{
    Event, ExecutionRequest, Input,
    lines::{LineDecoder, LineError},
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end of a run may take to be confirmed: its processes are killed, and compiled programs
/// removed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a worker may take to say what it is.
const FACTS_TIMEOUT: Duration = Duration::from_secs(2);

/// The most that it says then, in bytes.
const FACTS_BYTES: usize = 64 << 10;

/// After a silence, what came while this process itself stood still may be waiting to be read.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// What a way to a worker carries in a second at the least, in bytes.
const SLOWEST_WAY: u32 = 256 << 10;

/// Asks workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerClient {
    http: Client,
    secret: WorkerSecret,
}

/// A worker did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// It says why not.
    #[error("{1}")]
    Refused(RefusalKind, String),
    /// It gives no answer in time.
    #[error("it gives no answer within {} s", SILENCE.as_secs())]
    Silent,
    /// It cannot be reached.
    #[error("it cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Something answers that is no worker.
    #[error("what answers there is no worker: status {0}")]
    Odd(StatusCode),
}

/// A run was not followed to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Not even a heartbeat came.
    #[error("its worker has said nothing for {} s", SILENCE.as_secs())]
    Silent,
    /// The connection ended before the last event.
    #[error("the connection to its worker broke")]
    Broken(#[source] Option<reqwest::Error>),
    /// What came is no line of the protocol.
    #[error("its worker does not keep to the protocol")]
    Malformed(#[source] LineError),
}

/// An attempt in a worker's slot. Dropping it ends the attempt, once the worker notices.
#[derive(Debug)]
pub struct Leased {
    /// Names it to the worker.
    pub lease: String,
    response: Response,
    lines: Lines,
}

/// Lines, those that are mere heartbeats left out.
#[derive(Debug)]
struct Lines {
    decoder: LineDecoder,
    /// Whether the next byte begins a line.
    at_start: bool,
}

impl WorkerClient {
    /// A client that shows this secret.
    ///
    /// # Errors
    /// No HTTP client can be built.
    pub fn new(secret: WorkerSecret) -> Result<WorkerClient, reqwest::Error> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // Workers never redirect, and nobody else is to have the secret.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(WorkerClient { http, secret })
    }

    /// Has the worker at `base` run an attempt. Returns when it has begun.
    ///
    /// # Errors
    /// See [`CallError`]. After [`CallError::Silent`] or a lost answer something of the attempt may have
    /// begun; the worker ends it when it notices that nobody listens.
    pub async fn execute(
        &self,
        base: &Url,
        request: &ExecutionRequest,
    ) -> Result<Leased, CallError> {
        let line = serde_json::to_vec(request).expect("requests have no keys other than text");
        let upload = Duration::from_secs(1) * (line.len() as u32 / SLOWEST_WAY);
        let request = self.request(Method::POST, base, &[EXECUTIONS]).body(line);
        let response = answer(request, SILENCE + upload).await?;
        let lease = response.headers().get(LEASE_HEADER).and_then(|name| name.to_str().ok());
        let lease = lease.ok_or(CallError::Odd(response.status()))?.to_owned();
        Ok(Leased { lease, response, lines: Lines::default() })
    }

    /// Has a worker end an attempt; returns when nothing of it is left. Fine for one that is over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn end(&self, base: &Url, lease: &str) -> Result<(), CallError> {
        let request = self.request(Method::DELETE, base, &[EXECUTIONS, lease]);
        answer(request, END_TIMEOUT).await.map(drop)
    }

    /// Passes on what reaches the program of a lease while it runs, until nobody is left to send, or the run is
    /// over. When it returns the program's input has ended, or is about to. Dropping the future ends the run.
    ///
    /// # Errors
    /// See [`CallError`]; the run ends, or cannot be talked to.
    pub async fn send_input(
        &self,
        base: &Url,
        lease: &str,
        input: mpsc::Receiver<Input>,
    ) -> Result<(), CallError> {
        let lines = stream::unfold(input, async |mut input| {
            let line = input.recv().await?.encode();
            Some((Ok::<_, Infallible>(line), input))
        });
        let request = self.request(Method::POST, base, &[EXECUTIONS, lease, INPUT]);
        let sent = request.body(Body::wrap_stream(lines)).send().await;
        match sent.map_err(|error| CallError::Unreachable(error.without_url()))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(CallError::Odd(status)),
        }
    }

    /// What a worker says of itself.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn facts(&self, base: &Url) -> Result<Facts, CallError> {
        let read = async {
            let mut response = answer(self.request(Method::GET, base, &[WORKER]), SILENCE).await?;
            let odd = CallError::Odd(response.status());
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(CallError::Unreachable)? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > FACTS_BYTES {
                    return Err(odd);
                }
            }
            serde_json::from_slice(&bytes).map_err(|_| odd)
        };
        tokio::time::timeout(FACTS_TIMEOUT, read).await.unwrap_or(Err(CallError::Silent))
    }

    fn request(&self, method: Method, base: &Url, path: &[&str]) -> RequestBuilder {
        let url = format!("{}/{}", base.as_str().trim_end_matches('/'), path.join("/"));
        self.http
            .request(method, url)
            .header(header::AUTHORIZATION, self.secret.header())
            .header(RELEASE_HEADER, RELEASE)
    }
}

/// The head of a good answer.
async fn answer(request: RequestBuilder, patience: Duration) -> Result<Response, CallError> {
    let response = match tokio::time::timeout(patience, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(CallError::Unreachable(error.without_url())),
        Err(_elapsed) => return Err(CallError::Silent),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let refusal = tokio::time::timeout(patience, response.json::<Refusal>()).await;
    match refusal {
        Ok(Ok(Refusal { refused, detail })) => Err(CallError::Refused(refused, detail)),
        _ => Err(CallError::Odd(status)),
    }
}

impl Leased {
    /// The next event; none when the run is over and nothing of it is left.
    ///
    /// # Errors
    /// See [`RunError`]. Whether the last event came is the caller's to know.
    pub async fn next(&mut self) -> Result<Option<Event>, RunError> {
        loop {
            if let Some(event) = self.lines.decoder.next_event().map_err(RunError::Malformed)? {
                return Ok(Some(event));
            }
            let mut next = std::pin::pin!(self.response.chunk());
            let chunk = match tokio::time::timeout(SILENCE, next.as_mut()).await {
                Ok(chunk) => chunk,
                Err(_elapsed) => tokio::time::timeout(LAST_LOOK, next)
                    .await
                    .map_err(|_elapsed| RunError::Silent)?,
            };
            match chunk {
                Ok(Some(chunk)) => self.lines.push(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(RunError::Broken(Some(error.without_url()))),
            }
        }
    }
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { decoder: LineDecoder::new(), at_start: true }
    }
}

impl Lines {
    /// Adds the next bytes, cut anywhere.
    fn push(&mut self, mut chunk: &[u8]) {
        while let [first, rest @ ..] = chunk {
            if self.at_start && *first == b'\n' {
                chunk = rest;
                continue;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = chunk.split_at(end.map_or(chunk.len(), |end| end + 1));
            self.decoder.push(piece);
            self.at_start = end.is_some();
            chunk = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{EventKind, VERSION, lines};

    proptest! {
        #[test]
        fn heartbeats_are_left_out_wherever_the_bytes_are_cut(
            beats in proptest::collection::vec(0usize..3, 1..8),
            cuts in proptest::collection::vec(1usize..60, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (seq, beats) in (0..).zip(&beats) {
                bytes.extend(std::iter::repeat_n(b'\n', *beats));
                bytes.extend(lines::encode(&Event { v: VERSION, seq, kind: EventKind::Started }));
            }
            bytes.push(b'\n');
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at(rest.len().min(*cut));
                lines.push(piece);
                rest = more;
                while let Some(event) = lines.decoder.next_event().unwrap() {
                    seen.push(event.seq);
                }
            }
            prop_assert_eq!(seen, (0..beats.len() as u64).collect::<Vec<_>>());
        }
    }
}
