//! How much is taken in: bodies are read whole, up to a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use poem::{
    Request,
    http::{HeaderValue, header},
};

use super::origin::text;
use crate::api::problem::{Failure, Kind};

/// Longest time that a body may take to come in.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read all the same, so that a client that sends before it
/// reads gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Reads the whole body, if it is not too large.
pub(super) async fn read_body(request: &mut Request, limit: usize) -> Result<Bytes, Failure> {
    let body = request.take_body();
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    let length = text(request.headers(), header::CONTENT_LENGTH).and_then(|n| n.parse().ok());
    let mut stream = Box::pin(body.into_bytes_stream());
    if length.is_some_and(|length: u64| length > limit as u64) {
        // A client that waits for `100 Continue` has sent nothing, and will not.
        if !request.headers().contains_key(header::EXPECT) {
            drain(&mut stream).await;
        }
        return Err(too_large(limit));
    }
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(chunk) = stream.next().await {
            let cut = || Failure::new(Kind::MalformedBody, "the body ended early");
            let chunk = chunk.map_err(|_| cut())?;
            if bytes.len() + chunk.len() > limit {
                drain(&mut stream).await;
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(read) => read.map(|()| bytes.freeze()),
        Err(_) => Err(closing(Failure::new(
            Kind::BodyTimeout,
            format!("it took more than {} s", BODY_TIME.as_secs()),
        ))),
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

fn closing(failure: Failure) -> Failure {
    failure.header(header::CONNECTION, HeaderValue::from_static("close"))
}
