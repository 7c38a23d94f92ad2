//! Submissions followed live: server-sent events, as browsers' `EventSource` reads them.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::{io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use poem::{
    Body, IntoResponse, Response,
    http::{HeaderName, StatusCode, header},
    web::Data,
};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::Path,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON as _, Type as _},
};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    Engine, Tag,
    answer::IsRead,
    convert,
    params::LastEventId,
    problem::{Failure, Kind},
    types as dto,
};
use crate::{
    store::{EventReader, StoredEvent},
    submission::SubmissionId,
};

/// How often something is sent while nothing happens: proxies give up connections on which nothing comes
/// for a minute, and a client that is gone is noticed by it.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// A comment, which clients pass over.
const BEAT: &[u8] = b":\n\n";

/// How soon a client comes back that was cut off, in milliseconds.
const HELLO: &[u8] = b"retry: 1000\n\n";

/// What the JSON of an event stands between.
const DATA: &[u8] = b"\ndata: ";
const END: &[u8] = b"\n\n";

const CONTENT_TYPE: &str = "text/event-stream";

/// The operation that follows a submission.
pub(super) struct EventsApi;

#[OpenApi(tag = "Tag::Submissions")]
impl EventsApi {
    /// Follow a submission
    ///
    /// Server-sent events: everything that has happened to the submission and everything that will, until
    /// `finished`, after which the answer ends. A client that was cut off names the last event that it has
    /// in `Last-Event-ID`, as `EventSource` does by itself, and goes on behind it; where nothing is to come
    /// any more the answer is then 204. Generated clients cannot read such an answer: take the library of
    /// your language for it, or read lines. Each `data` line is one `SubmissionEvent`.
    #[oai(path = "/v1/submissions/:id/events", method = "get", operation_id = "followSubmission")]
    async fn follow(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// The number of the last event that need not be sent.
        #[oai(name = "Last-Event-ID")]
        after: LastEventId,
    ) -> Result<Events, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        let place = engine.followers.clone().try_acquire_owned();
        let place =
            place.map_err(|_| Failure::new(Kind::Unavailable, "too many follow submissions"))?;
        let reader = engine.handle.follow(&engine.owner(), id, after.0).await?;
        if reader.has_ended() {
            return Ok(Events::Over);
        }
        let draining = engine.draining.clone();
        let messages = messages(reader, place).take_until(draining.cancelled_owned());
        Ok(Events::Stream(Body::from_bytes_stream(messages.map(Ok::<_, io::Error>))))
    }
}

/// The messages of a stream, those that pass the time among them. Its place is given back at its end.
fn messages(
    reader: EventReader,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let hello = stream::iter([Bytes::from_static(HELLO)]);
    let events = stream::unfold((reader, place), async |(mut reader, place)| {
        match tokio::time::timeout(HEARTBEAT, reader.next()).await {
            Err(_) => Some((vec![Bytes::from_static(BEAT)], (reader, place))),
            Ok(Ok(Some(events))) => {
                Some((events.iter().map(|event| message(event)).collect(), (reader, place)))
            }
            // The client comes back, and is told then.
            Ok(Err(error)) => {
                tracing::warn!(%error, "a submission cannot be followed on");
                None
            }
            Ok(Ok(None)) => None,
        }
    });
    hello.chain(events.map(stream::iter).flatten())
}

/// One event as it is sent; the same bytes for everybody.
fn message(event: &StoredEvent) -> Bytes {
    let write = || {
        let event = convert::event(event);
        let text = event.to_json_string();
        // JSON has no line breaks outside of texts, and escapes them inside.
        format!("id: {}\nevent: {}\ndata: {text}\n\n", event.n, event.r#type.as_str()).into()
    };
    event.shown.get_or_init(write).clone()
}

/// Its JSON alone; the same bytes for everybody, too.
pub(super) fn json(event: &StoredEvent) -> Bytes {
    let message = message(event);
    // Nothing before it has this.
    let begin = message.windows(DATA.len()).position(|it| it == DATA).unwrap_or_default();
    message.slice(begin + DATA.len()..message.len() - END.len())
}

/// The answer to one who follows.
enum Events {
    /// What happened and will happen.
    Stream(Body),
    /// Nothing will: without this a client would come back for ever.
    Over,
}

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let body = match self {
            Events::Over => return StatusCode::NO_CONTENT.into_response(),
            Events::Stream(body) => body,
        };
        let mut response = Response::builder()
            .content_type(CONTENT_TYPE)
            .header(header::CACHE_CONTROL, "no-store")
            // nginx keeps what it passes on until it has much of it, if it is not told.
            .header(HeaderName::from_static("x-accel-buffering"), "no")
            .body(body);
        response.extensions_mut().insert(IsRead);
        response
    }
}

/// OpenAPI 3.0 has no word for a stream of events. An array of them has their shape described too; the
/// answer itself is then described as text, in `document/complete.rs`.
impl ApiResponse for Events {
    fn meta() -> MetaResponses {
        let schema = MetaSchemaRef::Inline(Box::new(MetaSchema {
            items: Some(Box::new(dto::SubmissionEvent::schema_ref())),
            ..MetaSchema::new_with_format("array", "event-stream")
        }));
        let response = |status, description, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: vec![],
        };
        let stream = vec![MetaMediaType { content_type: CONTENT_TYPE, schema }];
        MetaResponses {
            responses: vec![
                response(200, "The events, as they happen.", stream),
                response(204, "All events were sent before.", vec![]),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        dto::SubmissionEvent::register(registry);
    }
}
