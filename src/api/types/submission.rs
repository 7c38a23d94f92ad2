//! What a client gets back of a submission.

use poem_openapi::{Enum, Object, Union};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Output, SubmissionRequest};
use crate::api::problem::Problem;

/// A submission: a program that was accepted, and what became of it.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Submission {
    /// Its identity, a UUIDv7: ids made later sort later.
    pub id: Uuid,
    /// Where it stands.
    pub state: State,
    /// The id of its language.
    pub language: String,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When its latest attempt began to run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// The number of its latest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// What it waits for, as a sentence, while it is queued, or placed where there is no room yet.
    pub waiting_for: Option<String>,
    /// Where its latest attempt runs or ran.
    pub placement: Option<Placement>,
    /// How it ended, once it is finished.
    pub outcome: Option<Outcome>,
    /// What was sent, with every default filled in. Of `GET /v1/submissions/{id}` only.
    pub request: Option<SubmissionRequest>,
}

/// Where a submission stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum State {
    /// Accepted and waiting.
    Queued,
    /// Being given to a place that can run it.
    Dispatching,
    /// Its program runs, or is about to.
    Running,
    /// Over, for good.
    Finished,
}

/// How a submission ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum Verdict {
    /// Every run ended with exit code 0 inside its limits, with the right output where one was
    /// expected.
    Accepted,
    /// A run ended well, but its output is not right.
    WrongAnswer,
    /// A run used more CPU or wall time than its limit.
    TimeLimitExceeded,
    /// A run used more memory than its limit.
    MemoryLimitExceeded,
    /// A run wrote more than its limit.
    OutputLimitExceeded,
    /// A run ended by a signal or with another exit code than 0.
    RuntimeError,
    /// The program could not be compiled.
    CompileError,
    /// Its user cancelled it.
    Cancelled,
    /// We failed; this says nothing about the program.
    InternalError,
}

/// How one run ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum RunVerdict {
    /// It ended with exit code 0 inside its limits, with the right output where one was expected.
    Accepted,
    /// It ended well, but its output is not right.
    WrongAnswer,
    /// It used more CPU or wall time than its limit.
    TimeLimitExceeded,
    /// It used more memory than its limit.
    MemoryLimitExceeded,
    /// It wrote more than its limit.
    OutputLimitExceeded,
    /// It ended by a signal or with another exit code than 0.
    RuntimeError,
    /// It did not run, because an earlier test failed under `stop_on_failure`.
    Skipped,
}

/// Where an attempt runs.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Placement {
    /// The kind of place; says which of the other fields are there.
    pub kind: PlacementKind,
    /// The Nomad job.
    pub job_id: Option<String>,
    /// The Nomad evaluation.
    pub evaluation_id: Option<String>,
    /// The Nomad allocation, once there is one.
    pub allocation_id: Option<String>,
    /// The Nomad node, once it is known.
    pub node_id: Option<String>,
    /// The warm worker.
    pub worker_id: Option<String>,
}

/// The kinds of place that programs run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum PlacementKind {
    /// The daemon's own machine.
    Local,
    /// A Nomad allocation.
    Nomad,
    /// A warm worker.
    Pool,
}

/// How a submission ended.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Outcome {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence: which limit was passed and by how much, and the like.
    pub reason: String,
    /// How compiling went, for languages that are compiled.
    pub compile: Option<CompileReport>,
    /// One run for each test, in order; without tests one; none if nothing was run.
    pub runs: Vec<Run>,
    /// The sum of the points of the runs.
    pub points: f64,
    /// The files that `collect` asked for, and those in folders that it did; read with
    /// `GET /v1/submissions/{id}/files`. Absent where nothing was asked for.
    pub files: Option<Vec<CollectedFile>>,
}

/// A file of the work directory that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CollectedFile {
    /// Its path, relative to the work directory.
    pub path: String,
    /// Its size in bytes, as far as it is known.
    pub bytes: u64,
    /// Why it was not taken, in words that follow the path; absent where it was.
    pub missed: Option<String>,
}

/// How compiling went.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct CompileReport {
    /// Whether a program came out of it.
    pub success: bool,
    /// How it ended, in a sentence.
    pub reason: String,
    /// Exit code of the compiler; absent when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended the compiler.
    pub signal: Option<i32>,
    /// What it wrote to stdout; the first 64 KiB are kept.
    pub stdout: Output,
    /// What it wrote to stderr; the first 64 KiB are kept.
    pub stderr: Output,
    /// User and system time, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_time_ms: u64,
    /// Peak of its memory, in bytes.
    pub memory_bytes: u64,
    /// Whether the program was compiled before and kept: the same files for the same owner, with the
    /// same arguments and tools. All else here is then what it was when it was compiled.
    pub cached: bool,
}

/// How one run went.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Run {
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
    /// What it wrote to stdout.
    pub stdout: Output,
    /// What it wrote to stderr.
    pub stderr: Output,
    /// What it wrote to both, in the order in which it did; only where the query asks for it by `output`.
    pub output: Option<Output>,
    /// User and system time of all its processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_time_ms: u64,
    /// Peak of its memory, in bytes.
    pub memory_bytes: u64,
    /// Points for this run: those of its test, times what the checker gave.
    pub points: f64,
}

/// One line of a list of submissions.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SubmissionSummary {
    /// Its identity.
    pub id: Uuid,
    /// Where it stands.
    pub state: State,
    /// The id of its language.
    pub language: String,
    /// When it was accepted.
    pub created_at: OffsetDateTime,
    /// When its latest attempt began to run.
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// The number of its latest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// How it ended, once it is finished.
    pub verdict: Option<Verdict>,
}

/// Part of a list of submissions, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct SubmissionList {
    /// The submissions.
    pub items: Vec<SubmissionSummary>,
    /// The `cursor` of the next part; absent in the last.
    pub next_cursor: Option<String>,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Object)]
pub struct BatchResponse {
    /// What became of each item, in the order they were sent.
    pub items: Vec<BatchResult>,
}

/// What became of one item: a submission (it has an `id`) or a problem (it has a `status`).
#[derive(Debug, Clone, PartialEq, Union)]
#[oai(one_of)]
pub enum BatchResult {
    /// It was accepted.
    Submission(Box<Submission>),
    /// It was not.
    Problem(Box<Problem>),
}
