//! What every request passes: who may ask, how much may be sent, and how an error looks.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use poem::{
    Body, Endpoint, IntoResponse, Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header},
};
use serde_json::Value;

use super::{
    document::Document,
    problem::{Failure, FieldError, Kind},
};
use crate::language::Catalog;

/// Longest time that a body may take to come in.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read all the same, so that a client that sends before it
/// reads gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// The path that stands beside every other of one part.
const SHORT_PATH: &str = "/{language}";

/// How requests are let in.
#[derive(Debug, Clone, Copy)]
pub struct FrontSettings {
    /// Most bytes of a body.
    pub body_limit: usize,
    /// Whether only names of this machine may stand in `Host`. A page that a browser on this machine
    /// shows could otherwise have its own name point here (DNS rebinding).
    pub loopback_names_only: bool,
}

/// Whether a host, without its port, is a name of the machine itself.
pub fn is_loopback_name(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// All operations, to answer for paths and methods that there are not.
#[derive(Debug, Clone)]
pub(super) struct Operations(Vec<PathOperations>);

/// The operations of one path.
#[derive(Debug, Clone)]
struct PathOperations {
    template: String,
    operations: Vec<Operation>,
}

#[derive(Debug, Clone)]
struct Operation {
    method: Method,
    id: String,
    /// Names of its query parameters.
    query: Vec<String>,
}

impl Operations {
    /// Those of a description, and those that it does not describe.
    pub(super) fn of(document: &Document) -> Self {
        let mut paths = Vec::new();
        for (template, operations) in document.value()["paths"].as_object().into_iter().flatten() {
            let operations = operations.as_object().into_iter().flatten();
            let operations = operations.filter_map(|(method, value)| operation(method, value));
            paths.push(PathOperations {
                template: template.clone(),
                operations: operations.collect(),
            });
        }
        for template in ["/", "/docs", "/openapi.json", "/openapi.yaml"] {
            let operation =
                Operation { method: Method::GET, id: "getDocs".to_owned(), query: Vec::new() };
            paths.push(PathOperations {
                template: template.to_owned(),
                operations: vec![operation],
            });
        }
        // Paths without a parameter come first, as they do for the router.
        paths.sort_by_key(|path| path.template.matches('{').count());
        Operations(paths)
    }

    fn find(&self, path: &str) -> Option<&PathOperations> {
        self.0.iter().find(|candidate| candidate.matches(path))
    }
}

fn operation(method: &str, value: &Value) -> Option<Operation> {
    let parameters = value["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query");
    Some(Operation {
        method: method.to_ascii_uppercase().parse().ok()?,
        id: value["operationId"].as_str()?.to_owned(),
        query: query.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect(),
    })
}

impl PathOperations {
    fn matches(&self, path: &str) -> bool {
        let (mut ours, mut theirs) = (self.template.split('/'), path.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(ours), Some(theirs)) if ours.starts_with('{') && !theirs.is_empty() => {}
                (Some(ours), Some(theirs)) if ours == theirs => {}
                _ => return false,
            }
        }
    }

    /// The `Allow` header.
    fn allow(&self) -> HeaderValue {
        let has = |method: &Method| self.operations.iter().any(|own| own.method == *method);
        let mut methods: Vec<&str> =
            self.operations.iter().map(|operation| operation.method.as_str()).collect();
        if has(&Method::GET) {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.join(", ").parse().expect("methods are header values")
    }
}

/// The endpoint in front of all others.
pub(super) struct Front<E> {
    inner: E,
    operations: Operations,
    catalog: Catalog,
    settings: FrontSettings,
}

impl<E: Endpoint<Output = Response>> Front<E> {
    pub(super) fn new(
        inner: E,
        operations: Operations,
        catalog: Catalog,
        settings: FrontSettings,
    ) -> Self {
        Front { inner, operations, catalog, settings }
    }

