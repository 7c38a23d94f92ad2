//! A program that is talked to: a WebSocket, by which its events come and what is said to it goes. It is opened
//! again, behind the last event, when it is cut off.

use std::cell::Cell;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{StatusCode, Upgraded, header};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::client::generate_key,
        protocol::{Message, Role, frame::coding::CloseCode},
    },
};

use super::{
    Event, Server,
    events::{PATIENCE, PAUSE, SILENCE},
    path_of, refusal,
};
use crate::protocol::Input;

impl Server {
    /// Talks to a submission until it has finished: passes on what `next` gives, and gives what happens to `heard`.
    ///
    /// # Errors
    /// The daemon is away for longer than a restart takes, or takes nothing for this submission.
    pub(in crate::cli) async fn talk(
        &self,
        id: &str,
        mut next: impl AsyncFnMut() -> Input,
        heard: mpsc::Sender<Event>,
    ) -> anyhow::Result<()> {
        // HTTP/2 has another way to begin this.
        let http = reqwest::Client::builder().http1_only().build();
        let http = http.context("cannot set up an HTTP client")?;
        let url = format!("{}{}/attach", self.base, path_of(id)?);
        let (mut unsent, last) = (None, Cell::new(None));
        let mut away_since = None;
        loop {
            match connect(&http, &url, last.get()).await? {
                Ok(socket) => {
                    away_since = None;
                    let (mut to, mut from) = socket.split();
                    let say = async {
                        loop {
                            if unsent.is_none() {
                                unsent = Some(message(next().await)?);
                            }
                            // Once it is taken it is not sent again: a key counts once.
                            if let Some(message) = &unsent
                                && to.feed(message.clone()).await.is_err()
                            {
                                return anyhow::Ok(false);
                            }
                            unsent = None;
                            if to.flush().await.is_err() {
                                return Ok(false);
                            }
                        }
                    };
                    let hear = async {
                        while let Ok(Some(Ok(message))) = timeout(SILENCE, from.next()).await {
                            let text = match message {
                                Message::Text(text) => text,
                                // Nothing more, whether it has finished or was deleted.
                                Message::Close(Some(end)) if end.code == CloseCode::Normal => {
                                    return anyhow::Ok(true);
                                }
                                _ => continue,
                            };
                            let value =
                                serde_json::from_str(&text).context("an event is no JSON")?;
                            let event = Event::new(value);
                            // Nothing is waited for behind this: one that is cut off here comes again.
                            let Ok(place) = heard.reserve().await else { return Ok(true) };
                            last.set(event.value["n"].as_u64().or(last.get()));
                            place.send(event);
                        }
                        Ok(false)
                    };
                    let is_over = tokio::select! {
                        broken = say => broken?,
                        heard = hear => heard?,
                    };
                    if is_over {
                        return Ok(());
                    }
                }
                Err(why) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        return Err(why.context(self.is_away()));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The inner error says why not now.
async fn connect(
    http: &reqwest::Client,
    url: &str,
    after: Option<u64>,
) -> anyhow::Result<anyhow::Result<WebSocketStream<Upgraded>>> {
    let request = http
        .get(url)
        .query(&after.map(|n| ("after", n)).into_iter().collect::<Vec<_>>())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key());
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Ok(Err(error.into())),
    };
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        status => {
            let why = refusal(status, &response.bytes().await.unwrap_or_default());
            if status.is_server_error() {
                return Ok(Err(anyhow::anyhow!(why)));
            }
            bail!("{why}");
        }
    }
    Ok(match response.upgrade().await {
        Ok(upgraded) => Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await),
        Err(error) => Err(error.into()),
    })
}

fn message(input: Input) -> anyhow::Result<Message> {
    Ok(match input {
        Input::Data { data } => Message::Binary(data.0),
        other => Message::text(serde_json::to_string(&other)?),
    })
}
