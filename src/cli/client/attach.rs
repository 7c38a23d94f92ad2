//! What is said to a program while it runs: a WebSocket, opened again when it is cut off.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{StatusCode, Upgraded, header};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::client::generate_key,
        protocol::{Message, Role},
    },
};

use super::{Server, path_of, refusal};
use crate::protocol::Input;

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(500);

impl Server {
    /// Passes on what `next` gives to the program of a submission. Does not return while that goes well, since
    /// whoever leaves has the program's input end; a daemon that is away is asked again.
    ///
    /// # Errors
    /// The daemon takes nothing for this submission.
    pub(in crate::cli) async fn pass_on(
        &self,
        id: &str,
        mut next: impl AsyncFnMut() -> Input,
    ) -> anyhow::Result<()> {
        // HTTP/2 has another way to begin this.
        let http = reqwest::Client::builder().http1_only().build();
        let http = http.context("cannot set up an HTTP client")?;
        let url = format!("{}{}/attach", self.base, path_of(id)?);
        let mut unsent = None;
        loop {
            if let Some(socket) = connect(&http, &url).await? {
                let (mut to, mut from) = socket.split();
                let send = async {
                    loop {
                        if unsent.is_none() {
                            unsent = Some(message(next().await)?);
                        }
                        if let Some(message) = &unsent
                            && to.send(message.clone()).await.is_err()
                        {
                            return anyhow::Ok(());
                        }
                        unsent = None;
                    }
                };
                // Events come by another way too; here they tell that the daemon is there.
                let heed = async { while let Some(Ok(_)) = from.next().await {} };
                tokio::select! {
                    sent = send => sent?,
                    () = heed => {}
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// None when the daemon is away.
async fn connect(
    http: &reqwest::Client,
    url: &str,
) -> anyhow::Result<Option<WebSocketStream<Upgraded>>> {
    let request = http
        .get(url)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key());
    let Ok(response) = request.send().await else { return Ok(None) };
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        status if status.is_server_error() => return Ok(None),
        status => bail!("{}", refusal(status, &response.bytes().await.unwrap_or_default())),
    }
    let Ok(upgraded) = response.upgrade().await else { return Ok(None) };
    Ok(Some(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await))
}

fn message(input: Input) -> anyhow::Result<Message> {
    Ok(match input {
        Input::Data { data } => Message::Binary(data.0),
        other => Message::text(serde_json::to_string(&other)?),
    })
}
