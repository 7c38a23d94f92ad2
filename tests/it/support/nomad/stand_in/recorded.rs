//! Real answers that the stand-in gives with little changed.

use serde_json::Value;

pub(super) const NODE: &str =
    include_str!("../../../../data/nomad-1.1.0/transcripts/14b-node-detail.txt");
pub(super) const AGENT: &str =
    include_str!("../../../../data/nomad-1.1.0/transcripts/14c-agent-self.txt");
pub(super) const MEMBERS: &str =
    include_str!("../../../../data/nomad-1.1.0/transcripts/14d-agent-members.txt");

/// The JSON of a recorded answer: what comes after its head.
pub(super) fn body(transcript: &str) -> Value {
    let (_, body) = transcript.split_once("\r\n\r\n").expect("a transcript has an answer");
    serde_json::from_str(body).expect("it was recorded as JSON")
}
