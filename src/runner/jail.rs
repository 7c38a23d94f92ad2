//! Runs jobs one after the other in the slot of one attempt.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::MAX_CHUNK_BYTES,
    sandbox::{Job, Measured, Sandbox, SandboxError, Slot, Stream},
};

/// Chunks of output that may wait between the sandbox and the runner; at 64 KiB each.
const OUTPUT_CHANNEL: usize = 8;

/// How long output may wait for more to be joined with: too short for a reader to notice, and long
/// enough that what a program writes byte by byte is a few hundred events a second and not as many
/// as it has writes.
const JOIN_TIME: Duration = Duration::from_millis(10);

/// Output of this size goes on at once and as it is: joining would only copy it.
const LARGE_PIECE: usize = MAX_CHUNK_BYTES / 4;

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
    /// Joined and not given yet, oldest first.
    ready: VecDeque<(Stream, Bytes)>,
}

impl Output {
    fn new(chunks: mpsc::Receiver<(Stream, Bytes)>) -> Output {
        Output { chunks, ready: VecDeque::new() }
    }

    /// The next piece, or `None` when the job is over. Each stream stays in its order; of what came
    /// at nearly the same time to both, there is one piece of each.
    pub(super) async fn next(&mut self) -> Option<(Stream, Bytes)> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(piece);
        }
        let (stream, first) = self.chunks.recv().await?;
        if first.len() >= LARGE_PIECE {
            return Some((stream, first));
        }
        let mut open = vec![(stream, BytesMut::from(&first[..]))];
        let mut large = None;
        let due = Instant::now() + JOIN_TIME;
        while let Ok(Some((stream, more))) = tokio::time::timeout_at(due, self.chunks.recv()).await
        {
            match open.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, bytes)) if bytes.len() + more.len() <= MAX_CHUNK_BYTES => {
                    bytes.extend_from_slice(&more);
                }
                None if more.len() < LARGE_PIECE => {
                    open.push((stream, BytesMut::from(&more[..])));
                }
                _ => {
                    large = Some((stream, more));
                    break;
                }
            }
        }
        self.ready.extend(open.into_iter().map(|(stream, bytes)| (stream, bytes.freeze())));
        self.ready.extend(large);
        self.ready.pop_front()
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
            read(Output::new(chunks))
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
    async fn small_pieces_are_joined_and_each_stream_stays_in_its_order() {
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
        let mut output = Output::new(chunks);
        let mut pieces = Vec::new();
        while let Some(piece) = output.next().await {
            pieces.push(piece);
        }
        assert_eq!(
            pieces,
            [(Stream::Stdout, Bytes::from("abd")), (Stream::Stderr, Bytes::from("c")),]
        );
    }

    #[tokio::test]
    async fn bytes_written_in_turn_are_few_pieces_and_do_not_wait_for_the_end_of_the_job() {
        const BYTES: usize = 10_000;
        let (sender, chunks) = mpsc::channel(1);
        let (all_read, until_all_read) = tokio::sync::oneshot::channel();
        let begin = Instant::now();
        let write = async move {
            for number in 0..BYTES {
                let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
                sender.send((stream, Bytes::from_static(b"x"))).await.expect("room");
            }
            // The program says nothing more, but it goes on.
            let patience = Duration::from_secs(30);
            tokio::time::timeout(patience, until_all_read)
                .await
                .expect("all is read")
                .expect("told");
        };
        let read = async {
            let (mut output, mut pieces, mut bytes) = (Output::new(chunks), 0, 0);
            while bytes < BYTES {
                bytes += output.next().await.expect("there is more").1.len();
                pieces += 1;
            }
            all_read.send(()).expect("the writer waits");
            assert_eq!(output.next().await, None);
            pieces
        };
        let ((), pieces) = tokio::join!(write, read);
        let times = begin.elapsed().as_millis() / JOIN_TIME.as_millis() + 2;
        assert!(pieces <= 2 * times, "{pieces} pieces in {times} times");
    }

    #[tokio::test]
    async fn a_joined_piece_is_never_larger_than_one_event() {
        let (sender, chunks) = mpsc::channel(16);
        for _ in 0..3 {
            let data = Bytes::from(vec![0; MAX_CHUNK_BYTES / 2 + 1]);
            sender.send((Stream::Stdout, data)).await.expect("room");
        }
        drop(sender);
        let mut output = Output::new(chunks);
        let mut total = 0;
        while let Some((_, data)) = output.next().await {
            assert!(data.len() <= MAX_CHUNK_BYTES);
            total += data.len();
        }
        assert_eq!(total, 3 * (MAX_CHUNK_BYTES / 2 + 1));
    }
}
