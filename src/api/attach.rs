//! Programs that are talked to while they run: a WebSocket (RFC 6455).
//!
//! Not part of the OpenAPI description, which has no word for one: openapi/attach.md describes it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use poem::{
    FromRequest as _, IntoResponse as _, Request, Response,
    http::{HeaderValue, header},
    web::websocket::{CloseCode, Message, WebSocket, WebSocketConfig, WebSocketStream},
};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Engine,
    body::shorten,
    events,
    params::LastEventId,
    problem::{Failure, Kind},
    types as dto,
};
use crate::{
    dispatcher::Attachment,
    protocol::{Input, InputSignal, MAX_INPUT_BYTES, WindowSize},
    store::EventReader,
    submission::SubmissionId,
};

/// The path for the router.
pub(super) const ROUTE: &str = "/v1/submissions/:id/attach";

/// The same as a template of the description's kind.
pub(super) const PATH: &str = "/v1/submissions/{id}/attach";

/// Its query parameter.
pub(super) const AFTER: &str = "after";

/// How long a client may take to take note of the end. What it sent meanwhile is still read: a connection that
/// is closed over unread bytes is reset, and its last messages are lost.
const PARTING: Duration = Duration::from_secs(5);

/// Bytes of a reason that a closing message has room for: 125, less its code and an ellipsis.
const MAX_REASON: usize = 120;

/// The most that the library takes for one message. What is above our own bound is told so.
const MOST_READ: usize = 4 * MAX_INPUT_BYTES;

/// What is read at once, and what is written together: the library's own would be 128 KiB for each who is attached.
const BUFFER: usize = 8 << 10;

/// A message from a client, as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
enum Said {
    Stdin {
        data: String,
        #[serde(default)]
        encoding: dto::Encoding,
    },
    End {},
    Signal {
        signal: InputSignal,
    },
    Resize {
        rows: u16,
        columns: u16,
    },
}

/// Why a conversation ends.
type Parting = (CloseCode, String);

/// Attaches to a submission.
pub(super) async fn attach(request: Request) -> poem::Result<Response> {
    Ok(match begin(&request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    })
}

async fn begin(request: &Request) -> Result<Response, Failure> {
    let engine: &Engine = request.data().expect("the router has it");
    let id: String = request.path_params().map_err(|_| Failure::not_found())?;
    let id: SubmissionId = id.parse().map_err(|_| Failure::not_found())?;
    let after = after(request)?;
    let (reader, attachment) = engine.handle.attach(&engine.owner(), id, after).await?;
    let socket = WebSocket::from_request_without_body(request).await.map_err(|_| no_upgrade())?;
    let place = engine.followers.clone().try_acquire_owned();
    let place =
        place.map_err(|_| Failure::new(Kind::Unavailable, "too many follow submissions"))?;
    let bounds = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(MOST_READ))
        .max_frame_size(Some(MOST_READ));
    let draining = engine.draining.clone();
    let upgraded = socket.config(bounds).on_upgrade(async move |stream| {
        let (mut to, mut from) = stream.split();
        let (code, reason) = tokio::select! {
            parting = listen(&mut from, &attachment) => parting,
            parting = speak(&mut to, reader) => parting,
            () = draining.cancelled() => (CloseCode::Away, "the daemon is shutting down".to_owned()),
        };
        part(to, from, Message::close_with(code, reason)).await;
        drop::<(Attachment, OwnedSemaphorePermit)>((attachment, place));
    });
    Ok(upgraded.into_response())
}

/// The number of the last event that need not be sent.
fn after(request: &Request) -> Result<Option<u64>, Failure> {
    let sent: Vec<(String, String)> = request.params().unwrap_or_default();
    let named = sent.into_iter().find(|(name, _)| name == AFTER);
    let number = named.map(|(name, text)| LastEventId::check(&name, text.as_bytes())).transpose();
    number.map_err(|fault| Failure::invalid(vec![fault]))
}

fn no_upgrade() -> Failure {
    let detail = "this is a WebSocket (RFC 6455, version 13); openapi/attach.md describes it";
    Failure::new(Kind::UpgradeRequired, detail)
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
}

/// Passes on what the client says, until it goes.
async fn listen(from: &mut SplitStream<WebSocketStream>, attachment: &Attachment) -> Parting {
    while let Some(Ok(message)) = from.next().await {
        match understand(message) {
            Ok(Some(input)) => attachment.send(input).await,
            Ok(None) => {}
            Err(parting) => return parting,
        }
    }
    (CloseCode::Normal, String::new())
}

fn understand(message: Message) -> Result<Option<Input>, Parting> {
    let length = match &message {
        Message::Text(text) => text.len(),
        Message::Binary(data) => data.len(),
        _ => return Ok(None),
    };
    if length > MAX_INPUT_BYTES {
        let reason = format!("a message of {length} bytes; {MAX_INPUT_BYTES} are the most");
        return Err((CloseCode::Size, reason));
    }
    let said = match message {
        Message::Binary(data) => return Ok(Some(Input::Data { data: data.into() })),
        Message::Text(text) => serde_json::from_str(&text),
        _ => return Ok(None),
    };
    let unclear = |reason: String| (CloseCode::Policy, shorten(&reason, MAX_REASON));
    Ok(Some(match said.map_err(|error| unclear(error.to_string()))? {
        Said::Stdin { data, encoding: dto::Encoding::Utf8 } => Input::Data { data: data.into() },
        Said::Stdin { data, encoding: dto::Encoding::Base64 } => {
            let data = STANDARD.decode(data).map_err(|error| unclear(format!("data: {error}")))?;
            Input::Data { data: data.into() }
        }
        Said::End {} => Input::End,
        Said::Signal { signal } => Input::Signal { signal },
        Said::Resize { rows, columns } => Input::Resize(WindowSize { rows, columns }),
    }))
}

/// Says what happens, until nothing more will.
async fn speak(to: &mut SplitSink<WebSocketStream, Message>, mut reader: EventReader) -> Parting {
    loop {
        let sent = match tokio::time::timeout(events::HEARTBEAT, reader.next()).await {
            Err(_) => to.send(Message::ping([])).await,
            Ok(Ok(Some(events))) => {
                let mut sent = Ok(());
                for event in &events {
                    sent = to.feed(Message::text(events::text(event))).await;
                    if sent.is_err() {
                        break;
                    }
                }
                sent.and(to.flush().await)
            }
            Ok(Ok(None)) => return (CloseCode::Normal, "finished".to_owned()),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a submission cannot be followed on");
                return (CloseCode::Error, "it cannot be followed on now".to_owned());
            }
        };
        if sent.is_err() {
            return (CloseCode::Away, String::new());
        }
    }
}

/// Says goodbye and waits for the client to say so too.
async fn part(
    mut to: SplitSink<WebSocketStream, Message>,
    mut from: SplitStream<WebSocketStream>,
    goodbye: Message,
) {
    let parted = async {
        // One that has gone need not be told.
        if to.send(goodbye).await.is_ok() {
            while let Some(Ok(_)) = from.next().await {}
        }
    };
    let _ = tokio::time::timeout(PARTING, parted).await;
}
