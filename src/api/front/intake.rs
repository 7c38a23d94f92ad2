//! How much is taken in: bodies are read whole, up to a limit each and up to one for all together.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use poem::{
    Request,
    http::{HeaderValue, header},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::origin::text;
use crate::api::problem::{Failure, Kind};

/// Bytes of a body that are taken however many others are on their way: nearly all bodies are
/// smaller than this.
const SMALL_BYTES: usize = 16 << 10;
/// Bytes of all larger bodies that are on their way, together. A client may be as slow as
/// [`BODY_TIME`] lets it, and what has come is kept so long: with every connection at it that would
/// be gigabytes.
const ROOM_BYTES: usize = 128 << 20;
/// Longest time that a body may take to come in.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read all the same, so that a client that sends before it
/// reads gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Takes bodies in.
pub(super) struct Intake {
    /// Most bytes of one.
    limit: usize,
    /// Bytes that more may come of, beyond what is small.
    room: Semaphore,
}

impl Intake {
    /// For bodies of at most `limit` bytes, of which one always has room.
    pub(super) fn new(limit: usize) -> Intake {
        Intake { limit, room: Semaphore::new(ROOM_BYTES.max(limit)) }
    }

    /// Reads the whole body, if it is not too large.
    pub(super) async fn read_body(&self, request: &mut Request) -> Result<Bytes, Failure> {
        let body = request.take_body();
        if body.is_empty() {
            return Ok(Bytes::new());
        }
        let length = text(request.headers(), header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
        let mut stream = Box::pin(body.into_bytes_stream());
        if length.is_some_and(|length: u64| length > self.limit as u64) {
            // A client that waits for `100 Continue` has sent nothing, and will not.
            if !request.headers().contains_key(header::EXPECT) {
                drain(&mut stream).await;
            }
            return Err(too_large(self.limit));
        }
        match tokio::time::timeout(BODY_TIME, self.read(&mut stream)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(failure)) => {
                drain(&mut stream).await;
                Err(failure)
            }
            Err(_) => Err(closing(Failure::new(
                Kind::BodyTimeout,
                format!("it took more than {} s", BODY_TIME.as_secs()),
            ))),
        }
    }

    async fn read(
        &self,
        stream: &mut (impl Stream<Item = std::io::Result<Bytes>> + Unpin),
    ) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::new();
        // Given back when the body is whole: it is made a request of then, and waits for nobody.
        let mut taken: Option<SemaphorePermit<'_>> = None;
        while let Some(chunk) = stream.next().await {
            let cut = || Failure::new(Kind::MalformedBody, "the body ended early");
            let chunk = chunk.map_err(|_| cut())?;
            let length = bytes.len() + chunk.len();
            if length > self.limit {
                return Err(too_large(self.limit));
            }
            let has = taken.as_ref().map_or(0, SemaphorePermit::num_permits);
            let more = length.saturating_sub(SMALL_BYTES).saturating_sub(has);
            let more = u32::try_from(more).expect("the limit of a body is at most 1 GiB");
            let more = self.room.try_acquire_many(more).map_err(|_| no_room())?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                None => taken = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

async fn drain(stream: &mut (impl Stream<Item = std::io::Result<Bytes>> + Unpin)) {
    let all = async {
        let mut drained = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            drained += chunk.len();
            if drained > DRAIN_BYTES {
                break;
            }
        }
    };
    // Whether it came to the end or not, the answer is the same.
    let _ = tokio::time::timeout(DRAIN_TIME, all).await;
}

fn too_large(limit: usize) -> Failure {
    closing(Failure::new(Kind::BodyTooLarge, format!("a body may have {limit} bytes at the most")))
}

fn no_room() -> Failure {
    closing(Failure::new(Kind::Unavailable, "too many large bodies are on their way at once"))
}

fn closing(failure: Failure) -> Failure {
    failure.header(header::CONNECTION, HeaderValue::from_static("close"))
}
