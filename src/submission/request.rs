//! What a user sent, once it is known to be sound.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Blob, Limits, Owner};

/// A submission that is about to be accepted. Built only by validation (`api/validate.rs`), so
/// holding one means that every bound of the documentation holds.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSubmission {
    /// Whom it will belong to.
    pub owner: Owner,
    /// What to do.
    pub request: SubmissionRequest,
    /// The client's own name for this request, unique for its owner.
    pub idempotency_key: Option<String>,
}

/// The request of a submission, as sent and with every default filled in. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubmissionRequest {
    /// The id of a known language, aliases resolved.
    pub language: String,
    /// The whole program, when it was sent as one text; then `files` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The program's files, when it was sent as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SourceFile>,
    /// The path of the file to start: one of `files`, or the name that `source` is given.
    pub entrypoint: String,
    /// Standard input where there are no tests, and of tests that name none.
    #[serde(default)]
    pub stdin: String,
    /// Arguments where there are no tests, and of tests that name none.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables added to those of the language.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Arguments added to those of the compiler.
    #[serde(default)]
    pub compile_args: Vec<String>,
    /// The limits of each run.
    pub limits: Limits,
    /// The tests, in order; empty means one run that is not checked.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// Whether the tests after the first that fails are skipped.
    #[serde(default)]
    pub stop_on_failure: bool,
    /// 0 to 100; higher goes first within an owner.
    pub priority: u8,
    /// Paths of files and folders of the work directory that are taken back after the run. Not with tests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collect: Vec<String>,
    /// How its standard input goes on behind `stdin`, where it does. Not with tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactive: Option<Interactive>,
}

/// What a program is connected with that is talked to while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interactive {
    /// Three pipes.
    Pipes,
    /// A terminal of its own.
    Tty,
}

impl SubmissionRequest {
    /// Whether this file of the work directory was asked for, or lies in a folder that was.
    pub fn asks_for(&self, path: &str) -> bool {
        self.collect.iter().any(|asked| Path::new(path).starts_with(asked))
    }

    /// The different custom checkers of its tests, as language and source.
    pub fn custom_checkers(&self) -> BTreeSet<(&str, &str)> {
        self.tests.iter().filter_map(|test| test.checker.custom()).collect()
    }
}

/// One file of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Relative path with `/`, without `.` and `..`.
    pub path: String,
    /// The bytes.
    pub content: Blob,
    /// How they were sent.
    #[serde(default)]
    pub encoding: Encoding,
}

/// How bytes are written in a JSON string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As text.
    #[default]
    Utf8,
    /// As standard base64 with padding.
    Base64,
}

/// One test: a run with its own input, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Its name: the one sent, else its number from 1.
    pub name: String,
    /// Its standard input.
    pub stdin: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The right output; without one, ending well is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_output: Option<String>,
    /// How output is compared with it.
    pub checker: Checker,
    /// What the test is worth; 0 or more.
    pub points: f64,
}

/// How the output of a run is compared with what was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
#[derive(Default)]
pub enum Checker {
    /// Equal word by word, white space of any kind between them.
    #[default]
    Tokens,
    /// Equal byte by byte.
    Exact,
    /// Equal line by line, white space at line ends and empty lines at the end set aside.
    Lines,
    /// Like `Tokens`, but words that are numbers may differ by `abs`, or by `rel` of the expected.
    Float {
        /// Absolute tolerance.
        abs: f64,
        /// Relative tolerance.
        rel: f64,
    },
    /// A program that reads input, output and answer and decides; see `docs/sandbox.md`.
    Custom {
        /// The id of its language.
        language: String,
        /// Its source.
        source: String,
    },
}

impl Checker {
    /// Language and source, where it is a program.
    pub fn custom(&self) -> Option<(&str, &str)> {
        match self {
            Checker::Custom { language, source } => Some((language, source)),
            _ => None,
        }
    }
}
