//! What every request passes: who may ask, how much may be sent, and how an error looks.

mod intake;
mod operations;
mod origin;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use poem::{
    Body, Endpoint, IntoResponse, Request, Response,
    http::{HeaderValue, Method, StatusCode, Version, header},
};

pub(super) use self::operations::Operations;
pub use self::origin::is_loopback_name;
use self::{
    intake::Intake,
    operations::{PathOperations, unknown_query},
    origin::check_origin,
};
use super::{answer::IsRead, problem::Failure};
use crate::language::Catalog;

/// Writes the text of `/metrics`.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Is told of each answer: the id of its operation, its status, and how long it took.
pub type Observe = Arc<dyn Fn(&str, u16, Duration) + Send + Sync>;

/// How requests are let in, and who counts them.
#[derive(Clone)]
pub struct FrontSettings {
    /// Most bytes of a body.
    pub body_limit: usize,
    /// Whether only names of this machine may stand in `Host`. A page that a browser on this machine
    /// shows could otherwise have its own name point here (DNS rebinding).
    pub loopback_names_only: bool,
    /// The figures.
    pub metrics: MetricsText,
    /// Who counts requests.
    pub observe: Observe,
}

/// The endpoint in front of all others.
pub(super) struct Front<E> {
    inner: E,
    operations: Operations,
    catalog: Catalog,
    settings: FrontSettings,
    intake: Intake,
}

impl<E: Endpoint<Output = Response>> Front<E> {
    pub(super) fn new(
        inner: E,
        operations: Operations,
        catalog: Catalog,
        settings: FrontSettings,
    ) -> Self {
        let intake = Intake::new(settings.body_limit);
        Front { inner, operations, catalog, settings, intake }
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
        match self.intake.read_body(&mut request).await {
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
        !known.is_short() || self.catalog.get(path.trim_start_matches('/')).is_some()
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
        let operation = known.and_then(|known| known.operation_id(method)).unwrap_or("none");
        let status = response.status().as_u16();
        (self.settings.observe)(operation, status, since.elapsed());
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
            // There is no conversation without its connection.
            request.headers_mut().remove(header::UPGRADE);
        }
        let method = request.method().clone();
        let version = request.version();
        let answer = AssertUnwindSafe(self.answer(request)).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|_| {
            // Not the path itself, which may hold a token.
            let path = self.operations.find(&path).map_or("none", PathOperations::template);
            tracing::error!(path, "a handler panicked");
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
    if response.extensions().get::<IsRead>().is_some() {
        // Its length stands there where it is known.
        return;
    }
    if let Ok(bytes) = body.into_bytes().await {
        response.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    }
}
