//! The events in an allocation's log, however often and from wherever it is read.

use crate::protocol::{
    Event,
    lines::{LineDecoder, LineError},
};

/// What was read of a log so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    decoder: LineDecoder,
    /// Bytes that were read since the beginning.
    offset: u64,
    /// The number of the event that comes next, whatever was read again.
    next_seq: u64,
}

impl Log {
    /// Where to read on, in bytes from the beginning.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether an event was taken.
    pub(super) fn has_spoken(&self) -> bool {
        self.next_seq > 0
    }

    /// Goes back to the beginning: of the same log, or of a copy.
    pub(super) fn rewind(&mut self) {
        self.decoder = LineDecoder::new();
        self.offset = 0;
    }

    /// The same events, to be read from the beginning of a copy: those that were taken are not taken again.
    pub(super) fn anew(&self) -> Log {
        Log { next_seq: self.next_seq, ..Log::default() }
    }

    /// Takes note of what was taken from a copy.
    pub(super) fn catch_up(&mut self, copy: &Log) {
        self.next_seq = self.next_seq.max(copy.next_seq);
    }

    /// Adds the next bytes.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.offset += chunk.len() as u64;
        self.decoder.push(chunk);
    }

    /// Takes the next event that was not taken before.
    ///
    /// # Errors
    /// Why what was read cannot be the log, as words that follow "the log".
    pub(super) fn take(&mut self) -> Result<Option<Event>, &'static str> {
        while let Some(event) = self.decoder.next_event().map_err(|error| name(&error))? {
            if event.seq > self.next_seq {
                return Err("its head is missing");
            }
            if event.seq == self.next_seq {
                self.next_seq += 1;
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

fn name(error: &LineError) -> &'static str {
    match error {
        LineError::Malformed(_) => "it holds a line that is no event",
        LineError::Damaged => "it holds a line that is not as it was written",
        LineError::Version { .. } => "it is of another version of braindrill",
        LineError::TooLong => "it holds a line that is too long",
        LineError::Torn { .. } => "it ends within a line",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{EventKind, VERSION, lines};

    fn log(events: u64) -> Vec<u8> {
        (0..events)
            .flat_map(|seq| lines::encode(&Event { v: VERSION, seq, kind: EventKind::Started }))
            .collect()
    }

    fn take_all(log: &mut Log) -> Vec<u64> {
        std::iter::from_fn(|| log.take().unwrap()).map(|event| event.seq).collect()
    }

    proptest! {
        #[test]
        fn any_reading_gives_each_event_once(
            events in 1u64..20,
            reads in proptest::collection::vec((0usize..1000, any::<bool>()), 0..8),
        ) {
            let text = log(events);
            let (mut log, mut taken) = (Log::default(), Vec::new());
            for (length, rewind) in reads {
                if rewind {
                    log.rewind();
                }
                let from = (log.offset() as usize).min(text.len());
                log.push(&text[from..(from + length).min(text.len())]);
                taken.extend(take_all(&mut log));
            }
            log.push(&text[log.offset() as usize..]);
            taken.extend(take_all(&mut log));
            prop_assert_eq!(taken, (0..events).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_log_whose_head_was_dropped_is_told_from_a_whole_one() {
        let text = log(3);
        let second = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let mut log = Log::default();
        log.push(&text[second..]);
        assert_eq!(log.take(), Err("its head is missing"));
        log.rewind();
        log.push(&text[..second + 10]);
        assert_eq!(take_all(&mut log), [0]);
        // Read on behind files that are gone: what comes does not join what was read.
        log.push(&text[second + 20..]);
        assert!(log.take().is_err());
    }
}
