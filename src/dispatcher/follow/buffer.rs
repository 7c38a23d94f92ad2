//! An attempt's events on their way to the store, as few rows as they can be.

use bytes::BytesMut;

use crate::{
    protocol::{MAX_CHUNK_BYTES, MAX_TURNS, Turns},
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
    /// How the bytes of these two alternate, in the order in which they were opened.
    turns: Turns,
    /// Output that alternates with the event behind it, and is added together with that: of pieces
    /// that were stored at two times, or with others between them, the order would be lost.
    first: Option<NewEvent>,
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
    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Bytes of output, and what the rows cost.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Adds an event. Output goes to the piece of its stream before it, when nothing but output of
    /// the same run came between: each stream stays in its order, and the pieces are in the order of
    /// their first bytes. Output that alternates with the next event waits for that.
    pub(super) fn push(&mut self, seq: u64, at: Timestamp, data: EventData) {
        let event = NewEvent { seq, last_seq: seq, at, data };
        if let Some(first) = self.first.take() {
            if belongs_to(&first.data, &event.data) {
                return self.add_both(first, event);
            }
            self.add(first);
        }
        match &event.data {
            EventData::Output { turns, .. } if !turns.is_empty() => self.first = Some(event),
            _ => self.add(event),
        }
    }

    fn add(&mut self, event: NewEvent) {
        let EventData::Output { run, stream, data, .. } = &event.data else {
            self.seal();
            if let EventData::File { data, .. } = &event.data {
                self.weight += data.len();
            }
            self.weight += ROW_COST;
            return self.events.push(event);
        };
        let (run, stream, length) = (*run, *stream, data.len());
        if self.turns.is_full() || !self.takes(run, stream, length) {
            self.seal();
        }
        self.add_output(event);
        self.turns.note(self.is_second(stream), length);
    }

    /// Adds two events whose bytes alternate, to pieces that can take both.
    fn add_both(&mut self, first: NewEvent, second: NewEvent) {
        let (
            EventData::Output { run, stream, data, turns },
            EventData::Output { stream: other, data: more, .. },
        ) = (&first.data, &second.data)
        else {
            return;
        };
        let (run, stream, other, turns) = (*run, *stream, *other, turns.clone());
        let lengths = (data.len(), more.len());
        let is_full = self.turns.len() + turns.len() > MAX_TURNS;
        let takes = self.takes(run, stream, lengths.0) && self.takes(run, other, lengths.1);
        if is_full || !takes {
            self.seal();
        }
        self.add_output(first);
        self.add_output(second);
        for (is_second, length) in turns.of(lengths.0, lengths.1) {
            self.turns.note(self.is_second(if is_second { other } else { stream }), length);
        }
    }

    /// Whether what is open can take so many bytes more.
    fn takes(&self, run: u32, stream: Stream, length: usize) -> bool {
        let is_open = self.open[stream as usize].as_ref();
        self.open.iter().flatten().all(|open| open.run == run)
            && is_open.is_none_or(|open| open.bytes.len() + length <= MAX_CHUNK_BYTES)
    }

    /// Whether a stream's piece is, or would be, the second of the two that are open.
    fn is_second(&self, stream: Stream) -> bool {
        let [own, other] = [stream as usize, 1 - stream as usize].map(|of| self.open[of].as_ref());
        other.is_some_and(|other| own.is_none_or(|own| own.index > other.index))
    }

    /// Adds output to its piece, which can take it, or begins one.
    fn add_output(&mut self, mut event: NewEvent) {
        let EventData::Output { run, stream, data, turns } = &mut event.data else { return };
        *turns = Turns::default();
        self.weight += data.len();
        if let Some(open) = &mut self.open[*stream as usize] {
            open.bytes.extend_from_slice(data);
            self.events[open.index].last_seq = event.seq;
            return;
        }
        let open = Open { index: self.events.len(), run: *run, bytes: BytesMut::from(&data[..]) };
        self.open[*stream as usize] = Some(open);
        self.weight += ROW_COST;
        self.events.push(event);
    }

    /// Ends the adding to what there is.
    fn seal(&mut self) {
        let all_turns = self.turns.take();
        let first = self.open.iter().flatten().map(|open| open.index).min();
        for Open { index, bytes, .. } in self.open.iter_mut().filter_map(Option::take) {
            if let EventData::Output { data, turns, .. } = &mut self.events[index].data {
                *data = bytes.freeze();
                if Some(index) == first {
                    turns.clone_from(&all_turns);
                }
            }
        }
    }

    /// All of it, with its weight, but for what waits for the event behind it.
    pub(super) fn take(&mut self) -> (Vec<NewEvent>, usize) {
        self.seal();
        (std::mem::take(&mut self.events), std::mem::take(&mut self.weight))
    }
}

