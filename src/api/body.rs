//! Bodies as they come in: JSON with the path of whatever is wrong in it, and raw bytes.

use bytes::Bytes;
use poem::{FromRequest, IntoResponse, Request, RequestBody, Response};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions,
    payload::{Binary, ParsePayload, Payload},
    registry::{
        MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef,
        Registry,
    },
    types::Type,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    answer::Pieces,
    problem::{Failure, Kind},
};

/// The shape of a JSON body.
pub trait Shape: DeserializeOwned {
    /// Whether a null anywhere in it is refused. A batch leaves that to its items.
    const REFUSES_NULLS: bool = true;
}

impl Shape for super::types::SubmissionRequest {}

impl Shape for super::types::BatchRequest {
    const REFUSES_NULLS: bool = false;
}

/// A JSON body of type `T`: parsed by serde, described by poem-openapi.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonBody<T>(pub T);

impl<T: Type> Payload for JsonBody<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Shape> ParsePayload for JsonBody<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let bytes = <Bytes as FromRequest>::from_request(request, body).await?;
        Ok(JsonBody(decode(&bytes)?))
    }
}

poem_openapi::impl_apirequest_for_payload!(JsonBody<T>, T: Type + Shape);

/// A body of any content type, or of none.
#[derive(Debug, Clone, PartialEq)]
pub struct RawBody(pub Bytes);

impl<'a> ApiExtractor<'a> for RawBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let text = MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")));
        let content = vec![MetaMediaType { content_type: "text/plain", schema: text }];
        Some(MetaRequest {
            description: Some(
                "The source, in UTF-8; may be empty. Any other content type is taken as well.",
            ),
            content,
            required: false,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(RawBody(<Bytes as FromRequest>::from_request(request, body).await?))
    }
}

/// Text as a program wrote it: sent as UTF-8, which it nearly always is, and never changed.
#[derive(Debug)]
pub struct Text(pub Pieces);

impl Payload for Text {
    const CONTENT_TYPE: &'static str = "text/plain; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new("string")))
    }
}

/// Figures in the text format that Prometheus reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition(pub String);

impl Payload for Exposition {
    const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        Text::schema_ref()
    }
}

impl IntoResponse for Exposition {
    fn into_response(self) -> Response {
        Response::builder().content_type(Self::CONTENT_TYPE).body(self.0)
    }
}

impl ApiResponse for Exposition {
    fn meta() -> MetaResponses {
        let content =
            vec![MetaMediaType { content_type: "text/plain", schema: Self::schema_ref() }];
        let response = MetaResponse {
            description: "The figures.",
            status: Some(200),
            status_range: None,
            content,
            headers: vec![],
        };
        MetaResponses { responses: vec![response] }
    }

    fn register(_: &mut Registry) {}
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        self.0.into_response(Self::CONTENT_TYPE)
    }
}

/// Output as a program wrote it.
#[derive(Debug)]
pub struct RawOutput(pub Pieces);

impl IntoResponse for RawOutput {
    fn into_response(self) -> Response {
        self.0.into_response(Binary::<Vec<u8>>::CONTENT_TYPE)
    }
}

impl ApiResponse for RawOutput {
    fn meta() -> MetaResponses {
        Binary::<Vec<u8>>::meta()
    }

    fn register(_: &mut Registry) {}
}

/// Reads JSON text as a `T`.
///
/// # Errors
/// [`Kind::MalformedBody`] where it is not JSON, else [`Kind::InvalidRequest`] with the path of the
/// first field that is wrong.
pub fn decode<T: Shape>(bytes: &[u8]) -> Result<T, Failure> {
    if bytes.is_empty() {
        return Err(Failure::new(Kind::MalformedBody, "the body is empty, and must be JSON"));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(Kind::MalformedBody, format!("the body is not JSON: {error}"))
    })?;
    decode_value(value)
}

