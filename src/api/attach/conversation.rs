//! What is said through a WebSocket: events to the client, input of its program to us.

use std::{collections::VecDeque, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Utf8Bytes,
        error::ProtocolError,
        protocol::{CloseFrame, Message, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{body::shorten, events, types as dto},
    dispatcher::Attachment,
    protocol::{Input, InputSignal, MAX_INPUT_BYTES, WindowSize},
    store::{EventReader, Happened},
};

/// How long a client may be silent, which answers pings: it is gone, or stopped.
const SILENCE: Duration = Duration::from_secs(3 * events::HEARTBEAT.as_secs());

/// Pings of a client between two of ours. Each is answered, whether or not it reads.
const MOST_PINGS: u32 = 100;

/// Input that waits for its program and that we read on beside, so as to answer pings and to see who leaves: what a
/// person types and pastes. Each counts as some bytes more than it has.
const MOST_WAITING: usize = MAX_INPUT_BYTES;
const EACH: usize = 64;

/// How long a client may take to take note of the end, and what it said before it went to reach its program. What it
/// sends meanwhile is still read: a connection that is closed over unread bytes is reset, and its last messages are
/// lost.
const PARTING: Duration = Duration::from_secs(5);

/// Bytes of a reason that a closing message has room for: 125, less its code and an ellipsis.
const MAX_REASON: usize = 120;

type Socket = WebSocketStream<poem::Upgraded>;

/// Why a conversation ends: what the client is told; `None` where it has gone.
type Parting = Option<(CloseCode, String)>;

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

/// Talks until one of both ends it.
pub(super) async fn hold(
    socket: Socket,
    reader: EventReader,
    attachment: &Attachment,
    draining: &CancellationToken,
) {
    let (mut to, mut from) = socket.split();
    let mut waiting = Waiting::default();
    let (parting, is_over) = tokio::select! {
        parting = listen(&mut from, &mut waiting, attachment) => (parting, false),
        parting = speak(&mut to, reader) => {
            let is_over = parting.is_some();
            (parting, is_over)
        }
        () = draining.cancelled() => {
            (Some((CloseCode::Away, "the daemon is shutting down".to_owned())), true)
        }
    };
    let last_words = async {
        match parting {
            Some((code, reason)) => {
                let reason = shorten(&reason, MAX_REASON).into();
                part(to, from, CloseFrame { code, reason }).await;
            }
            // It may have said something that we have not read yet.
            None => drop(listen(&mut from, &mut waiting, attachment).await),
        }
        if !is_over {
            waiting.pass_all_on(attachment).await;
        }
    };
    let _ = tokio::time::timeout(PARTING, last_words).await;
}

/// Input that was received and not passed on.
#[derive(Default)]
struct Waiting {
    inputs: VecDeque<Input>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, input: Input) {
        self.bytes += size(&input);
        self.inputs.push_back(input);
    }

    /// Passes the first on, as soon as there is one. Where it is dropped meanwhile, that waits on.
    async fn pass_one_on(&mut self, attachment: &Attachment) {
        match self.inputs.front() {
            Some(input) => attachment.send(input.clone()).await,
            None => std::future::pending().await,
        }
        self.bytes -= self.inputs.pop_front().map_or(0, |input| size(&input));
    }

    async fn pass_all_on(&mut self, attachment: &Attachment) {
        while !self.inputs.is_empty() {
            self.pass_one_on(attachment).await;
        }
    }
}

