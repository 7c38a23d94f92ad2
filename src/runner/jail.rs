//! Runs jobs one after the other in the slot of one attempt.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    protocol::{Input, MAX_CHUNK_BYTES, Turns},
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

/// Bytes of one stream, as they go on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) stream: Stream,
    pub(super) data: Bytes,
    /// How they alternate with those of the piece that comes next, where that was joined with this one.
    pub(super) turns: Turns,
}

/// Output as it comes, small pieces already joined.
#[derive(Debug)]
pub(super) struct Output {
    chunks: mpsc::Receiver<(Stream, Bytes)>,
    /// Joined and not given yet, oldest first.
    ready: VecDeque<Piece>,
    /// How those alternate that are being joined.
    turns: Turns,
}

impl Output {
    fn new(chunks: mpsc::Receiver<(Stream, Bytes)>) -> Output {
        Output { chunks, ready: VecDeque::new(), turns: Turns::default() }
    }

    /// The next piece, or `None` when the job is over. Each stream stays in its order; of what came
    /// at nearly the same time to both, there is one piece of each, the first of which has their turns.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(piece);
        }
        let whole = |(stream, data)| Piece { stream, data, turns: Turns::default() };
        let (stream, first) = self.chunks.recv().await?;
        if first.len() >= LARGE_PIECE {
            return Some(whole((stream, first)));
        }
        self.turns.note(false, first.len());
        let mut open = vec![(stream, BytesMut::from(&first[..]))];
        let mut beyond = None;
        let due = Instant::now() + JOIN_TIME;
        while let Ok(Some((stream, more))) = tokio::time::timeout_at(due, self.chunks.recv()).await
        {
            let second = open[0].0 != stream;
            let has_room = !self.turns.is_full();
            match open.get_mut(usize::from(second)) {
                Some((_, bytes)) if has_room && bytes.len() + more.len() <= MAX_CHUNK_BYTES => {
                    bytes.extend_from_slice(&more);
                }
                None if more.len() < LARGE_PIECE => {
                    open.push((stream, BytesMut::from(&more[..])));
                }
                _ => {
                    beyond = Some((stream, more));
                    break;
                }
            }
            self.turns.note(second, more.len());
        }
        self.ready.extend(open.into_iter().map(|(stream, bytes)| whole((stream, bytes.freeze()))));
        self.ready.extend(beyond.map(whole));
        let first = self.ready.pop_front()?;
        Some(Piece { turns: self.turns.take(), ..first })
    }
}

impl Jail<'_> {
    /// Runs one job to its end while `read` takes its output, and what comes of `live` reaches it.
    pub(super) async fn run<T>(
        &self,
        job: Job,
        live: Option<mpsc::Receiver<Input>>,
        read: impl AsyncFnOnce(Output) -> T,
    ) -> (Result<Measured, SandboxError>, T) {
        let (sender, chunks) = mpsc::channel(OUTPUT_CHANNEL);
        tokio::join!(
            self.sandbox.run(self.slot, job, live, sender, self.cancel),
            read(Output::new(chunks))
        )
    }

    /// Runs one job to its end and keeps what the caps let through.
    pub(super) async fn run_whole(&self, job: Job) -> Result<(Measured, Written), SandboxError> {
        let (measured, written) = self
            .run(job, None, async |mut output: Output| {
                let mut written = Written::default();
                while let Some(Piece { stream, data, .. }) = output.next().await {
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
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::MAX_TURNS;

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
        let first = output.next().await.expect("a piece");
        let second = output.next().await.expect("another");
        assert_eq!((first.stream, &first.data[..]), (Stream::Stdout, &b"abd"[..]));
        assert_eq!((second.stream, &second.data[..]), (Stream::Stderr, &b"c"[..]));
        assert_eq!(first.turns.join(&first.data, &second.data), b"abcd");
        assert!(second.turns.is_empty());
        assert_eq!(output.next().await, None);
    }

    #[tokio::test]
    async fn where_the_streams_do_not_alternate_nothing_is_added() {
        let (sender, chunks) = mpsc::channel(16);
        for (stream, text) in [(Stream::Stderr, "a"), (Stream::Stderr, "b"), (Stream::Stdout, "c")]
        {
            sender.send((stream, Bytes::from(text))).await.expect("room");
        }
        drop(sender);
        let mut output = Output::new(chunks);
        while let Some(piece) = output.next().await {
            assert!(piece.turns.is_empty(), "{piece:?}");
        }
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
                bytes += output.next().await.expect("there is more").data.len();
                pieces += 1;
            }
            all_read.send(()).expect("the writer waits");
            assert_eq!(output.next().await, None);
            pieces
        };
        let ((), pieces) = tokio::join!(write, read);
        let times = begin.elapsed().as_millis() / JOIN_TIME.as_millis() + 2;
        // Two, and the byte beyond, for as many turns as are kept of two pieces.
        let full = 3 * (BYTES / MAX_TURNS) as u128;
        assert!(pieces <= 2 * times + full, "{pieces} pieces in {times} times");
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
        while let Some(Piece { data, .. }) = output.next().await {
            assert!(data.len() <= MAX_CHUNK_BYTES);
            total += data.len();
        }
        assert_eq!(total, 3 * (MAX_CHUNK_BYTES / 2 + 1));
    }

    proptest! {
        #[test]
        fn what_was_joined_has_the_order_in_which_it_came(
            writes in proptest::collection::vec((any::<bool>(), length()), 0..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let (sender, chunks) = mpsc::channel(writes.len().max(1));
            let mut all = Vec::new();
            for (byte, (is_stdout, length)) in (0..).zip(writes) {
                let stream = if is_stdout { Stream::Stdout } else { Stream::Stderr };
                all.extend(vec![byte; length]);
                sender.try_send((stream, vec![byte; length].into())).expect("room");
            }
            drop(sender);
            let read = runtime.expect("a runtime").block_on(async {
                let (mut output, mut read) = (Output::new(chunks), Vec::new());
                while let Some(piece) = output.next().await {
                    if piece.turns.is_empty() {
                        read.extend_from_slice(&piece.data);
                    } else {
                        let second = output.next().await.expect("a second piece");
                        assert_ne!(piece.stream, second.stream);
                        read.extend(piece.turns.join(&piece.data, &second.data));
                    }
                }
                read
            });
            prop_assert!(read == all);
        }
    }

    /// Of a write: small, as large as is not joined, as large as can be.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![9 => 1..9usize, 2 => Just(LARGE_PIECE - 1), 1 => Just(MAX_CHUNK_BYTES)]
    }
}
