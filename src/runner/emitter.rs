//! Numbers the events of one attempt, and bounds the output that they carry.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Stop, jail::Piece};
use crate::{
    protocol::{Event, EventKind, MAX_CHUNK_BYTES, MAX_KEPT_OUTPUT_BYTES, Turns, VERSION},
    sandbox::Stream,
    submission::Blob,
};

/// The sending end of an attempt's events.
#[derive(Debug)]
pub(super) struct Emitter {
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
    seq: u64,
    /// Bytes of output and files that may still be sent, over all runs.
    output_left: u64,
}

impl Emitter {
    /// Cancels `cancel` when nobody reads any more.
    pub(super) fn new(events: mpsc::Sender<Event>, cancel: CancellationToken) -> Self {
        Emitter { events, cancel, seq: 0, output_left: MAX_KEPT_OUTPUT_BYTES }
    }

    /// Sends one event, waiting for a slow reader.
    ///
    /// # Errors
    /// [`Stop::Cancelled`] when the attempt was cancelled or nobody reads.
    pub(super) async fn emit(&mut self, kind: EventKind) -> Result<(), Stop> {
        let event = Event { v: VERSION, seq: self.seq, kind };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Stop::Cancelled),
            sent = self.events.send(event) => if sent.is_err() {
                self.cancel.cancel();
                return Err(Stop::Cancelled);
            },
        }
        self.seq += 1;
        Ok(())
    }

    /// Sends output of a run, as far as the submission may still keep some. Returns how many bytes
    /// were sent.
    ///
    /// # Errors
    /// As [`Emitter::emit`].
    pub(super) async fn output(&mut self, run: u32, piece: Piece) -> Result<u64, Stop> {
        let Piece { stream, mut data, mut turns } = piece;
        data.truncate(usize::try_from(self.output_left).unwrap_or(usize::MAX));
        let sent = data.len() as u64;
        self.output_left -= sent;
        if self.output_left == 0 {
            turns = Turns::default(); // nothing comes next
        }
        while !data.is_empty() {
            let data = Blob(data.split_to(data.len().min(MAX_CHUNK_BYTES)));
            let turns = std::mem::take(&mut turns);
            self.emit(match stream {
                Stream::Stdout => EventKind::Stdout { run, data, turns },
                Stream::Stderr => EventKind::Stderr { run, data, turns },
            })
            .await?;
        }
        Ok(sent)
    }

    /// Sends a file, if the submission may still keep all of it; says whether it did.
    ///
    /// # Errors
    /// As [`Emitter::emit`].
    pub(super) async fn file(&mut self, file: u32, mut data: Bytes) -> Result<bool, Stop> {
        let Some(left) = self.output_left.checked_sub(data.len() as u64) else { return Ok(false) };
        self.output_left = left;
        while !data.is_empty() {
            let data = Blob(data.split_to(data.len().min(MAX_CHUNK_BYTES)));
            self.emit(EventKind::File { file, data }).await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(sizes: &[usize]) -> (Vec<Event>, Vec<u64>) {
        let (sender, mut receiver) = mpsc::channel(1000);
        let mut emitter = Emitter::new(sender, CancellationToken::new());
        let mut counts = Vec::new();
        for &size in sizes {
            let data = Bytes::from(vec![b'x'; size]);
            counts.push(emitter.output(0, piece(data)).await.expect("somebody reads"));
        }
        drop(emitter);
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        (events, counts)
    }

    /// A piece that says that another belongs to it.
    fn piece(data: Bytes) -> Piece {
        Piece { stream: Stream::Stdout, data, turns: Turns::from_bytes(&[1, 1, 1]) }
    }

    fn size(event: &Event) -> usize {
        match &event.kind {
            EventKind::Stdout { data, .. } => data.len(),
            other => panic!("not output: {other:?}"),
        }
    }

    #[tokio::test]
    async fn large_output_is_split_and_numbered_without_gaps() {
        let (events, counts) = sent(&[MAX_CHUNK_BYTES * 2 + 1, 0, 5]).await;
        assert_eq!(counts, [MAX_CHUNK_BYTES as u64 * 2 + 1, 0, 5]);
        let sizes: Vec<_> = events.iter().map(size).collect();
        assert_eq!(sizes, [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 1, 5]);
        assert!(events.iter().zip(0..).all(|(event, seq)| event.seq == seq));
    }

    #[tokio::test]
    async fn output_beyond_what_a_submission_keeps_is_not_sent() {
        let all = MAX_KEPT_OUTPUT_BYTES as usize;
        let (events, counts) = sent(&[all - 10, 20, 20]).await;
        assert_eq!(counts, [all as u64 - 10, 10, 0]);
        assert_eq!(events.iter().map(size).sum::<usize>(), all);
        let last = &events.last().expect("an event").kind;
        assert!(matches!(last, EventKind::Stdout { turns, .. } if turns.is_empty()), "{last:?}");
    }

    #[tokio::test]
    async fn a_reader_that_went_away_cancels_the_attempt() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let cancel = CancellationToken::new();
        let mut emitter = Emitter::new(sender, cancel.clone());
        assert!(matches!(emitter.emit(EventKind::Started).await, Err(Stop::Cancelled)));
        assert!(cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_cancelled_attempt_says_nothing_more() {
        let (sender, mut receiver) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        cancel.cancel();
        let mut emitter = Emitter::new(sender, cancel);
        assert!(matches!(emitter.emit(EventKind::Started).await, Err(Stop::Cancelled)));
        drop(emitter);
        assert_eq!(receiver.recv().await, None);
    }
}
