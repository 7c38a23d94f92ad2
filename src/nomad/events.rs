//! The event stream of a server: what happens in the cluster, as it happens.
//!
//! It is a hint, never the truth. A server keeps the last 100 batches (`event_buffer_size`) in memory
//! and drops whoever reads too slowly; after a gap the state must be read by other calls.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;

use super::{Allocation, Answer, Client, NomadError, Purpose};

/// How long a server may be silent: its heartbeat comes every 30 s, and Nomad 1.1.0 sends no header
/// before the first event or heartbeat (mended in 1.1.1).
const SILENCE: Duration = Duration::from_secs(40);

/// The longest batch that is read, in bytes. An allocation is 5 to 10 kB, and a batch holds those that
/// one raft entry changed.
const MAX_BATCH_BYTES: usize = 32 << 20;

/// What one raft entry changed, as far as it is about allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The index of the entry; 0 for a heartbeat.
    pub index: u64,
    /// The allocations as they are after it.
    pub allocations: Vec<Allocation>,
}

/// Events of allocations of a namespace. Dropping it ends it.
#[derive(Debug)]
pub struct EventStream {
    answer: Answer,
    buffer: Vec<u8>,
    searched: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    events: Option<Vec<Event>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    #[serde(default)]
    payload: Option<Payload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Payload {
    #[serde(default)]
    allocation: Option<Allocation>,
}

impl Client {
    /// Subscribes to the allocations of the namespace, from about this index on: a server may begin
    /// with older ones. Index 0 replays all that the server has kept.
    ///
    /// Returns with the first bytes, which may take 30 s in a quiet cluster; but what happens
    /// from the time of the call on is in the stream.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn allocation_events(&self, index: u64) -> Result<EventStream, NomadError> {
        // By a key, a child of a parameterized job could only be named once it is known.
        let request = self
            .request(Method::GET, &["event", "stream"])
            .query(&[("topic", "Allocation"), ("index", &index.to_string())])
            .purpose(Purpose::Wait);
        match tokio::time::timeout(SILENCE, self.send(request)).await {
            Ok(answer) => Ok(EventStream { answer: answer?, buffer: Vec::new(), searched: 0 }),
            Err(_elapsed) => Err(NomadError::Stalled),
        }
    }
}

impl EventStream {
    /// The next batch or heartbeat; none when the server has ended the stream. Cancel safe.
    ///
    /// # Errors
    /// The stream broke, fell silent, or said that it goes on with a gap. It is worth nothing more.
    pub async fn next(&mut self) -> Result<Option<Batch>, NomadError> {
        loop {
            if let Some(line) = self.take_line() {
                // Nomad says in plain text that it dropped a reader.
                return decode(&line).map(Some).map_err(NomadError::Undecodable);
            }
            if self.buffer.len() > MAX_BATCH_BYTES {
                return Err(NomadError::Stalled);
            }
            match tokio::time::timeout(SILENCE, self.answer.chunk()).await {
                Ok(Ok(Some(bytes))) => self.buffer.extend_from_slice(&bytes),
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => return Err(NomadError::Stalled),
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        match self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(length) => {
                let rest = self.buffer.split_off(self.searched + length + 1);
                self.searched = 0;
                Some(std::mem::replace(&mut self.buffer, rest))
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

fn decode(line: &[u8]) -> Result<Batch, serde_json::Error> {
    let line: Line = serde_json::from_slice(line)?;
    let payloads = line.events.unwrap_or_default().into_iter().filter_map(|event| event.payload);
    Ok(Batch {
        index: line.index,
        allocations: payloads.filter_map(|payload| payload.allocation).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_batches_are_read_and_other_topics_passed_over() {
        let text = include_str!("../../tests/data/nomad-1.1.0/event-stream-one-dispatch.jsonl");
        let batches: Vec<Batch> =
            text.lines().map(|line| decode(line.as_bytes()).unwrap()).collect();
        let statuses: Vec<_> = batches
            .iter()
            .flat_map(|batch| &batch.allocations)
            .filter(|allocation| allocation.job_id == "runner/dispatch-1795493883-0e873c85")
            .map(|each| (each.modify_index, each.client_status.as_str(), each.is_over()))
            .collect();
        assert_eq!(statuses, [(9289, "pending", false), (9291, "complete", true)]);
        assert_eq!(batches.last().unwrap().index, 9291);
    }

    #[test]
    fn a_heartbeat_is_an_empty_batch_and_the_word_of_a_drop_is_none() {
        assert_eq!(decode(b"{}\n").unwrap(), Batch::default());
        assert!(decode(b"event dropped from buffer").is_err());
    }
}