/// Passes on what the client says, until it goes.
async fn listen(
    from: &mut SplitStream<Socket>,
    waiting: &mut Waiting,
    attachment: &Attachment,
) -> Parting {
    let (mut pings, mut counted) = (0, Instant::now());
    loop {
        let has_room = waiting.bytes < MOST_WAITING;
        let message = tokio::select! {
            biased;
            () = waiting.pass_one_on(attachment) => continue,
            message = tokio::time::timeout(SILENCE, from.next()), if has_room => message,
        };
        let message = match message {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return fault(&error),
            Ok(None) => return None,
            Err(_elapsed) => return Some((CloseCode::Away, "nothing was heard of you".to_owned())),
        };
        if message.is_ping() {
            if counted.elapsed() > events::HEARTBEAT {
                (pings, counted) = (0, Instant::now());
            }
            pings += 1;
            if pings > MOST_PINGS {
                return Some((CloseCode::Policy, "too many pings".to_owned()));
            }
        }
        match understand(message) {
            Ok(Some(input)) => {
                if let Input::Resize(size) = input {
                    // Also where something before it waits for the program to begin.
                    attachment.note(size);
                }
                waiting.push(input);
            }
            Ok(None) => {}
            Err(reason) => return Some((CloseCode::Policy, reason)),
        }
    }
}

fn size(input: &Input) -> usize {
    match input {
        Input::Data { data } => EACH + data.len(),
        _ => EACH,
    }
}

/// What to say of a message that is none.
fn fault(error: &Error) -> Parting {
    Some(match error {
        Error::Capacity(_) => {
            (CloseCode::Size, format!("a message may have {MAX_INPUT_BYTES} bytes"))
        }
        Error::Utf8(_) => (CloseCode::Invalid, "a text is not UTF-8".to_owned()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(error) => (CloseCode::Protocol, error.to_string()),
        _ => return None,
    })
}

fn understand(message: Message) -> Result<Option<Input>, String> {
    let said = match message {
        Message::Binary(data) => return Ok(Some(Input::Data { data: Vec::from(data).into() })),
        Message::Text(text) => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        _ => return Ok(None),
    };
    Ok(Some(match said {
        Said::Stdin { data, encoding: dto::Encoding::Utf8 } => Input::Data { data: data.into() },
        Said::Stdin { data, encoding: dto::Encoding::Base64 } => {
            let data = STANDARD.decode(data).map_err(|error| format!("data: {error}"))?;
            Input::Data { data: data.into() }
        }
        Said::End {} => Input::End,
        Said::Signal { signal } => Input::Signal { signal },
        Said::Resize { rows, columns } => Input::Resize(WindowSize { rows, columns }),
    }))
}

/// Says what happens, until nothing more will.
async fn speak(to: &mut SplitSink<Socket, Message>, mut reader: EventReader) -> Parting {
    let mut is_finished = reader.has_ended();
    // Whether or not something happens: a client that only looks on answers these alone.
    let mut beat = interval(events::HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = reader.next() => Some(next),
            _ = beat.tick() => None,
        };
        let sent = match next {
            None => to.send(Message::Ping(Default::default())).await,
            Some(Ok(Some(events))) => {
                let mut sent = Ok(());
                for event in &events {
                    is_finished |= matches!(event.happened, Happened::Ended(_));
                    let text = Utf8Bytes::try_from(events::json(event)).expect("JSON is UTF-8");
                    sent = to.feed(Message::Text(text)).await;
                    if sent.is_err() {
                        break;
                    }
                }
                match sent {
                    Ok(()) => to.flush().await,
                    broken => broken,
                }
            }
            Some(Ok(None)) => {
                let reason = if is_finished { "finished" } else { "deleted" };
                return Some((CloseCode::Normal, reason.to_owned()));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "a submission cannot be followed on");
                return Some((CloseCode::Error, "it cannot be followed on now".to_owned()));
            }
        };
        if sent.is_err() {
            return None;
        }
    }
}

/// Says goodbye and waits for the client to say so too.
async fn part(mut to: SplitSink<Socket, Message>, mut from: SplitStream<Socket>, last: CloseFrame) {
    // One that has gone need not be told.
    if to.send(Message::Close(Some(last))).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = from.next().await {
        if message.is_close() {
            return;
        }
    }
    // Behind what was no message the library reads nothing any more.
    if let Ok(mut socket) = to.reunite(from) {
        let (stream, mut rest) = (socket.get_mut(), [0; 4096]);
        while let Ok(1..) = stream.read(&mut rest).await {}
    }
}
