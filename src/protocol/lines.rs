//! Events as lines of text, in both directions.
//!
//! A reader gets bytes in chunks of any size, cut anywhere; [`LineDecoder`] gives the same events
//! for every way of cutting.
//!
//! A line is the event as JSON, whose last field, `sum`, is a checksum of what stands before it:
//! eight hex digits, the first four bytes of BLAKE3. A reader of a log that Nomad rotates while it is
//! read may get the head of one line and the tail of another, which can be JSON all the same.

use super::{Event, VERSION};

/// The longest line that is taken, in bytes. The longest that a runner writes is `finished` with a
/// hundred runs, or `compiled` with two times 64 KiB of output: both stay under 1 MiB.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// Stands between what is summed and its sum.
const SUM: &[u8] = b",\"sum\":\"";

/// Stands behind the sum.
const END: &[u8] = b"\"}";

/// Length of the sum, in hex digits.
const DIGITS: usize = 8;

/// One event as its line, with the newline.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("events hold no map with keys other than text");
    let brace = line.pop();
    debug_assert_eq!(brace, Some(b'}'), "an event is an object");
    let sum = checksum(&line);
    for part in [SUM, sum.as_bytes(), END, b"\n"] {
        line.extend_from_slice(part);
    }
    line
}

/// The checksum of a line's bytes before [`SUM`], in hex.
fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..DIGITS].to_owned()
}

/// Turns chunks of bytes into events.
///
/// Push a chunk, then take events until there are no more; call [`LineDecoder::finish`] at the end
/// of the stream. After an error the stream is worth nothing more.
#[derive(Debug, Default)]
pub struct LineDecoder {
    buffer: Vec<u8>,
    /// Where the first line that was not taken begins.
    start: usize,
    /// Up to where the buffer is known to hold no newline.
    searched: usize,
}

/// A line that is no event.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It is not JSON of the right shape.
    #[error("a line is not an event")]
    Malformed(#[source] serde_json::Error),
    /// It has no checksum at its end, or that of another line.
    #[error("a line does not have the checksum that it names")]
    Damaged,
    /// It is of another version of the protocol.
    #[error("an event is of version {found} of the protocol, not {VERSION}")]
    Version {
        /// The version it names.
        found: u32,
    },
    /// It is longer than [`MAX_LINE_BYTES`].
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The stream ended inside it.
    #[error("the stream ended within a line, after {bytes} bytes of it")]
    Torn {
        /// How much of it had come.
        bytes: usize,
    },
}

impl LineDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// Takes the next whole line, if there is one.
    ///
    /// # Errors
    /// The line is no event of this version.
    pub fn next_event(&mut self) -> Result<Option<Event>, LineError> {
        let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            if self.buffer.len() - self.start > MAX_LINE_BYTES {
                return Err(LineError::TooLong);
            }
            return Ok(None);
        };
        let end = self.searched + length;
        let line = &self.buffer[self.start..end];
        (self.start, self.searched) = (end + 1, end + 1);
        if line.len() > MAX_LINE_BYTES {
            return Err(LineError::TooLong);
        }
        decode(line).map(Some)
    }

    /// Says that the stream is over.
    ///
    /// # Errors
    /// It ended within a line.
    pub fn finish(self) -> Result<(), LineError> {
        match self.buffer.len() - self.start {
            0 => Ok(()),
            bytes => Err(LineError::Torn { bytes }),
        }
    }
}

fn decode(line: &[u8]) -> Result<Event, LineError> {
    /// Read first, so that a later version is named as such even where its shape is new.
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u32,
    }
    match serde_json::from_slice::<Event>(line) {
        Ok(event) if event.v != VERSION => Err(LineError::Version { found: event.v }),
        Ok(event) if is_whole(line) => Ok(event),
        Ok(_) => Err(LineError::Damaged),
        Err(malformed) => match serde_json::from_slice::<Versioned>(line) {
            Ok(Versioned { v }) if v != VERSION => Err(LineError::Version { found: v }),
            _ => Err(LineError::Malformed(malformed)),
        },
    }
}

