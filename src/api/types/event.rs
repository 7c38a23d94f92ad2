//! What clients get that follow a submission.

use poem_openapi::{Enum, Object};
use time::OffsetDateTime;

use super::{CompileReport, Encoding, RunVerdict, State, Verdict};

/// Something that happened to a submission.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SubmissionEvent {
    /// What happened; says which of the other fields are there.
    pub r#type: EventType,
    /// Its number in the submission, from 0 without gaps. Also the `id` of the message, and what
    /// `Last-Event-ID` takes.
    pub n: u64,
    /// The attempt that it belongs to; 0 before the first. Where an event of a later attempt comes, what an
    /// earlier one wrote is void.
    pub attempt: u32,
    /// When.
    pub at: OffsetDateTime,
    /// Of `state`: where the submission stands now.
    pub state: Option<State>,
    /// Of `state`, when it is `running`: `true` once its place has begun with it, which comes after the event
    /// that it was placed.
    pub started: Option<bool>,
    /// Of `compile`: how compiling went.
    pub compile: Option<CompileReport>,
    /// Of `stdout`, `stderr` and `test`: the number of the test, from 1; without tests 1.
    pub test: Option<u32>,
    /// Of `stdout` and `stderr`: the bytes that come next, written as `encoding` says. A character may be
    /// cut between two events: join the bytes before reading them as text.
    pub data: Option<String>,
    /// Of `stdout` and `stderr`: `utf8`, or `base64` where the bytes are not UTF-8.
    pub encoding: Option<Encoding>,
    /// Of `test`: how the run went.
    pub run: Option<RunSummary>,
    /// Of `finished`: how it ended, in a word.
    pub verdict: Option<Verdict>,
    /// Of `finished`: how it ended, in a sentence.
    pub reason: Option<String>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum EventType {
    /// It stands somewhere else, or begins anew.
    State,
    /// It has been compiled, or could not be.
    Compile,
    /// A program wrote to its stdout.
    Stdout,
    /// A program wrote to its stderr.
    Stderr,
    /// A run is over: that of a test, or the only one.
    Test,
    /// All is over. The last event.
    Finished,
}

impl EventType {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            EventType::State => "state",
            EventType::Compile => "compile",
            EventType::Stdout => "stdout",
            EventType::Stderr => "stderr",
            EventType::Test => "test",
            EventType::Finished => "finished",
        }
    }
}

/// How one run went, without its output.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct RunSummary {
    /// The name of its test; absent without tests.
    pub test: Option<String>,
    /// How it ended, in a word.
    pub verdict: RunVerdict,
    /// How it ended, in a sentence.
    pub reason: String,
    /// Exit code; absent when a signal ended it or it did not run.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// How many bytes had come on stdout, kept or not.
    pub stdout_bytes: u64,
    /// Whether more had come on stdout than was kept.
    pub stdout_truncated: bool,
    /// How many bytes had come on stderr, kept or not.
    pub stderr_bytes: u64,
    /// Whether more had come on stderr than was kept.
    pub stderr_truncated: bool,
    /// User and system time of all its processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_time_ms: u64,
    /// Peak of its memory, in bytes.
    pub memory_bytes: u64,
    /// Points for this run: those of its test, times what the checker gave.
    pub points: f64,
}
