//! Everything that goes wrong, as `application/problem+json` (RFC 9457).
//!
//! A [`Problem`] is the document; a [`Failure`] is the whole answer: the document with its status
//! and the headers that go with it. Nothing of the daemon's inside is ever in one.

use poem::{
    IntoResponse, Response,
    error::{MethodNotAllowedError, NotFoundError, ReadBodyError},
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    error::{ContentTypeError, ParseParamError, ParsePathError},
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};

use crate::dispatcher::{ReadError, SubmitError};

/// The content type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which a client may try again what could not be taken now.
const RETRY_AFTER_SECONDS: u16 = 5;

/// Most faults that one answer lists: a body can hold thousands.
const MAX_ERRORS: usize = 50;

/// An error, after RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none, skip_serializing_if_is_empty)]
pub struct Problem {
    /// Which kind of problem: a URN that stays the same, such as
    /// `urn:braindrill:problem:invalid-request`.
    pub r#type: String,
    /// The kind in a few words, always the same for one `type`.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, in a sentence.
    pub detail: String,
    /// The fields at fault, where fields are.
    #[oai(default)]
    pub errors: Vec<FieldError>,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub struct FieldError {
    /// The path of the field, such as `limits.cpu_time_ms` or `tests[2].name`, or the name of the
    /// parameter or header.
    pub field: String,
    /// What is wrong with it, with its value and bound.
    pub detail: String,
}

impl FieldError {
    /// The fault `detail` of `field`.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError { field: field.into(), detail: detail.into() }
    }
}

/// The kinds of problem; each has one status, one title and one URN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON.
    MalformedBody,
    /// Asked by a page of another site, or under another name than this host's.
    ForbiddenOrigin,
    /// Nothing is there.
    NotFound,
    /// Something is there, but not for this method.
    MethodNotAllowed,
    /// The body did not come in time.
    BodyTimeout,
    /// The submission has ended already.
    AlreadyFinished,
    /// The submission's program cannot be talked to.
    NotInteractive,
    /// It was there, and was deleted.
    Gone,
    /// The body is over the limit.
    BodyTooLarge,
    /// The body is of a type that is not taken here.
    UnsupportedMediaType,
    /// Another protocol is spoken here.
    UpgradeRequired,
    /// A field or a parameter is wrong.
    InvalidRequest,
    /// An idempotency key came with another request before.
    KeyReused,
    /// The fault is ours.
    Internal,
    /// No more submissions may wait.
    QueueFull,
    /// Not now.
    Unavailable,
    /// The program did not end in the time that the request may wait.
    StillRunning,
}

impl Kind {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::MalformedBody => {
                (StatusCode::BAD_REQUEST, "malformed-body", "The body cannot be read")
            }
            Kind::ForbiddenOrigin => {
                (StatusCode::FORBIDDEN, "forbidden-origin", "Not allowed from there")
            }
            Kind::NotFound => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Kind::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed")
            }
            Kind::BodyTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body did not come in time")
            }
            Kind::AlreadyFinished => {
                (StatusCode::CONFLICT, "already-finished", "The submission has finished already")
            }
            Kind::NotInteractive => {
                (StatusCode::CONFLICT, "not-interactive", "The submission is not interactive")
            }
            Kind::Gone => (StatusCode::GONE, "gone", "The submission was deleted"),
            Kind::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large")
            }
            Kind::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is of a type that is not taken here",
            ),
            Kind::UpgradeRequired => {
                (StatusCode::UPGRADE_REQUIRED, "upgrade-required", "This is a WebSocket")
            }
            Kind::InvalidRequest => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", "The request is not valid")
            }
            Kind::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key belongs to another request",
            ),
            Kind::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
            }
            Kind::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue-full", "The queue is full"),
            Kind::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available now")
            }
            Kind::StillRunning => {
                (StatusCode::GATEWAY_TIMEOUT, "still-running", "The program has not ended yet")
            }
        }
    }
}

