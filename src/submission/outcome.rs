//! How a submission ends.

use serde::{Deserialize, Serialize};

use super::Blob;

/// How a submission ended: through its program, through its user, or through us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum Outcome {
    /// The program's doing.
    Judged(Report),
    /// The user's.
    Cancelled,
    /// Ours: never a verdict on the program.
    Failed(Fault),
}

impl Outcome {
    /// The one word for it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Outcome::Judged(report) => report.verdict,
            Outcome::Cancelled => Verdict::Cancelled,
            Outcome::Failed(_) => Verdict::InternalError,
        }
    }

    /// The sentence beside the word.
    pub fn reason(&self) -> String {
        match self {
            Outcome::Judged(report) => report.reason.clone(),
            Outcome::Cancelled => "cancelled on request".to_owned(),
            Outcome::Failed(fault) => fault.to_string(),
        }
    }
}

/// The word for an outcome, or for one run of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Ended with exit code 0 inside its limits, and its output is right where one was expected.
    Accepted,
    /// Ended well, but the checker refused its output.
    WrongAnswer,
    /// Used more CPU or wall time than its limit.
    TimeLimitExceeded,
    /// Used more memory than its limit.
    MemoryLimitExceeded,
    /// Wrote more than its limit to stdout or stderr.
    OutputLimitExceeded,
    /// Ended by a signal or with another exit code than 0.
    RuntimeError,
    /// Could not be compiled. Of a submission only.
    CompileError,
    /// Not run, because an earlier test failed under `stop_on_failure`. Of a run only.
    Skipped,
    /// Cancelled by its user. Of a submission only.
    Cancelled,
    /// We failed. Of a submission only.
    InternalError,
}

impl Verdict {
    /// The word as it stands in JSON, SQL and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::WrongAnswer => "wrong_answer",
            Verdict::TimeLimitExceeded => "time_limit_exceeded",
            Verdict::MemoryLimitExceeded => "memory_limit_exceeded",
            Verdict::OutputLimitExceeded => "output_limit_exceeded",
            Verdict::RuntimeError => "runtime_error",
            Verdict::CompileError => "compile_error",
            Verdict::Skipped => "skipped",
            Verdict::Cancelled => "cancelled",
            Verdict::InternalError => "internal_error",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the runner found out about a whole request. Holds no output of runs: that travels, and is
/// stored, as events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the whole: `compile_error`, else the first run that is not accepted, else `accepted`.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// The compile step, where the language has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<Box<CompileReport>>,
    /// One for each test in order, or one alone when there are no tests; none after a compile error.
    pub runs: Vec<RunReport>,
    /// The sum of the points of the runs.
    pub points: f64,
    /// What was asked for of the work directory. The bytes travel, and are stored, apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<CollectedFile>,
}

/// A file of the work directory that was asked for, or that lies in a folder that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedFile {
    /// Relative to the work directory.
    pub path: String,
    /// Its size, as far as it is known.
    pub bytes: u64,
    /// Why it was not taken, in words that follow the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
}

/// How compiling went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompileReport {
    /// Whether a program came out of it.
    pub success: bool,
    /// Why not, or how, in a sentence.
    pub reason: String,
    /// Exit code of the compiler; absent when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the compiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Output,
    /// What it wrote to stderr.
    pub stderr: Output,
    /// User and system time of all its processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock, in milliseconds.
    pub wall_time_ms: u64,
    /// Peak of its memory, in bytes.
    pub memory_bytes: u64,
    /// Whether the program came from the compile cache.
    #[serde(default)]
    pub cached: bool,
}

/// How one run went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The name of its test: the one sent, else its number from 1; absent without tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// The word for it.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
    /// Exit code of its first process; absent when a signal ended it or it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What came on stdout, without the bytes.
    pub stdout: StreamSummary,
    /// What came on stderr, without the bytes.
    pub stderr: StreamSummary,
    /// User and system time of all its processes, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock from exec to end, in milliseconds.
    pub wall_time_ms: u64,
    /// Peak of its memory, in bytes.
    pub memory_bytes: u64,
    /// Points for this run: those of the test times what the checker gave.
    pub points: f64,
}

/// The size of an output stream whose bytes are elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// How many bytes had arrived, kept or not.
    pub bytes: u64,
    /// Whether fewer were kept.
    pub truncated: bool,
}

/// An output stream with the bytes that were kept of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What was kept.
    pub data: Blob,
    /// How many bytes had arrived.
    pub bytes: u64,
    /// Whether fewer were kept.
    pub truncated: bool,
}

/// Something that we did wrong or could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Fault {
    /// Which of the known kinds.
    pub kind: FaultKind,
    /// What happened, in a sentence that a user may read; names nothing inside.
    pub message: String,
}

impl Fault {
    /// A fault of this kind with this sentence.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into() }
    }
}

/// The known kinds of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The sandbox could not be built or broke by our own doing; tried again.
    Sandbox,
    /// The place has no room for the compiled program; waited for, tried again and not counted.
    NoRoom,
    /// The place has no tool chain for the language; tried again elsewhere.
    ToolChainMissing,
    /// A custom checker did not answer as one; not tried again.
    CheckerFailed,
    /// Three attempts were lost.
    AttemptsExhausted,
    /// The daemon restarted ten times while this ran.
    RestartsExhausted,
    /// It waited longer than `queue_timeout`.
    QueueTimeout,
    /// Anything else.
    Internal,
}

impl FaultKind {
    /// Whether another attempt, perhaps elsewhere, may go better.
    pub const fn is_retryable(self) -> bool {
        matches!(self, FaultKind::Sandbox | FaultKind::ToolChainMissing | FaultKind::Internal)
    }

    /// The word as it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            FaultKind::Sandbox => "sandbox",
            FaultKind::NoRoom => "no_room",
            FaultKind::ToolChainMissing => "tool_chain_missing",
            FaultKind::CheckerFailed => "checker_failed",
            FaultKind::AttemptsExhausted => "attempts_exhausted",
            FaultKind::RestartsExhausted => "restarts_exhausted",
            FaultKind::QueueTimeout => "queue_timeout",
            FaultKind::Internal => "internal",
        }
    }
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