/// Whether a line ends with the checksum of what stands before it.
fn is_whole(line: &[u8]) -> bool {
    let split = || {
        let (summed, sum) = line.strip_suffix(END)?.split_last_chunk::<DIGITS>()?;
        Some((summed.strip_suffix(SUM)?, sum))
    };
    split().is_some_and(|(summed, sum)| checksum(summed).as_bytes() == sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        protocol::{EventKind, ExecutionResult, MAX_CHUNK_BYTES, MAX_TURNS, Turns},
        submission::{
            Blob, CollectedFile, Fault, FaultKind, Report, RunReport, StreamSummary, Verdict,
        },
    };

    fn run_report() -> impl Strategy<Value = RunReport> {
        (proptest::option::of(".{0,12}"), ".{0,30}", any::<u32>(), 0u32..200).prop_map(
            |(test, reason, bytes, points)| RunReport {
                test,
                verdict: Verdict::RuntimeError,
                reason,
                exit_code: Some(3),
                signal: None,
                stdout: StreamSummary { bytes: bytes.into(), truncated: bytes % 2 == 0 },
                stderr: StreamSummary::default(),
                cpu_time_ms: bytes.into(),
                wall_time_ms: 7,
                memory_bytes: 1 << 40,
                points: f64::from(points) / 4.0,
            },
        )
    }

    fn kind() -> impl Strategy<Value = EventKind> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Blob::from);
        let turns = proptest::collection::vec(any::<u8>(), 0..9);
        let turns = turns.prop_map(|bytes| Turns::from_bytes(&bytes));
        prop_oneof![
            Just(EventKind::Started),
            (any::<u32>(), bytes.clone(), turns.clone())
                .prop_map(|(run, data, turns)| EventKind::Stdout { run, data, turns }),
            (any::<u32>(), bytes.clone(), turns).prop_map(|(run, data, turns)| EventKind::Stderr {
                run,
                data,
                turns
            }),
            (any::<u32>(), bytes).prop_map(|(file, data)| EventKind::File { file, data }),
            (any::<u32>(), run_report())
                .prop_map(|(run, report)| EventKind::RunFinished { run, report }),
            ".{0,40}".prop_map(|text| EventKind::Finished {
                result: ExecutionResult::Fault(Fault::new(FaultKind::Sandbox, text)),
            }),
            proptest::collection::vec(run_report(), 0..4).prop_map(|runs| EventKind::Finished {
                result: ExecutionResult::Report(Report {
                    verdict: Verdict::Accepted,
                    reason: "all\ngood".to_owned(),
                    compile: None,
                    runs,
                    points: 1.5,
                    files: vec![CollectedFile { path: "a".to_owned(), bytes: 1, missed: None }],
                }),
            }),
        ]
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        proptest::collection::vec(kind(), 0..12).prop_map(|kinds| {
            let event = |(seq, kind)| Event { v: VERSION, seq: seq as u64, kind };
            kinds.into_iter().enumerate().map(event).collect()
        })
    }

    /// Feeds the stream in chunks of the given sizes, over and over.
    fn decode_in_chunks(stream: &[u8], sizes: &[usize]) -> Result<Vec<Event>, LineError> {
        let (mut decoder, mut events, mut rest) = (LineDecoder::new(), Vec::new(), stream);
        for size in sizes.iter().cycle() {
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            decoder.push(chunk);
            while let Some(event) = decoder.next_event()? {
                events.push(event);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        decoder.finish().map(|()| events)
    }

    proptest! {
        #[test]
        fn any_chunking_decodes_alike(
            events in events(),
            sizes in proptest::collection::vec(1usize..200, 1..20),
        ) {
            let stream: Vec<u8> = events.iter().flat_map(encode).collect();
            prop_assert_eq!(decode_in_chunks(&stream, &sizes).unwrap(), events.clone());
            prop_assert_eq!(decode_in_chunks(&stream, &[1]).unwrap(), events.clone());
            prop_assert_eq!(decode_in_chunks(&stream, &[usize::MAX]).unwrap(), events);
        }

        #[test]
        fn a_cut_stream_gives_its_whole_lines_and_then_says_that_it_was_torn(
            events in events(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let stream: Vec<u8> = events.iter().flat_map(encode).collect();
            let stream = &stream[..cut.index(stream.len() + 1)];
            let whole = stream.iter().filter(|byte| **byte == b'\n').count();
            let mut decoder = LineDecoder::new();
            decoder.push(stream);
            for event in &events[..whole] {
                let decoded = decoder.next_event().unwrap();
                prop_assert_eq!(decoded.as_ref(), Some(event));
            }
            prop_assert!(decoder.next_event().unwrap().is_none());
            prop_assert_eq!(decoder.finish().is_ok(), stream.last().is_none_or(|b| *b == b'\n'));
        }

        #[test]
        fn no_input_makes_it_panic(
            stream in proptest::collection::vec(any::<u8>(), 0..400),
            sizes in proptest::collection::vec(1usize..50, 1..5),
        ) {
            let _ = decode_in_chunks(&stream, &sizes);
        }
    }

    proptest! {
        #[test]
        fn the_head_of_one_line_and_the_tail_of_another_are_no_event(
            first in kind(),
            second in kind(),
            cuts in any::<(proptest::sample::Index, proptest::sample::Index)>(),
        ) {
            let line = |seq, kind| encode(&Event { v: VERSION, seq, kind });
            let (first, second) = (line(7, first), line(8, second));
            let head = &first[..cuts.0.index(first.len())];
            let tail = &second[cuts.1.index(second.len() - 1)..];
            let spliced = [head, tail].concat();
            prop_assume!(spliced != first && spliced != second);
            let mut decoder = LineDecoder::new();
            decoder.push(&spliced);
            prop_assert!(decoder.next_event().is_err());
        }
    }

    #[test]
    fn output_that_lost_its_middle_is_told_from_a_whole_one() {
        let data = Blob::from(vec![b'a'; 300]);
        let kind = EventKind::Stdout { run: 0, data, turns: Turns::default() };
        let line = encode(&Event { v: VERSION, seq: 0, kind });
        // Text of which a piece was cut out is JSON of the right shape, all the same.
        let cut = [&line[..100], &line[200..]].concat();
        assert!(serde_json::from_slice::<Event>(&cut).is_ok(), "{}", String::from_utf8_lossy(&cut));
        let mut decoder = LineDecoder::new();
        decoder.push(&cut);
        assert!(matches!(decoder.next_event(), Err(LineError::Damaged)));
    }

    #[test]
    fn output_names_its_turns_where_it_has_some_and_the_longest_is_a_line() {
        let line = |data: Vec<u8>, turns: &[u8]| {
            let turns = Turns::from_bytes(turns);
            let kind = EventKind::Stderr { run: 0, data: data.into(), turns };
            encode(&Event { v: VERSION, seq: 0, kind })
        };
        assert!(!String::from_utf8_lossy(&line(vec![0], &[])).contains("turns"));
        let longest =
            line(vec![0; MAX_CHUNK_BYTES], &[0xff, 0xff, 0xff, 0xff, 0x0f].repeat(MAX_TURNS));
        assert!(longest.len() < 1 << 20, "{}", longest.len());
        let mut decoder = LineDecoder::new();
        decoder.push(&longest);
        assert!(decoder.next_event().unwrap().is_some());
    }

    #[test]
    fn an_event_of_a_later_version_is_named_as_such() {
        let mut decoder = LineDecoder::new();
        decoder.push(b"{\"v\":2,\"sequence\":\"new shape\"}\n");
        assert!(matches!(decoder.next_event(), Err(LineError::Version { found: 2 })));
        decoder.push(b"{\"v\":9,\"seq\":0,\"type\":\"started\"}\n");
        assert!(matches!(decoder.next_event(), Err(LineError::Version { found: 9 })));
    }

    #[test]
    fn what_is_not_an_event_is_refused() {
        let dance = r#"{"v":1,"seq":0,"type":"dance""#;
        let dance = format!("{dance},\"sum\":\"{}\"}}\n", checksum(dance.as_bytes()));
        for line in ["\n", "[]\n", "hello\n", &dance] {
            let mut decoder = LineDecoder::new();
            decoder.push(line.as_bytes());
            assert!(matches!(decoder.next_event(), Err(LineError::Malformed(_))), "{line:?}");
        }
        let mut decoder = LineDecoder::new();
        decoder.push(b"{\"v\":1,\"seq\":0,\"type\":\"started\"}\n");
        assert!(matches!(decoder.next_event(), Err(LineError::Damaged)));
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut decoder = LineDecoder::new();
        let mut error = None;
        for _ in 0..=MAX_LINE_BYTES / 4096 {
            decoder.push(&[b'x'; 4096]);
            error = decoder.next_event().err();
        }
        assert!(matches!(error, Some(LineError::TooLong)));
    }
}
