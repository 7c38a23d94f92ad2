//! A client of Nomad's HTTP API: the calls that dispatching and watching a batch job take.
//!
//! ```text
//!  jobs, files ──> Request ──> exchange ──> the server that answered last, else the next one
//!                                 └── budget: a place among 40, until the body is read
//! ```
//!
//! It knows nothing of submissions. Its caller is `backend/nomad.rs`. Made for Nomad 1.1 and later;
//! where versions differ, the call says so.

mod budget;
mod error;
mod events;
mod exchange;
mod files;
mod jobs;
mod model;
mod servers;
mod settings;
#[cfg(test)]
mod tests;
mod version;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

use budget::{Budget, Purpose};
pub use error::{NomadError, Problem, SettingsError};
pub use events::{Batch, EventStream};
use exchange::{Answer, Request};
pub use files::LogStream;
pub use jobs::{child_prefix, prefix_of_child};
pub use model::{
    Allocation, Dispatched, Driver, Evaluation, Job, JobStub, Node, PlacementFailure, TaskEvent,
    TaskState,
};
pub use servers::Servers;
pub use settings::{ClientSettings, DEFAULT_ADDRESS, address_from_env, addresses};

/// How long an answer may take beyond the wait that was asked for: a server without a leader holds
/// a request for 5 s (`RPCHoldTimeout`) before it says so, and forwards it once more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of a Nomad cluster. Cheap to clone; clones, and those that [`Client::at`] makes, share
/// their connections and the budget of them.
#[derive(Debug, Clone)]
pub struct Client {
    servers: Servers,
    shared: Arc<Shared>,
}

/// What all clients of a daemon have in common.
struct Shared {
    http: reqwest::Client,
    region: Option<String>,
    namespace: Option<String>,
    budget: Budget,
    tokens: version::Known,
    randomness: RandomState,
    salts: AtomicU64,
}

impl Shared {
    /// Any number, to keep clients from asking at the same time.
    fn salt(&self) -> u64 {
        self.randomness.hash_one(self.salts.fetch_add(1, Ordering::Relaxed))
    }
}

impl std::fmt::Debug for Shared {
    /// Without the HTTP client, whose headers hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("region", &self.region)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
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
    /// Answer at once when the index is beyond this.
    pub index: u64,
    /// Answer after this time in any case. Keep it short: a closed connection does not end a query
    /// on the server, and an address has 100 connections (`http_max_conns_per_client`).
    pub wait: Duration,
}

impl Client {
    /// A client that asks these servers. Connects to nothing yet.
    ///
    /// # Errors
    /// Something among the settings cannot be used.
    pub fn new(settings: &ClientSettings, servers: Servers) -> Result<Client, SettingsError> {
        let shared = Shared {
            http: settings.http_client()?,
            region: settings.region.clone(),
            namespace: settings.namespace.clone(),
            budget: Budget::default(),
            tokens: version::Known::default(),
            randomness: RandomState::new(),
            salts: AtomicU64::new(0),
        };
        Ok(Client { servers, shared: Arc::new(shared) })
    }

    /// A client that asks this agent alone, from the same budget: a node's logs are best read from
    /// the node itself. With a TLS server name among the settings it may be refused there: nodes
    /// have certificates for `client.REGION.nomad`, servers for `server.REGION.nomad`.
    pub fn at(&self, url: Url) -> Client {
        Client { servers: Servers::fixed(vec![url]), shared: self.shared.clone() }
    }

    /// Whom it asks.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// A request of `/v1/` and these segments, each escaped: job ids hold slashes.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> Request {
        let mut request = Request::new(method, segments);
        if let Some(region) = &self.shared.region {
            request = request.query(&[("region", region)]);
        }
        if let Some(namespace) = &self.shared.namespace {
            request = request.query(&[("namespace", namespace)]);
        }
        request
    }

    /// The answer to a request, decoded.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<T, NomadError> {
        self.exchange(&request.timeout_if_none(ANSWER_TIMEOUT), decode).await
    }

    /// The answer to a request, decoded, once it is newer than asked.
    pub(crate) async fn indexed<T: DeserializeOwned>(
        &self,
        mut request: Request,
        blocking: Option<Blocking>,
    ) -> Result<Indexed<T>, NomadError> {
        let mut timeout = ANSWER_TIMEOUT;
        if let Some(Blocking { index, wait }) = blocking {
            // Nomad waits up to a sixteenth longer, so that clients spread.
            timeout += wait + wait / 16;
            let query = [("index", index.to_string()), ("wait", format!("{}ms", wait.as_millis()))];
            request = request.query(&query).purpose(Purpose::Wait);
        }
        self.exchange(&request.timeout(timeout), decode_indexed).await
    }

    /// The namespace of every call, where one was set.
    pub fn namespace(&self) -> Option<&str> {
        self.shared.namespace.as_deref()
    }

    /// One node, if there is one of this id.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn node(&self, id: &str) -> Result<Option<Node>, NomadError> {
        jobs::absent(self.json(self.request(Method::GET, &["node", id])).await)
    }

    /// The nodes of the cluster, those that are down included.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn nodes(&self) -> Result<Vec<Node>, NomadError> {
        self.json(self.request(Method::GET, &["nodes"])).await
    }
}

async fn decode<T: DeserializeOwned>(answer: Answer) -> Result<T, NomadError> {
    serde_json::from_slice(&answer.bytes().await?).map_err(NomadError::Undecodable)
}

async fn decode_indexed<T: DeserializeOwned>(answer: Answer) -> Result<Indexed<T>, NomadError> {
    let index = answer
        .headers()
        .get("X-Nomad-Index")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    Ok(Indexed { value: decode(answer).await?, index })
}
