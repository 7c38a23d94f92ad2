//! A client of Consul's HTTP API: which services are there, being one of them, and single keys.
//!
//! It knows nothing of what the services are for. Made for Consul 1.8 and later; where versions
//! differ, the call says so. Calls stand in `health.rs`, `agent.rs` and `kv.rs`; what goes on by
//! itself, over restarts of Consul, in `watch.rs` and `registration.rs`:
//!
//! ```text
//!  Background (tasks, stop, troubles)
//!    watch_service(..)   --> Receiver<Option<Vec<Instance>>>    a blocking query after the other
//!    watch_key(..)       --> Receiver<KeyState>                 the same
//!    keep_registered(..) --> Receiver<bool>                     looks every 10 s, registers again
//! ```

mod agent;
mod background;
mod error;
mod health;
mod kv;
mod model;
mod pace;
mod registration;
mod settings;
mod watch;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use serde::de::DeserializeOwned;

pub use background::Background;
pub use error::{ConsulError, Problem, SettingsError};
pub use model::{Agent, Check, CheckKind, Instance, Registered, ServiceDefinition};
pub use registration::keep_registered;
pub use settings::ClientSettings;
pub use watch::{KeyState, watch_key, watch_service};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take beyond the wait that was asked for: an agent looks for a leader for
/// 7 s (`rpc_hold_timeout`) before it says that there is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// How much of an error's body is kept.
const MAX_ERROR_BYTES: usize = 4096;

/// A client of one Consul agent. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    namespace: Option<String>,
    datacenter: Option<String>,
}

/// An answer with the index to wait beyond in the next blocking query.
#[derive(Debug, Clone, PartialEq)]
pub struct Indexed<T> {
    /// The answer.
    pub value: T,
    /// Of the table that the answer was read from, so it also moves by what others do.
    pub index: u64,
}

/// Asks that the answer waits for something newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// Answer at once when the index is beyond this, and when this is 0.
    pub index: u64,
    /// Answer after this time in any case, and up to a sixteenth of it later.
    pub wait: Duration,
}

impl Client {
    /// A client for the agent of these settings. Reads the token's file and TLS's; connects to
    /// nothing yet.
    ///
    /// # Errors
    /// The address is no HTTP address, a file cannot be used, or a secret cannot stand in a header.
    pub fn new(settings: &ClientSettings) -> Result<Client, SettingsError> {
        let base = settings.url()?;
        let http = settings
            .tls
            .http_client()?
            .default_headers(settings.headers()?)
            .connect_timeout(CONNECT_TIMEOUT)
            // It would take the token to wherever it leads. Consul redirects no call that we make.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Client {
            http,
            base,
            namespace: settings.namespace.clone(),
            datacenter: settings.datacenter.clone(),
        })
    }

    /// The address that it asks.
    pub fn address(&self) -> &Url {
        &self.base
    }

    /// A request to the agent itself: `/v1/` and these segments, each escaped.
    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("the scheme is http or https")
            .pop_if_empty()
            .push("v1")
            .extend(segments);
        let request = self.http.request(method, url);
        match &self.namespace {
            Some(namespace) => request.query(&[("ns", namespace)]),
            None => request,
        }
    }

    /// A request to the servers of the datacenter.
    fn cluster_request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let request = self.request(method, segments);
        match &self.datacenter {
            Some(datacenter) => request.query(&[("dc", datacenter)]),
            None => request,
        }
    }

    /// The answer when it is a success; an error's text is read with it.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ConsulError> {
        let response = request.send().await.map_err(ConsulError::sending)?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn done(&self, request: RequestBuilder) -> Result<(), ConsulError> {
        self.send(request.timeout(ANSWER_TIMEOUT)).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ConsulError> {
        decode(self.send(request.timeout(ANSWER_TIMEOUT)).await?).await
    }
}

/// The request as a blocking query, with the time that its answer may take.
fn blocking(request: RequestBuilder, blocking: Option<Blocking>) -> RequestBuilder {
    let Some(Blocking { index, wait }) = blocking else { return request.timeout(ANSWER_TIMEOUT) };
    let query = [("index", index.to_string()), ("wait", go_duration(wait))];
    request.query(&query).timeout(ANSWER_TIMEOUT + wait + wait / 16)
}

fn index_of(response: &Response) -> Option<u64> {
    response.headers().get("X-Consul-Index")?.to_str().ok()?.parse().ok()
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, ConsulError> {
    let bytes = response.bytes().await.map_err(ConsulError::Interrupted)?;
    serde_json::from_slice(&bytes).map_err(ConsulError::Undecodable)
}

async fn refusal(response: Response) -> ConsulError {
    let status = response.status().as_u16();
    let body = error_body(response).await;
    ConsulError::Answered { status, problem: Problem::classify(status, &body), body }
}

/// The beginning of the body, as far as it comes: the status alone tells enough to go on.
async fn error_body(mut response: Response) -> String {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(MAX_ERROR_BYTES);
    String::from_utf8_lossy(&body).trim().to_owned()
}

/// A duration as Go reads it.
fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_a_base_path_is_kept() {
        let settings = ClientSettings {
            address: "http://localhost:1/consul/".to_owned(),
            datacenter: Some("dc 2".to_owned()),
            namespace: Some("judges".to_owned()),
            ..ClientSettings::default()
        };
        let client = Client::new(&settings).unwrap();
        let url = |request: RequestBuilder| request.build().unwrap().url().to_string();
        assert_eq!(
            url(client.request(Method::GET, &["agent", "service", "a/b 1"])),
            "http://localhost:1/consul/v1/agent/service/a%2Fb%201?ns=judges"
        );
        let asked = Blocking { index: 7, wait: Duration::from_secs(2) };
        assert_eq!(
            url(blocking(client.cluster_request(Method::GET, &["kv", "a"]), Some(asked))),
            "http://localhost:1/consul/v1/kv/a?ns=judges&dc=dc+2&index=7&wait=2000ms"
        );
    }
}