/// Reads a JSON value as a `T`.
///
/// # Errors
/// As [`decode`].
pub fn decode_value<T: Shape>(value: Value) -> Result<T, Failure> {
    if let Some(path) = find_null(&value, String::new()).filter(|_| T::REFUSES_NULLS) {
        return Err(Failure::invalid_field(path, "is null; leave out what has no value"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let detail = plain_detail(&error.inner().to_string());
        let path = error.path().to_string();
        // An unknown or missing field is at the path of its object; the message has its name.
        let field = match named_field(&detail) {
            Some(name) if path == "." => name.to_owned(),
            Some(name) if path.ends_with(name) => path,
            Some(name) => format!("{path}.{name}"),
            None if path == "." => "body".to_owned(),
            None => path,
        };
        Failure::invalid_field(field, detail)
    })
}

/// The name in serde's "unknown field `x`" and "missing field `x`".
fn named_field(detail: &str) -> Option<&str> {
    let rest = detail.strip_prefix("unknown field `").or(detail.strip_prefix("missing field `"))?;
    rest.split('`').next()
}

/// serde's message in words of JSON instead of Rust.
fn plain_detail(message: &str) -> String {
    let mut plain = message.to_owned();
    for (rust, words) in [
        ("expected u64", "expected a whole number that is not negative"),
        ("expected f64", "expected a number"),
        ("expected struct SubmissionRequest", "expected an object"),
        ("expected struct BatchRequest", "expected an object"),
        ("expected struct SourceFile", "expected an object"),
        ("expected struct Limits", "expected an object"),
        ("expected struct Test", "expected an object"),
        ("expected struct Checker", "expected an object"),
        ("expected a sequence", "expected an array"),
        ("expected a map", "expected an object"),
        ("invalid type: map", "invalid type: object"),
        ("invalid type: sequence", "invalid type: array"),
    ] {
        plain = plain.replace(rust, words);
    }
    shorten(&plain, 400)
}

/// At most `limit` bytes of a text that a client sent, for an answer that quotes it.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// The path of the first null.
fn find_null(value: &Value, path: String) -> Option<String> {
    match value {
        Value::Null if path.is_empty() => Some("body".to_owned()),
        Value::Null => Some(path),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find_null(item, format!("{path}[{index}]"))),
        Value::Object(fields) => fields.iter().find_map(|(name, item)| {
            let dot = if path.is_empty() { "" } else { "." };
            find_null(item, format!("{path}{dot}{}", shorten(name, 64)))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::SubmissionRequest;

    fn fault(text: &str) -> (u16, String, String) {
        let failure = decode::<SubmissionRequest>(text.as_bytes()).expect_err("not valid");
        let problem = failure.problem;
        let field = problem.errors.first().map(|error| error.field.clone()).unwrap_or_default();
        (problem.status, field, problem.detail)
    }

    #[test]
    fn an_unknown_field_is_refused_by_name_and_place() {
        let (status, field, _) = fault(r#"{"language":"c","source":"","network":true}"#);
        assert_eq!((status, field.as_str()), (422, "network"));
        let (_, field, _) = fault(r#"{"language":"c","source":"","limits":{"cpu":1}}"#);
        assert_eq!(field, "limits.cpu");
        let (_, field, _) = fault(r#"{"language":"c","tests":[{},{"checker":{"typ":"exact"}}]}"#);
        assert_eq!(field, "tests[1].checker.typ");
    }

    #[test]
    fn a_missing_field_is_named() {
        let (status, field, _) = fault(r#"{"source":""}"#);
        assert_eq!((status, field.as_str()), (422, "language"));
        let (_, field, _) = fault(r#"{"language":"c","files":[{"content":""}]}"#);
        assert_eq!(field, "files[0].path");
    }

    #[test]
    fn fractions_and_negative_numbers_are_refused_with_the_field() {
        for bad in ["5.5", "-1", "1e30", "\"5\"", "[]", "true"] {
            let (status, field, detail) = fault(&format!(
                r#"{{"language":"c","source":"","limits":{{"cpu_time_ms":{bad}}}}}"#
            ));
            assert_eq!((status, field.as_str()), (422, "limits.cpu_time_ms"), "{bad}");
            assert!(detail.contains("whole number"), "{detail}");
        }
    }

    #[test]
    fn null_is_not_a_way_to_leave_a_field_out() {
        let (status, field, _) = fault(r#"{"language":"c","source":"","tests":[{"stdin":null}]}"#);
        assert_eq!((status, field.as_str()), (422, "tests[0].stdin"));
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for text in ["", "{", "nul", "{\"language\":\"\\ud800\"}", "[1,", "\u{feff}{}"] {
            assert_eq!(fault(text).0, 400, "{text}");
        }
        assert_eq!(fault(&"[".repeat(100_000)).0, 400);
    }

    #[test]
    fn json_of_another_shape_is_invalid() {
        for text in ["null", "1", "[]", "\"x\""] {
            let (status, field, detail) = fault(text);
            assert_eq!((status, field.as_str()), (422, "body"), "{text}");
            assert!(!detail.contains("struct"), "{detail}");
        }
    }

    #[test]
    fn quoting_a_long_text_stops_at_a_whole_character() {
        assert_eq!(shorten("äöü", 3), "ä…");
        assert_eq!(shorten("abc", 3), "abc");
    }
}
