//! Answers with output of programs in them, which may be larger than what should be held of them.
//!
//! ```text
//!  submission ──> JSON text, cut where large output belongs ──┐
//!  stored output ── piece by piece, as the client takes it ───┴──> body
//! ```
//!
//! A submission has up to 16 MiB of output, of which JSON makes up to 96 MiB. So an answer never holds
//! more than a piece of it, and after each piece it lets others have the thread: neither a slow client
//! nor many at once cost anybody else much.

use std::{collections::VecDeque, io, marker::PhantomData, sync::LazyLock, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use poem::{Body, IntoResponse, Response, http::header};
use poem_openapi::{
    ApiResponse,
    payload::{Json, Payload},
    registry::{MetaResponses, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use serde_json::ser::Formatter;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    encode::{Encoder, Form},
    problem::{Failure, Kind},
    types as dto,
};
use crate::{
    dispatcher::Handle,
    store::{Kept, OutputReader, StoredOutput},
};

/// Answers with large output that are sent at once: each holds up to some 300 KiB.
const LARGE_ANSWERS: usize = 256;
/// How long a reader waits for its turn before it is told to come later.
const TURN_TIME: Duration = Duration::from_secs(10);
/// Bytes of output that are made text without a pause.
const STEP_BYTES: usize = 16 << 10;
/// Stands where a text is cut. No byte of JSON is this one: in texts it is escaped.
const CUT: u8 = 0x01;

/// Turns at sending large output, of the whole process.
static TURNS: Semaphore = Semaphore::const_new(LARGE_ANSWERS);

/// Turns at making text of output: half of the processors at the most, so that programs, which are
/// timed, have the other half.
static STEPS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new((processors / 2).max(1))
});

pub(super) type Turn = SemaphorePermit<'static>;

/// What an answer is made of, in order.
#[derive(Debug)]
enum Piece {
    Text(Bytes),
    /// So many bytes of stored output.
    Stored(StoredOutput, u64, Form),
}

/// A body, of which large output is read while it is sent.
#[derive(Debug)]
pub struct Pieces {
    pieces: VecDeque<Piece>,
    handle: Handle,
    turn: Option<Turn>,
}

/// Tells whoever needs no body that this one would be read piece by piece.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsRead;

impl Pieces {
    fn new(handle: &Handle) -> Pieces {
        Pieces { pieces: VecDeque::new(), handle: handle.clone(), turn: None }
    }

    /// Output as it is, one after the other.
    pub(super) fn raw(kept: impl IntoIterator<Item = Kept>, handle: &Handle) -> Pieces {
        let mut all = Pieces::new(handle);
        all.pieces.extend(kept.into_iter().map(|kept| match kept {
            Kept::Here(blob) => Piece::Text(blob.0),
            Kept::Stored(stored) => {
                let bytes = stored.bytes;
                Piece::Stored(stored, bytes, Form::Raw)
            }
        }));
        all
    }

    fn is_large(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Stored(..)))
    }

    /// Waits until this answer can be sent at once. One that did not wait here does so while it is
    /// sent, however long: what it answers has been done.
    pub(super) async fn with_turn(mut self) -> Result<Pieces, Failure> {
        if self.is_large() {
            self.turn = Some(turn().await?);
        }
        Ok(self)
    }

    /// How long it will be, where nothing changes its length.
    fn length(&self) -> Option<u64> {
        let length = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.len() as u64),
            Piece::Stored(_, bytes, Form::Raw) => Some(*bytes),
            Piece::Stored(..) => None,
        };
        self.pieces.iter().map(length).sum()
    }

    /// The answer.
    pub(super) fn into_response(self, content_type: &str) -> Response {
        let response = Response::builder().content_type(content_type);
        if !self.is_large() {
            let texts = self.pieces.iter().filter_map(|piece| match piece {
                Piece::Text(text) => Some(&text[..]),
                Piece::Stored(..) => None,
            });
            return response.body(texts.collect::<Vec<_>>().concat());
        }
        let length = self.length();
        let sending = Sending { all: self, open: None };
        let mut response =
            response.body(Body::from_bytes_stream(stream::try_unfold(sending, send)));
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response.extensions_mut().insert(IsRead);
        response
    }
}

/// A turn at sending something large, for one who may be told to come later.
pub(super) async fn turn() -> Result<Turn, Failure> {
    let busy = |_| Failure::new(Kind::Unavailable, "too many large answers are being sent");
    tokio::time::timeout(TURN_TIME, take_turn()).await.map_err(busy)
}

async fn take_turn() -> Turn {
    TURNS.acquire().await.expect("the semaphore is never closed")
}

/// An answer on its way.
struct Sending {
    all: Pieces,
    open: Option<Open>,
}

/// The output that is being sent.
struct Open {
    reader: OutputReader,
    read: VecDeque<Bytes>,
    encoder: Encoder,
}

