//! An attempt's events on their way to the store, as few rows as they can be.

use bytes::{Bytes, BytesMut};

use crate::{
    protocol::MAX_CHUNK_BYTES,
    sandbox::Stream,
    store::{EventData, NewEvent},
    submission::Timestamp,
};

/// What a row costs beside its bytes of output, in bytes that could be written in its time. Else a
/// program that writes single bytes would have tens of thousands of rows in one transaction, which
/// everybody's writes wait for.
const ROW_COST: usize = 1 << 10;

/// Events that are to be stored together.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    events: Vec<NewEvent>,
    /// By stream, the output that may be added to. A program that writes to both in turn has one of
    /// each, and not a row a write.
    open: [Option<Open>; 2],
    weight: usize,
}

/// The last piece of one stream.
#[derive(Debug)]
struct Open {
    /// Its place among the events.
    index: usize,
    run: u32,
    bytes: BytesMut,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of output, and what the rows cost.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Adds an event. Output goes to the piece of its stream before it, when nothing but output of
    /// the same run came between: each stream stays in its order, and the pieces are in the order of
    /// their first bytes.
    pub(super) fn push(&mut self, seq: u64, at: Timestamp, data: EventData) {
        if let EventData::Output { run, stream, data } = &data {
            self.weight += data.len();
            if self.add(*run, *stream, data, seq) {
                return;
            }
            if self.open.iter().flatten().any(|open| open.run != *run) {
                self.seal();
            }
            self.seal_one(*stream);
            let open =
                Open { index: self.events.len(), run: *run, bytes: BytesMut::from(&data[..]) };
            self.open[*stream as usize] = Some(open);
        } else {
            self.seal();
        }
        if let EventData::File { data, .. } = &data {
            self.weight += data.len();
        }
        self.weight += ROW_COST;
        self.events.push(NewEvent { seq, last_seq: seq, at, data });
    }

    fn add(&mut self, run: u32, stream: Stream, more: &Bytes, seq: u64) -> bool {
        let Some(open) = &mut self.open[stream as usize] else { return false };
        if open.run != run || open.bytes.len() + more.len() > MAX_CHUNK_BYTES {
            return false;
        }
        open.bytes.extend_from_slice(more);
        self.events[open.index].last_seq = seq;
        true
    }

    /// Ends the adding to what there is.
    fn seal(&mut self) {
        self.seal_one(Stream::Stdout);
        self.seal_one(Stream::Stderr);
    }

    fn seal_one(&mut self, stream: Stream) {
        if let Some(Open { index, bytes, .. }) = self.open[stream as usize].take()
            && let EventData::Output { data, .. } = &mut self.events[index].data
        {
            *data = bytes.freeze();
        }
    }

    /// All of it, with its weight.
    pub(super) fn take(&mut self) -> (Vec<NewEvent>, usize) {
        self.seal();
        (std::mem::take(&mut self.events), std::mem::take(&mut self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(run: u32, stream: Stream, text: &'static str) -> EventData {
        EventData::Output { run, stream, data: Bytes::from_static(text.as_bytes()) }
    }

    fn pushed(events: impl IntoIterator<Item = EventData>) -> Buffer {
        let mut buffer = Buffer::default();
        for (seq, data) in (0..).zip(events) {
            buffer.push(seq, Timestamp::from_millis(1), data);
        }
        buffer
    }

    /// First and last number, run, stream and text of each.
    fn rows(buffer: &mut Buffer) -> Vec<(u64, u64, u32, Stream, String)> {
        let row = |event: NewEvent| match event.data {
            EventData::Output { run, stream, data } => {
                let text = String::from_utf8(data.to_vec()).expect("text");
                (event.seq, event.last_seq, run, stream, text)
            }
            other => panic!("not output: {other:?}"),
        };
        buffer.take().0.into_iter().map(row).collect()
    }

    #[test]
    fn bytes_that_alternate_between_the_streams_become_one_row_of_each() {
        use Stream::{Stderr, Stdout};
        let turns = (0..1000).flat_map(|_| [output(0, Stdout, "o"), output(0, Stderr, "e")]);
        let mut buffer = pushed(turns);
        assert_eq!(buffer.weight(), 2000 + 2 * ROW_COST);
        assert_eq!(
            rows(&mut buffer),
            [(0, 1998, 0, Stdout, "o".repeat(1000)), (1, 1999, 0, Stderr, "e".repeat(1000))]
        );
        assert!(buffer.is_empty() && buffer.weight() == 0);
    }

    #[test]
    fn output_of_different_runs_is_never_joined() {
        use Stream::{Stderr, Stdout};
        let mut buffer = pushed([
            output(0, Stdout, "a"),
            output(0, Stderr, "b"),
            output(1, Stdout, "c"),
            output(1, Stderr, "d"),
            output(1, Stdout, "e"),
        ]);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            rows(&mut buffer),
            [
                (0, 0, 0, Stdout, text("a")),
                (1, 1, 0, Stderr, text("b")),
                (2, 4, 1, Stdout, text("ce")),
                (3, 3, 1, Stderr, text("d")),
            ]
        );
    }

    #[test]
    fn what_is_no_output_stands_between_the_pieces() {
        let mut buffer = pushed([
            output(0, Stream::Stdout, "a"),
            EventData::Started,
            output(0, Stream::Stdout, "b"),
        ]);
        let (events, _) = buffer.take();
        let numbers: Vec<_> = events.iter().map(|event| (event.seq, event.last_seq)).collect();
        assert_eq!(numbers, [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(events[0].data, output(0, Stream::Stdout, "a"));
    }

    #[test]
    fn a_piece_is_never_longer_than_an_event_may_be() {
        let half = Bytes::from(vec![b'x'; MAX_CHUNK_BYTES / 2 + 1]);
        let data = |stream| EventData::Output { run: 0, stream, data: half.clone() };
        let mut buffer = pushed([data(Stream::Stdout), data(Stream::Stderr), data(Stream::Stdout)]);
        assert_eq!(rows(&mut buffer).len(), 3);
    }
}
