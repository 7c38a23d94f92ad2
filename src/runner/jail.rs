//! Runs jobs one after the other in the slot of one attempt.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::MAX_CHUNK_BYTES,
    sandbox::{Job, Measured, Sandbox, SandboxError, Slot, Stream},
};

/// Chunks of output that may wait between the sandbox and the runner; at 64 KiB each.
const OUTPUT_CHANNEL: usize = 8;

/// The slot of one attempt, and what ends it early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jail<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) slot: &'a Slot,
    pub(super) cancel: &'a CancellationToken,
}

/// What a job wrote, as far as it was kept.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) stdout: BytesMut,
    pub(super) stderr: BytesMut,
}

/// Output as it comes, small pieces already joined.
#[derive(Debug)]
pub(super) struct Output {
    chunks: mpsc::Receiver<(Stream, Bytes)>,
    /// Taken from the channel, but of another stream or too much for the last piece.
    held: Option<(Stream, Bytes)>,
}

impl Output {
    /// The next piece, or `None` when the job is over. A program that writes byte by byte gives
    /// few pieces where the reader is slower than it is.
    pub(super) async fn next(&mut self) -> Option<(Stream, Bytes)> {
        let (stream, first) = match self.held.take() {
            Some(held) => held,
            None => self.chunks.recv().await?,
        };
        let mut joined: Option<BytesMut> = None;
        let mut length = first.len();
        while let Ok((of, more)) = self.chunks.try_recv() {
            if of != stream || length + more.len() > MAX_CHUNK_BYTES {
                self.held = Some((of, more));
                break;
            }
            length += more.len();
            joined.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&more);
        }
        Some((stream, joined.map_or(first, BytesMut::freeze)))
    }
}

impl Jail<'_> {
    /// Runs one job to its end while `read` takes its output.
    pub(super) async fn run<T>(
        &self,
        job: Job,
        read: impl AsyncFnOnce(Output) -> T,
    ) -> (Result<Measured, SandboxError>, T) {
        let (sender, chunks) = mpsc::channel(OUTPUT_CHANNEL);
        tokio::join!(
            self.sandbox.run(self.slot, job, sender, self.cancel),
            read(Output { chunks, held: None })
        )
    }

    /// Runs one job to its end and keeps what the caps let through.
    pub(super) async fn run_whole(&self, job: Job) -> Result<(Measured, Written), SandboxError> {
        let (measured, written) = self
            .run(job, async |mut output: Output| {
                let mut written = Written::default();
                while let Some((stream, data)) = output.next().await {
                    match stream {
                        Stream::Stdout => written.stdout.extend_from_slice(&data),
                        Stream::Stderr => written.stderr.extend_from_slice(&data),
                    }
                }
                written
            })
            .await;
        Ok((measured?, written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_pieces_of_one_stream_are_joined_and_order_is_kept() {
        let (sender, chunks) = mpsc::channel(16);
        for (stream, text) in [
            (Stream::Stdout, "a"),
            (Stream::Stdout, "b"),
            (Stream::Stderr, "c"),
            (Stream::Stdout, "d"),
        ] {
            sender.send((stream, Bytes::from(text))).await.expect("room");
        }
        drop(sender);
        let mut output = Output { chunks, held: None };
        let mut pieces = Vec::new();
        while let Some(piece) = output.next().await {
            pieces.push(piece);
        }
        assert_eq!(
            pieces,
            [
                (Stream::Stdout, Bytes::from("ab")),
                (Stream::Stderr, Bytes::from("c")),
                (Stream::Stdout, Bytes::from("d"))
            ]
        );
    }

    #[tokio::test]
    async fn a_joined_piece_is_never_larger_than_one_event() {
        let (sender, chunks) = mpsc::channel(16);
        for _ in 0..3 {
            let data = Bytes::from(vec![0; MAX_CHUNK_BYTES / 2 + 1]);
            sender.send((Stream::Stdout, data)).await.expect("room");
        }
        drop(sender);
        let mut output = Output { chunks, held: None };
        let mut total = 0;
        while let Some((_, data)) = output.next().await {
            assert!(data.len() <= MAX_CHUNK_BYTES);
            total += data.len();
        }
        assert_eq!(total, 3 * (MAX_CHUNK_BYTES / 2 + 1));
    }
}
