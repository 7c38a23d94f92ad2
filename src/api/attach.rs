//! Programs that are talked to while they run: a WebSocket (RFC 6455).
//!
//! Not part of the OpenAPI description, which has no word for one: openapi/attach.md describes it.

mod conversation;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use poem::{
    IntoResponse as _, Request, Response,
    http::{HeaderValue, Method, StatusCode, header},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    Engine,
    params::LastEventId,
    problem::{Failure, Kind},
};
use crate::{connections::Connection, protocol::MAX_INPUT_BYTES, submission::SubmissionId};

/// The path for the router.
pub(super) const ROUTE: &str = "/v1/submissions/:id/attach";

/// The same as a template of the description's kind.
pub(super) const PATH: &str = "/v1/submissions/{id}/attach";

/// Its query parameter.
pub(super) const AFTER: &str = "after";

/// The version of the protocol (RFC 6455, section 4.1).
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// What is read at once, and what is written together: the library's own would be 128 KiB for each who is attached.
const BUFFER: usize = 8 << 10;

/// What may wait to be written: the longest event, 128 KiB of a compiler's output of which JSON makes six times as
/// much, and some pongs.
const MOST_UNWRITTEN: usize = 1 << 20;

/// Attaches to a submission.
pub(super) async fn attach(request: Request) -> poem::Result<Response> {
    Ok(match begin(&request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    })
}

async fn begin(request: &Request) -> Result<Response, Failure> {
    let engine: &Engine = request.data().expect("the router has it");
    let connection: &Connection = request.data().expect("each request comes by one");
    let id: String = request.path_params().map_err(|_| Failure::not_found())?;
    let id: SubmissionId = id.parse().map_err(|_| Failure::not_found())?;
    let after = after(request)?;
    let (upgrade, accept) = accept(request).ok_or_else(no_upgrade)?;
    let place = engine.followers.clone().try_acquire_owned();
    let place =
        place.map_err(|_| Failure::new(Kind::Unavailable, "too many follow submissions"))?;
    // Last: whoever is refused has not been there.
    let (reader, attachment) = engine.handle.attach(&engine.owner(), id, after).await?;
    let draining = engine.draining.clone();
    connection.go_on(async move {
        if let Ok(upgraded) = upgrade.await {
            let bounds = WebSocketConfig::default()
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_write_buffer_size(MOST_UNWRITTEN)
                .max_message_size(Some(MAX_INPUT_BYTES))
                .max_frame_size(Some(MAX_INPUT_BYTES));
            let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(bounds));
            conversation::hold(socket.await, reader, &attachment, &draining).await;
        }
        drop(place);
    });
    Ok(Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .finish())
}

/// The number of the last event that need not be sent.
fn after(request: &Request) -> Result<Option<u64>, Failure> {
    let sent: Vec<(String, String)> = request.params().unwrap_or_default();
    let named = sent.into_iter().find(|(name, _)| name == AFTER);
    let number = named.map(|(name, text)| LastEventId::check(&name, text.as_bytes())).transpose();
    number.map_err(|fault| Failure::invalid(vec![fault]))
}

/// The connection, once it is a WebSocket, and the answer to the client's key (RFC 6455, section 4.2); `None`
/// where it is not asked for one that is known here.
fn accept(request: &Request) -> Option<(poem::OnUpgrade, String)> {
    let headers = request.headers();
    let names = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    let is_asked = *request.method() == Method::GET
        && names(header::CONNECTION, "upgrade")
        && names(header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION) == Some(&VERSION);
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_asked)?.as_bytes();
    let is_sound = STANDARD.decode(key).is_ok_and(|key| key.len() == 16);
    let upgrade = is_sound.then(|| request.take_upgrade().ok())??;
    Some((upgrade, derive_accept_key(key)))
}

fn no_upgrade() -> Failure {
    let detail = "this is a WebSocket (RFC 6455, version 13); openapi/attach.md describes it";
    Failure::new(Kind::UpgradeRequired, detail)
        .header(header::UPGRADE, HeaderValue::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, VERSION)
}