/// Whether a piece of output is the other of two.
fn belongs_to(first: &EventData, second: &EventData) -> bool {
    match (first, second) {
        (
            EventData::Output { run, stream, .. },
            EventData::Output { run: other_run, stream: other, .. },
        ) => run == other_run && stream != other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn output(run: u32, stream: Stream, text: &'static str) -> EventData {
        written(run, stream, text.as_bytes())
    }

    fn written(run: u32, stream: Stream, bytes: &[u8]) -> EventData {
        let data = Bytes::copy_from_slice(bytes);
        EventData::Output { run, stream, data, turns: Turns::default() }
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
            EventData::Output { run, stream, data, .. } => {
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
        let half = vec![b'x'; MAX_CHUNK_BYTES / 2 + 1];
        let data = |stream| written(0, stream, &half);
        let mut buffer = pushed([data(Stream::Stdout), data(Stream::Stderr), data(Stream::Stdout)]);
        assert_eq!(rows(&mut buffer).len(), 3);
    }

    /// What is stored, read in the order in which it was written: run and bytes of each.
    fn in_order(events: Vec<NewEvent>) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        let mut events = events.into_iter().map(|event| event.data).peekable();
        while let Some(event) = events.next() {
            let EventData::Output { run, data, turns, .. } = &event else { continue };
            let mut bytes = data.to_vec();
            if !turns.is_empty() {
                let second = events.next().expect("a second piece");
                assert!(belongs_to(&event, &second));
                let EventData::Output { data: more, turns: none, .. } = second else { continue };
                assert!(none.is_empty());
                bytes = turns.join(data, &more);
            }
            all.push((*run, bytes));
        }
        all
    }

    /// One event, or two, that several writes were joined to.
    fn window(run: u32, writes: &[(Stream, Vec<u8>)]) -> Vec<EventData> {
        let (mut order, mut pieces) = (Turns::default(), Vec::<(Stream, Vec<u8>)>::new());
        for (stream, bytes) in writes {
            order.note(*stream != writes[0].0, bytes.len());
            match pieces.iter_mut().find(|(of, _)| of == stream) {
                Some((_, piece)) => piece.extend(bytes),
                None => pieces.push((*stream, bytes.clone())),
            }
        }
        let event = |(stream, bytes): (Stream, Vec<u8>)| written(run, stream, &bytes);
        let mut events: Vec<_> = pieces.into_iter().map(event).collect();
        if let EventData::Output { turns, .. } = &mut events[0] {
            *turns = order.take();
        }
        events
    }

    /// Two events that read `abc`.
    fn alternating() -> Vec<EventData> {
        let write = |stream, text: &str| (stream, text.as_bytes().to_vec());
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        window(0, &[write(out, "a"), write(err, "b"), write(out, "c")])
    }

    #[test]
    fn output_that_alternates_with_the_next_is_not_taken_before_that() {
        let mut events = alternating().into_iter();
        let mut next = || events.next().expect("an event");
        let mut buffer = pushed([next()]);
        assert!(buffer.is_empty() && buffer.take().0.is_empty());
        buffer.push(1, Timestamp::from_millis(1), next());
        assert_eq!(in_order(buffer.take().0), [(0, b"abc".to_vec())]);
    }

    #[test]
    fn turns_without_the_other_piece_are_not_believed() {
        use Stream::{Stderr, Stdout};
        for next in [output(0, Stdout, "d"), output(1, Stderr, "d"), EventData::Finished] {
            let (events, _) = pushed([alternating().remove(0), next.clone()]).take();
            assert!(in_order(events)[0].1.starts_with(b"ac"), "{next:?}");
        }
    }

    #[test]
    fn more_turns_than_are_kept_begin_two_new_rows() {
        use Stream::{Stderr, Stdout};
        let turns = (0..MAX_TURNS).flat_map(|_| [output(0, Stdout, "o"), output(0, Stderr, "e")]);
        let (events, _) = pushed(turns).take();
        assert_eq!(events.len(), 4);
        let bytes = in_order(events).into_iter().flat_map(|(_, bytes)| bytes);
        assert!(bytes.eq(b"oe".repeat(MAX_TURNS)));
    }

    fn stream() -> impl Strategy<Value = Stream> {
        prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
    }

    /// Of a write: what comes joined is at most a whole piece.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![9 => Just(1), 1 => Just(MAX_CHUNK_BYTES / 8)]
    }

    proptest! {
        #[test]
        fn whatever_is_joined_is_read_in_the_order_in_which_it_was_written(
            runs in proptest::collection::vec(proptest::collection::vec((
                // Writes that come joined; then whether what there is is stored amid them.
                proptest::collection::vec((stream(), length()), 1..8),
                any::<bool>(),
            ), 0..12), 1..4),
        ) {
            let (mut buffer, mut stored) = (Buffer::default(), Vec::new());
            let (mut seq, mut count) = (0, 0u8);
            let mut all = vec![Vec::<u8>::new(); runs.len()];
            for (run, windows) in (0..).zip(&runs) {
                for (writes, is_stored) in windows {
                    let write = |&(of, length): &(Stream, usize)| {
                        count = count.wrapping_add(1);
                        (of, vec![count; length])
                    };
                    let writes: Vec<_> = writes.iter().map(write).collect();
                    all[run as usize].extend(writes.iter().flat_map(|(_, bytes)| bytes));
                    for (place, event) in window(run, &writes).into_iter().enumerate() {
                        buffer.push(seq, Timestamp::from_millis(1), event);
                        seq += 1;
                        if *is_stored && place == 0 {
                            stored.extend(buffer.take().0);
                        }
                    }
                }
            }
            stored.extend(buffer.take().0);
            prop_assert!(stored.is_sorted_by_key(|event| event.seq));
            let mut read = vec![Vec::new(); runs.len()];
            for (run, bytes) in in_order(stored) {
                read[run as usize].extend(bytes);
            }
            prop_assert_eq!(read, all);
        }
    }
}
