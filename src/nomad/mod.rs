//! A client of Nomad's HTTP API: the calls that dispatching and watching a batch job take.
//!
//! It knows nothing of submissions. Its caller is `backend/nomad.rs`. Made for Nomad 1.1 and later;
//! where versions differ, the call says so.

mod children;
mod error;
mod files;
mod jobs;
mod model;

use std::time::Duration;

use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{HeaderMap, HeaderValue},
};
use serde::de::DeserializeOwned;

pub use children::Children;
pub use error::{NomadError, Problem, SettingsError};
pub use files::LogStream;
pub use model::{
    Allocation, Dispatched, Driver, Evaluation, Job, JobStub, Node, PlacementFailure, TaskEvent,
    TaskState,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take beyond the wait that was asked for: a server without a leader holds
/// a request for 5 s (`RPCHoldTimeout`) before it says so, and forwards it once more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How much of an error's body is kept.
const MAX_ERROR_BYTES: usize = 4096;

/// Where Nomad is and as whom it is asked. Nomad's own variables fill it, see
/// [`ClientSettings::from_env`].
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Scheme, host and port. Default `http://127.0.0.1:4646`.
    pub address: String,
    /// The ACL token's secret.
    pub token: Option<String>,
    /// The namespace of every call; `default` when absent.
    pub namespace: Option<String>,
    /// The region of every call; the agent's own when absent.
    pub region: Option<String>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            address: "http://127.0.0.1:4646".to_owned(),
            token: None,
            namespace: None,
            region: None,
        }
    }
}

impl std::fmt::Debug for ClientSettings {
    /// Shows whether there is a token, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSettings")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("namespace", &self.namespace)
            .field("region", &self.region)
            .finish()
    }
}

impl ClientSettings {
    /// From `NOMAD_ADDR`, `NOMAD_TOKEN`, `NOMAD_NAMESPACE` and `NOMAD_REGION`, as Nomad's own
    /// command reads them; empty ones count as absent.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| variable(name).filter(|value| !value.is_empty());
        ClientSettings {
            address: get("NOMAD_ADDR").unwrap_or_else(|| Self::default().address),
            token: get("NOMAD_TOKEN"),
            namespace: get("NOMAD_NAMESPACE"),
            region: get("NOMAD_REGION"),
        }
    }
}

/// A client of one Nomad agent. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    region: Option<String>,
    namespace: Option<String>,
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
    /// A client for the agent of these settings. Connects to nothing yet.
    ///
    /// # Errors
    /// The address is no HTTP address, or the token cannot stand in a header.
    pub fn new(settings: &ClientSettings) -> Result<Client, SettingsError> {
        let invalid = || SettingsError::Address(settings.address.clone());
        let base = Url::parse(&settings.address).map_err(|_| invalid())?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(invalid());
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &settings.token {
            let mut value = HeaderValue::from_str(token).map_err(|_| SettingsError::Token)?;
            value.set_sensitive(true);
            headers.insert("X-Nomad-Token", value);
        }
        // The program installs one when it starts; a second try is refused, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Client {
            http,
            base,
            region: settings.region.clone(),
            namespace: settings.namespace.clone(),
        })
    }

    /// The address that it asks.
    pub fn address(&self) -> &Url {
        &self.base
    }

    /// A request of `/v1/` and these segments, each escaped: job ids hold slashes.
    fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("the scheme is http or https")
            .pop_if_empty()
            .push("v1")
            .extend(segments);
        let mut request = self.http.request(method, url);
        if let Some(region) = &self.region {
            request = request.query(&[("region", region)]);
        }
        if let Some(namespace) = &self.namespace {
            request = request.query(&[("namespace", namespace)]);
        }
        request
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, NomadError> {
        let response = request.send().await.map_err(NomadError::sending)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = error_body(response).await;
        Err(NomadError::Answered { status, problem: Problem::classify(status, &body), body })
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, NomadError> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        decode(response).await
    }

    async fn indexed<T: DeserializeOwned>(
        &self,
        mut request: RequestBuilder,
        blocking: Option<Blocking>,
    ) -> Result<Indexed<T>, NomadError> {
        let mut timeout = ANSWER_TIMEOUT;
        if let Some(Blocking { index, wait }) = blocking {
            // Nomad waits up to a sixteenth longer, so that clients spread.
            timeout += wait + wait / 16;
            let query = [("index", index.to_string()), ("wait", format!("{}ms", wait.as_millis()))];
            request = request.query(&query);
        }
        let response = self.send(request.timeout(timeout)).await?;
        let index = response
            .headers()
            .get("X-Nomad-Index")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        Ok(Indexed { value: decode(response).await?, index })
    }

    /// The nodes of the cluster, those that are down included.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn nodes(&self) -> Result<Vec<Node>, NomadError> {
        self.json(self.request(Method::GET, &["nodes"])).await
    }
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, NomadError> {
    let bytes = response.bytes().await.map_err(NomadError::Interrupted)?;
    serde_json::from_slice(&bytes).map_err(NomadError::Undecodable)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Result<Client, SettingsError> {
        Client::new(&ClientSettings { address: address.to_owned(), ..ClientSettings::default() })
    }

    #[test]
    fn what_is_no_http_address_is_refused() {
        for address in ["", "127.0.0.1:4646", "unix:///run/nomad.sock", "ftp://host"] {
            assert!(matches!(client(address), Err(SettingsError::Address(_))), "{address}");
        }
    }

    #[test]
    fn job_ids_are_escaped_and_a_base_path_is_kept() {
        let client = client("http://localhost:1/nomad/").unwrap();
        let request = client.request(Method::GET, &["job", "a/dispatch-1 2"]).build().unwrap();
        assert_eq!(request.url().as_str(), "http://localhost:1/nomad/v1/job/a%2Fdispatch-1%202");
    }

    #[test]
    fn namespace_and_region_go_with_every_call() {
        let settings = ClientSettings::from_env(|name| match name {
            "NOMAD_NAMESPACE" => Some("judges".to_owned()),
            "NOMAD_REGION" => Some("eu".to_owned()),
            "NOMAD_TOKEN" => Some(String::new()),
            _ => None,
        });
        assert_eq!(settings.token, None);
        let request = Client::new(&settings).unwrap().request(Method::GET, &["nodes"]);
        assert_eq!(
            request.build().unwrap().url().as_str(),
            "http://127.0.0.1:4646/v1/nodes?region=eu&namespace=judges"
        );
    }

    #[test]
    fn a_token_is_never_shown() {
        let settings =
            ClientSettings { token: Some("secret-id".to_owned()), ..ClientSettings::default() };
        assert!(!format!("{settings:?}").contains("secret-id"));
        let client = Client::new(&settings).unwrap();
        assert!(!format!("{client:?}").contains("secret-id"));
        let newline = ClientSettings { token: Some("a\nb".to_owned()), ..settings };
        assert!(matches!(Client::new(&newline), Err(SettingsError::Token)));
    }
}
