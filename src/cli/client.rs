//! A daemon as the commands for people see it: its HTTP API, with errors as sentences.

mod attach;
mod events;
pub(super) mod table;

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

pub(super) use self::events::{Event, Events};
use super::say;

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerArg {
    /// The daemon
    #[arg(
        long,
        value_name = "URL",
        env = "BRAINDRILL_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(super) server: String,
}

/// A client of one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Server {
    http: reqwest::Client,
    base: String,
}

/// A problem document, as far as people are told of it.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    detail: Option<String>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    field: String,
    detail: String,
}

impl Server {
    /// A client of the daemon at an address.
    ///
    /// # Errors
    /// TLS could not be set up.
    pub(super) fn new(url: &str) -> anyhow::Result<Server> {
        let http = reqwest::Client::builder().build().context("cannot set up an HTTP client")?;
        Ok(Server { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// Reads something.
    ///
    /// # Errors
    /// The daemon does not answer, or says no.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// Reads bytes as they are.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(super) async fn bytes(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<bytes::Bytes> {
        self.answer(self.request(Method::GET, path).query(query)).await
    }

    /// Sends something.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub(super) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path);
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Follows a submission.
    ///
    /// # Errors
    /// That is no id.
    pub(super) fn follow(&self, id: &str) -> anyhow::Result<Events> {
        Ok(Events::new(self.clone(), format!("{}/events", path_of(id)?)))
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.answer(request).await?)
            .with_context(|| format!("what answers at {} is no braindrill daemon", self.base))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<bytes::Bytes> {
        let response = request.send().await.with_context(|| self.is_away())?;
        let status = response.status();
        let body = response.bytes().await.with_context(|| self.is_away())?;
        if !status.is_success() {
            bail!("{}", refusal(status, &body));
        }
        Ok(body)
    }

    fn is_away(&self) -> String {
        format!("no braindrill daemon answers at {}; --server names another", self.base)
    }
}

/// What a refusal says, in a line.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    if !problem.errors.is_empty() {
        let fault = |fault: &Fault| format!("{} {}", fault.field, fault.detail);
        return problem.errors.iter().map(fault).collect::<Vec<_>>().join("; ");
    }
    problem.detail.unwrap_or_else(|| format!("the daemon answers {status}"))
}

/// A text in an answer; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The bytes of output in an answer: what its `encoding` says of its `data`.
pub(super) fn output(value: &Value) -> Vec<u8> {
    let data = text(value, "/data");
    match text(value, "/encoding") {
        "base64" => STANDARD.decode(data).unwrap_or_default(),
        _ => data.as_bytes().to_vec(),
    }
}

/// Prints what was listed: JSON, one a line, or a table with a row for each.
pub(super) fn say_all(
    items: &[Value],
    json: bool,
    heading: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) {
    if json {
        return items.iter().for_each(say);
    }
    let rows: Vec<_> = items.iter().map(row).collect();
    table::table(heading, &rows).iter().for_each(say);
}

/// The path of a submission.
///
/// # Errors
/// That is no id, and would lead elsewhere.
pub(super) fn path_of(id: &str) -> anyhow::Result<String> {
    match uuid::Uuid::parse_str(id) {
        Ok(id) => Ok(format!("/v1/submissions/{id}")),
        Err(_) => bail!("`{}` is no id of a submission", table::plain(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_fields_at_fault_or_says_why() {
        let body = br#"{"detail":"1 field","errors":[{"field":"limits.x","detail":"is unknown"}]}"#;
        assert_eq!(refusal(StatusCode::UNPROCESSABLE_ENTITY, body), "limits.x is unknown");
        let body = br#"{"detail":"the queue is full"}"#;
        assert_eq!(refusal(StatusCode::SERVICE_UNAVAILABLE, body), "the queue is full");
        let other = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(other, "the daemon answers 502 Bad Gateway");
    }

    #[test]
    fn what_is_no_id_leads_nowhere_else() {
        let id = "01a228b7-1c21-77e6-8300-40eeaa272dd0";
        assert_eq!(path_of(id).unwrap(), format!("/v1/submissions/{id}"));
        assert_eq!(
            path_of("../stats").unwrap_err().to_string(),
            "`../stats` is no id of a submission"
        );
    }
}