/// The next part of a body.
async fn send(mut sending: Sending) -> io::Result<Option<(Bytes, Sending)>> {
    loop {
        let part = match &mut sending.open {
            Some(open) => match open.next().await? {
                Some(part) => part,
                None => {
                    let end = open.encoder.end();
                    sending.open = None;
                    end
                }
            },
            None => match sending.all.pieces.pop_front() {
                None => return Ok(None),
                Some(Piece::Text(text)) => text,
                Some(Piece::Stored(output, bytes, form)) => {
                    if sending.all.turn.is_none() {
                        sending.all.turn = Some(take_turn().await);
                    }
                    let reader = sending.all.handle.read(&output, bytes);
                    let encoder = Encoder::new(form);
                    sending.open = Some(Open { reader, read: VecDeque::new(), encoder });
                    continue;
                }
            },
        };
        if !part.is_empty() {
            return Ok(Some((part, sending)));
        }
    }
}

impl Open {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(next) = self.read.front_mut() else {
            // The client sees that the answer is cut off, and the log has why.
            let read = self.reader.next().await.map_err(|error| {
                tracing::warn!(%error, "output could not be read to its end");
                io::Error::other("the output cannot be read to its end")
            })?;
            return Ok(read.map(|pieces| {
                self.read = pieces.into();
                Bytes::new()
            }));
        };
        let step = next.split_to(next.len().min(STEP_BYTES));
        if next.is_empty() {
            self.read.pop_front();
        }
        // Others on this thread first.
        tokio::task::yield_now().await;
        let _turn = STEPS.acquire().await.expect("the semaphore is never closed");
        Ok(Some(self.encoder.encode(step)))
    }
}

/// Something that may hold stored output.
pub(super) trait HoldsOutput {
    /// All output in it, in the order of its JSON.
    fn outputs(&self) -> Vec<&dto::Output>;
}

impl HoldsOutput for dto::Submission {
    fn outputs(&self) -> Vec<&dto::Output> {
        let runs = self.outcome.iter().flat_map(|outcome| &outcome.runs);
        runs.flat_map(|run| [&run.stdout, &run.stderr].into_iter().chain(&run.output)).collect()
    }
}

impl HoldsOutput for dto::BatchResponse {
    fn outputs(&self) -> Vec<&dto::Output> {
        let submissions = self.items.iter().filter_map(|item| match item {
            dto::BatchResult::Submission(submission) => Some(submission),
            dto::BatchResult::Problem(_) => None,
        });
        submissions.flat_map(|submission| submission.outputs()).collect()
    }
}

/// JSON of a `T`, large output and all.
#[derive(Debug)]
pub(super) struct Answer<T> {
    pieces: Pieces,
    shape: PhantomData<fn() -> T>,
}

impl<T: ToJSON + HoldsOutput> Answer<T> {
    /// The answer that is `value`.
    pub(super) fn new(value: &T, handle: &Handle) -> Result<Answer<T>, Failure> {
        let stored = value.outputs().into_iter().filter_map(stored);
        let pieces = cut(&value.to_json(), stored.collect()).map_err(|reason| {
            tracing::error!(reason, "an answer cannot be written");
            Failure::internal()
        })?;
        Ok(Answer { pieces: Pieces { pieces, ..Pieces::new(handle) }, shape: PhantomData })
    }

    /// As [`Pieces::with_turn`].
    pub(super) async fn with_turn(self) -> Result<Answer<T>, Failure> {
        Ok(Answer { pieces: self.pieces.with_turn().await?, ..self })
    }
}

fn stored(output: &dto::Output) -> Option<Piece> {
    let form = match output.encoding {
        dto::Encoding::Utf8 => Form::JsonText,
        dto::Encoding::Base64 => Form::JsonBase64,
    };
    match &output.data {
        dto::OutputData::Text(_) => None,
        dto::OutputData::Stored(stored, bytes) => Some(Piece::Stored(stored.clone(), *bytes, form)),
    }
}

/// The text of `value` with the stored output where its nulls are.
fn cut(
    value: &Option<serde_json::Value>,
    stored: Vec<Piece>,
) -> Result<VecDeque<Piece>, &'static str> {
    if stored.is_empty() {
        let text = serde_json::to_vec(value).map_err(|_| "it is no JSON")?;
        return Ok(VecDeque::from([Piece::Text(text.into())]));
    }
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, CutAtNull);
    serde::Serialize::serialize(value, &mut serializer).map_err(|_| "it is no JSON")?;
    let text = Bytes::from(text);
    let mut parts = text.split(|&byte| byte == CUT).map(|part| Piece::Text(text.slice_ref(part)));
    let mut pieces: VecDeque<_> = parts.next().into_iter().collect();
    let mut stored = stored.into_iter();
    for part in parts {
        pieces.push_back(stored.next().ok_or("it has a null that is no output")?);
        pieces.push_back(part);
    }
    if stored.next().is_some() {
        return Err("it has output that has no place");
    }
    Ok(pieces)
}

struct CutAtNull;

impl Formatter for CutAtNull {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(&[CUT])
    }
}

impl<T: Type> Payload for Answer<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + Send> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        self.pieces.into_response(Self::CONTENT_TYPE)
    }
}

impl<T: ToJSON> ApiResponse for Answer<T> {
    fn meta() -> MetaResponses {
        Json::<T>::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