/// An answer that is a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The document.
    pub problem: Box<Problem>,
    /// Headers that go with it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// A problem of this kind, with what happened in a sentence.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, slug, title) = kind.parts();
        let problem = Problem {
            r#type: format!("urn:braindrill:problem:{slug}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
        };
        let failure = Failure { problem: Box::new(problem), headers: Vec::new() };
        match kind {
            Kind::QueueFull | Kind::Unavailable => {
                failure.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into())
            }
            _ => failure,
        }
    }

    /// A request whose fields are wrong. Only the first 50 are listed.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.field, only.detail),
            all => format!("{} fields are not valid", all.len()),
        };
        let mut failure = Failure::new(Kind::InvalidRequest, detail);
        errors.truncate(MAX_ERRORS);
        failure.problem.errors = errors;
        failure
    }

    /// A request with one wrong field.
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Failure::invalid(vec![FieldError::new(field, detail)])
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What the framework had to say, as one of our problems.
    pub fn from_framework(error: poem::Error) -> Response {
        if error.is_from_response() {
            return error.into_response();
        }
        Failure::of_framework(&error).into_response()
    }

    fn of_framework(error: &poem::Error) -> Failure {
        if let Some(ParseParamError { name, reason }) = error.downcast_ref() {
            return Failure::invalid_field(*name, plain_reason(reason));
        }
        let bad_path = error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>();
        if bad_path || error.is::<NotFoundError>() {
            return Failure::not_found();
        }
        if error.is::<MethodNotAllowedError>() {
            return Failure::new(Kind::MethodNotAllowed, "this path does not take this method");
        }
        if let Some(error) = error.downcast_ref::<ContentTypeError>() {
            return Failure::of_content_type(error);
        }
        if error.is::<ReadBodyError>() {
            return Failure::new(Kind::MalformedBody, "the body ended early");
        }
        match error.status() {
            StatusCode::NOT_FOUND => Failure::not_found(),
            status if status.is_client_error() => {
                Failure::new(Kind::MalformedBody, "the request cannot be read")
            }
            _ => Failure::internal(),
        }
    }

    /// Nothing is at this path.
    pub fn not_found() -> Self {
        Failure::new(Kind::NotFound, "there is nothing at this path")
    }

    /// Our own fault; what it was is in the log.
    pub fn internal() -> Self {
        Failure::new(Kind::Internal, "the daemon's log says more")
    }

    fn of_content_type(error: &ContentTypeError) -> Self {
        let detail = match error {
            ContentTypeError::NotSupported { .. } => "this Content-Type is not taken here",
            ContentTypeError::ExpectContentType => "the Content-Type header is missing",
        };
        Failure::new(Kind::UnsupportedMediaType, format!("{detail}; send application/json"))
    }
}

/// The framework's reason without the names of types in front and behind.
fn plain_reason(reason: &str) -> &str {
    let reason = reason.split(" (occurred while parsing").next().unwrap_or(reason);
    match reason.strip_prefix("failed to parse \"") {
        Some(rest) => rest.split_once("\": ").map_or(reason, |(_, plain)| plain),
        None => reason,
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { .. } => Failure::new(Kind::QueueFull, error.to_string()),
            SubmitError::KeyReused => Failure::new(Kind::KeyReused, error.to_string()),
            SubmitError::KeyGone => Failure::new(Kind::Gone, error.to_string()),
            SubmitError::Unavailable(_) => Failure::new(Kind::Unavailable, error.to_string()),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::NotFound | ReadError::NoSuchTest | ReadError::NoSuchFile => Kind::NotFound,
            ReadError::Finished => Kind::AlreadyFinished,
            ReadError::NotInteractive => Kind::NotInteractive,
            ReadError::Unavailable(_) | ReadError::BackendAway(_) => Kind::Unavailable,
        };
        Failure::new(kind, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).expect("a status of our own table");
        let mut response = Response::builder()
            .status(status)
            .content_type(PROBLEM_JSON)
            .body(self.problem.to_json_string());
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Failure> for poem::Error {
    fn from(failure: Failure) -> Self {
        poem::Error::from_response(failure.into_response())
    }
}

/// The payload that documents a problem.
struct ProblemJson;

impl Payload for ProblemJson {
    const CONTENT_TYPE: &'static str = PROBLEM_JSON;

    fn schema_ref() -> MetaSchemaRef {
        Problem::schema_ref()
    }
}

impl ApiResponse for Failure {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType {
            content_type: ProblemJson::CONTENT_TYPE,
            schema: ProblemJson::schema_ref(),
        }];
        MetaResponses {
            responses: vec![MetaResponse {
                description: "A problem.",
                status: None,
                status_range: None,
                content,
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_without_fields_has_no_errors_member() {
        let text = Failure::new(Kind::NotFound, "no such submission").problem.to_json_string();
        assert_eq!(
            text,
            r#"{"type":"urn:braindrill:problem:not-found","title":"Not found","status":404,"detail":"no such submission"}"#
        );
    }

    #[test]
    fn one_wrong_field_is_named_in_the_detail() {
        let failure = Failure::invalid_field("limits.processes", "0 is not between 1 and 256");
        assert_eq!(failure.problem.detail, "limits.processes: 0 is not between 1 and 256");
        assert_eq!(failure.problem.errors[0].field, "limits.processes");
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let response = Failure::from(SubmitError::QueueFull { limit: 7 }).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    }
}
