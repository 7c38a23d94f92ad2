//! What the daemon asks of a runner, and what a runner answers: one JSON object a line.
//!
//! The same lines are an allocation's stdout and what the local backend passes in memory. A
//! program's output travels inside events, so a program cannot forge a line. A stream of events
//! that ends without `finished` is a lost attempt, never a verdict.

mod input;
pub mod lines;
pub mod payload;
mod request_secret;
mod turns;

use std::collections::BTreeMap;

pub use input::{Input, InputDecoder, InputError, InputSignal, MAX_INPUT_BYTES, WindowSize};
pub use request_secret::{CacheOwner, REQUESTS_PATH, RequestSecret};
use serde::{Deserialize, Serialize};
pub use turns::{MAX_TURNS, Turns};

use crate::{
    language::LanguageDefinition,
    submission::{
        Blob, Checker, CompileReport, Fault, Limits, Report, RunReport, SubmissionId,
        SubmissionRequest, Test,
    },
};

/// The version of both directions. A runner refuses a request of another version.
pub const VERSION: u32 = 1;

/// A program's output kept over all runs of a submission, and the files taken of it, in bytes; a later run's
/// output is cut short (and marked so) when the sum would pass it.
pub const MAX_KEPT_OUTPUT_BYTES: u64 = 16 << 20;

/// The most program output that one event carries, in bytes, before base64.
pub const MAX_CHUNK_BYTES: usize = 64 << 10;

/// Everything a runner needs for one attempt: it looks nothing up, but for tool chains on its
/// own machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionRequest {
    /// [`VERSION`].
    pub v: u32,
    /// Which submission, for logs and for recovery by listing.
    pub submission: SubmissionId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Whose compiled programs may be used for it, and kept of it. Nobody's where it is absent; a runner
    /// that does not know it keeps none, so it came without another [`VERSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_owner: Option<CacheOwner>,
    /// What to run.
    pub request: SubmissionRequest,
    /// The definition of its language.
    pub language: LanguageDefinition,
    /// The definitions of the languages of custom checkers, by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checker_languages: BTreeMap<String, LanguageDefinition>,
}

impl ExecutionRequest {
    /// The runs that the request asks for, in order: its tests, or one unnamed run without.
    pub fn runs(&self) -> Vec<RunInput<'_>> {
        let request = &self.request;
        if request.tests.is_empty() {
            return vec![RunInput {
                test: None,
                stdin: &request.stdin,
                args: &request.args,
                expected_output: None,
                checker: &Checker::Tokens,
                points: 0.0,
            }];
        }
        request.tests.iter().map(RunInput::of_test).collect()
    }

    /// The limits of each run.
    pub fn limits(&self) -> &Limits {
        &self.request.limits
    }
}

/// One run of an [`ExecutionRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct RunInput<'a> {
    /// The name of its test.
    pub test: Option<String>,
    /// Its standard input.
    pub stdin: &'a str,
    /// Its arguments.
    pub args: &'a [String],
    /// The right output.
    pub expected_output: Option<&'a str>,
    /// How output is compared with it.
    pub checker: &'a Checker,
    /// What it is worth.
    pub points: f64,
}

impl<'a> RunInput<'a> {
    /// What the output is judged by; `None` where it is not judged. A custom checker may need nothing
    /// but the output, and is then given an empty answer.
    pub fn answer(&self) -> Option<&'a str> {
        match self.checker {
            Checker::Custom { .. } => Some(self.expected_output.unwrap_or_default()),
            _ => self.expected_output,
        }
    }

    fn of_test(test: &'a Test) -> Self {
        RunInput {
            test: Some(test.name.clone()),
            stdin: &test.stdin,
            args: &test.args,
            expected_output: test.expected_output.as_deref(),
            checker: &test.checker,
            points: test.points,
        }
    }
}

/// One line from a runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`VERSION`].
    pub v: u32,
    /// From 0 without gaps within an attempt; a repeat of a number is a repeat of the event.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened in a runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum EventKind {
    /// The runner has read its request. First, exactly once.
    Started,
    /// The compile step is over. Not sent for languages without one.
    Compiled {
        /// How it went.
        compile: CompileReport,
    },
    /// A run wrote to its stdout.
    Stdout {
        /// Index of the run, from 0.
        run: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Blob,
        /// Where the next event is of the other stream and was joined with this one: how the bytes of both
        /// alternate. Who does not know it reads piece by piece.
        #[serde(default, skip_serializing_if = "Turns::is_empty")]
        turns: Turns,
    },
    /// A run wrote to its stderr.
    Stderr {
        /// Index of the run, from 0.
        run: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Blob,
        /// Where the next event is of the other stream and was joined with this one: how the bytes of both
        /// alternate. Who does not know it reads piece by piece.
        #[serde(default, skip_serializing_if = "Turns::is_empty")]
        turns: Turns,
    },
    /// What a file of the work directory holds, from its beginning on.
    File {
        /// Index in the `files` of the report.
        file: u32,
        /// At most [`MAX_CHUNK_BYTES`].
        data: Blob,
    },
    /// A run is over; its output has been sent.
    RunFinished {
        /// Index of the run, from 0.
        run: u32,
        /// How it went.
        report: RunReport,
    },
    /// All is over. Last, exactly once.
    Finished {
        /// The report on the program, or the runner's own fault.
        #[serde(flatten)]
        result: ExecutionResult,
    },
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionResult {
    /// With a report on the program.
    Report(Report),
    /// By our own doing.
    Fault(Fault),
}