    async fn answer(&self, mut request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let known = self.operations.find(&path);
        if let Err(failure) = check_origin(&request, self.settings.loopback_names_only) {
            return failure.into_response();
        }
        if *request.method() == Method::OPTIONS {
            return match known.filter(|known| self.is_there(known, &path)) {
                Some(known) => Response::builder()
                    .status(StatusCode::NO_CONTENT)
                    .header(header::ALLOW, known.allow())
                    .finish(),
                None => Failure::not_found().into_response(),
            };
        }
        if let Some(failure) = known.and_then(|known| unknown_query(known, &request)) {
            return failure.into_response();
        }
        match read_body(&mut request, self.settings.body_limit).await {
            Ok(bytes) => request.set_body(Body::from_bytes(bytes)),
            Err(failure) => return failure.into_response(),
        }
        match self.inner.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let response = Failure::from_framework(error);
                self.with_allow(response, known, &path)
            }
        }
    }

    /// Whether there is something at a path: at the short path only where a language is.
    fn is_there(&self, known: &PathOperations, path: &str) -> bool {
        known.template != SHORT_PATH || self.catalog.get(path.trim_start_matches('/')).is_some()
    }

    fn with_allow(
        &self,
        mut response: Response,
        known: Option<&PathOperations>,
        path: &str,
    ) -> Response {
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            return response;
        }
        match known.filter(|known| self.is_there(known, path)) {
            Some(known) => {
                response.headers_mut().insert(header::ALLOW, known.allow());
                response
            }
            None => Failure::not_found().into_response(),
        }
    }

    fn record(&self, method: &Method, path: &str, response: &Response, since: Instant) {
        let known = self.operations.find(path);
        let operation = known.and_then(|known| {
            known.operations.iter().find(|operation| operation.method == *method)
        });
        let operation = operation.map_or("none", |operation| operation.id.as_str());
        let status = response.status().as_u16();
        crate::metrics::http_request(operation, status, since.elapsed());
        tracing::debug!(
            operation,
            status,
            duration_ms = since.elapsed().as_millis() as u64,
            "answered a request"
        );
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Front<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let since = Instant::now();
        let path = request.uri().path().to_owned();
        let is_head = *request.method() == Method::HEAD;
        if is_head {
            request.set_method(Method::GET);
        }
        let method = request.method().clone();
        let version = request.version();
        let answer = AssertUnwindSafe(self.answer(request)).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|_| {
            tracing::error!(path = %super::body::shorten(&path, 128), "a handler panicked");
            Failure::internal().into_response()
        });
        self.record(&method, &path, &response, since);
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if version == Version::HTTP_2 {
            headers.remove(header::CONNECTION);
        }
        if is_head {
            without_body(&mut response).await;
        }
        Ok(response)
    }
}

/// Takes the body away, and leaves its length.
async fn without_body(response: &mut Response) {
    let body = response.take_body();
    if let Ok(bytes) = body.into_bytes().await {
        response.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    }
}

/// Refuses what a page of another site has a browser ask: by the name in `Host` where only names of
/// this machine are right, and by `Origin` where something would change.
fn check_origin(request: &Request, loopback_names_only: bool) -> Result<(), Failure> {
    let host = host(request);
    if let Some(host) = host.filter(|_| loopback_names_only) {
        if !is_loopback_name(without_port(host)) {
            let detail = "the Host header names another machine, and this daemon listens on \
                          loopback alone";
            return Err(Failure::new(Kind::ForbiddenOrigin, detail));
        }
    }
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let origin = text(request.headers(), header::ORIGIN);
    if let Some(origin) = origin.filter(|_| changes) {
        let of_origin = origin.split_once("://").map(|(_, authority)| authority);
        let same = matches!((of_origin, host), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        if !same {
            let detail = "the request comes from a page of another site";
            return Err(Failure::new(Kind::ForbiddenOrigin, detail));
        }
    }
    Ok(())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn host(request: &Request) -> Option<&str> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    authority.or_else(|| text(request.headers(), header::HOST))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            // `::1` without brackets is all address.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

/// The query parameters that the operation does not have. A misspelt one would be passed over.
fn unknown_query(known: &PathOperations, request: &Request) -> Option<Failure> {
    let operation = known.operations.iter().find(|own| own.method == *request.method())?;
    if !known.template.starts_with("/v1/") {
        return None;
    }
    let sent: Vec<(String, String)> = request.params().unwrap_or_default();
    let unknown = sent.into_iter().filter(|(name, _)| !operation.query.contains(name));
    let errors: Vec<_> = unknown
        .map(|(name, _)| FieldError::new(super::body::shorten(&name, 64), "unknown parameter"))
        .collect();
    (!errors.is_empty()).then(|| Failure::invalid(errors))
}

/// Reads the whole body, if it is not too large.
async fn read_body(request: &mut Request, limit: usize) -> Result<Bytes, Failure> {
    let body = request.take_body();
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let length = text(request.headers(), header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
    let mut stream = Box::pin(body.into_bytes_stream());
    if length.is_some_and(|length: u64| length > limit as u64) {
        // A client that waits for `100 Continue` has sent nothing, and will not.
        if !request.headers().contains_key(header::EXPECT) {
            drain(&mut stream).await;
        }
        return Err(too_large(limit));
    }
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(chunk) = stream.next().await {
            let cut = || Failure::new(Kind::MalformedBody, "the body ended early");
            let chunk = chunk.map_err(|_| cut())?;
            if bytes.len() + chunk.len() > limit {
                drain(&mut stream).await;
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(read) => read.map(|()| bytes.freeze()),
        Err(_) => Err(closing(Failure::new(
            Kind::BodyTimeout,
            format!("it took more than {} s", BODY_TIME.as_secs()),
        ))),
    }
}

async fn drain(stream: &mut (impl StreamExt<Item = std::io::Result<Bytes>> + Unpin)) {
    let all = async {
        let mut drained = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            drained += chunk.len();
            if drained > DRAIN_BYTES {
                break;
            }
        }
    };
    // Whether it came to the end or not, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, all).await;
}

fn too_large(limit: usize) -> Failure {
    closing(Failure::new(Kind::BodyTooLarge, format!("a body may have {limit} bytes at the most")))
}

fn closing(failure: Failure) -> Failure {
    failure.header(header::CONNECTION, HeaderValue::from_static("close"))
}
