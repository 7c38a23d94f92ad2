//! What a client sends to have a program run; the same shape comes back with defaults filled in.
//!
//! The shapes here say what is a number and what a text. Bounds and everything that depends on the
//! language are checked in `api/validate.rs`.

use std::collections::BTreeMap;

use poem_openapi::{Enum, Object};
use serde::Deserialize;
use serde_json::Value;

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Object, Deserialize)]
#[oai(skip_serializing_if_is_none, deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct SubmissionRequest {
    /// The id of a language, or an alias of it; see `GET /v1/languages`.
    #[oai(validator(min_length = 1))]
    pub language: String,
    /// The whole program as one text. Exactly one of `source` and `files` must be there.
    pub source: Option<String>,
    /// The program as files, at most 100. Exactly one of `source` and `files` must be there.
    #[oai(validator(min_items = 1, max_items = 100))]
    pub files: Option<Vec<SourceFile>>,
    /// The path of the file to start. With `files`: one of them; default the usual name of the
    /// language (`source_file` in `GET /v1/languages`) if it is among them, else the only file.
    /// With `source`: the name that the text is given; default the usual name of the language.
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub entrypoint: Option<String>,
    /// Standard input, at most 1 MiB. Default empty. Tests that name none of their own get it too.
    #[oai(validator(max_length = 1048576))]
    pub stdin: Option<String>,
    /// Arguments of the program: at most 100, together at most 64 KiB. Default none. Tests that
    /// name none of their own get them too.
    #[oai(validator(max_items = 100))]
    pub args: Option<Vec<String>>,
    /// Environment variables of the program: at most 64, together at most 64 KiB; names of letters,
    /// digits and `_` that do not begin with a digit. Default none.
    #[oai(validator(max_properties = 64))]
    pub env: Option<BTreeMap<String, String>>,
    /// More arguments for the compiler: at most 100, together at most 64 KiB. Default none.
    #[oai(validator(max_items = 100))]
    pub compile_args: Option<Vec<String>>,
    /// The limits of each run. Default those of the language; see `GET /v1/languages`.
    pub limits: Option<Limits>,
    /// Tests, at most 100, each a run of its own. Without any there is one run with `stdin` and
    /// `args`, accepted when it ends well.
    #[oai(validator(max_items = 100))]
    pub tests: Option<Vec<Test>>,
    /// Whether the tests after the first that fails are skipped. Default `false`.
    pub stop_on_failure: Option<bool>,
    /// Which of your submissions go first: 0 to 100, higher first. Default 50.
    #[oai(validator(maximum(value = "100")))]
    pub priority: Option<u64>,
    /// Paths of files and folders that are taken back from the work directory when the program has ended,
    /// however it did, at most 16: pictures, tables, whatever it made. At most 32 files and 4 MiB are taken;
    /// no link is followed. Not beside `tests`. What became of each is in the outcome's `files`.
    #[oai(validator(max_items = 16))]
    pub collect: Option<Vec<String>>,
    /// Whether standard input stays open after `stdin`, for what `GET /v1/submissions/{id}/attach` sends: a
    /// WebSocket, see openapi/attach.md. It ends when the client says so, or when nobody has been attached for
    /// 30 s. Not beside `tests`, and not on Nomad nodes. Default `false`.
    pub interactive: Option<bool>,
    /// Whether the program gets a terminal of its own, in place of three pipes: what it writes is all stdout
    /// then, and prompts come when they are written. Only with `interactive`. Default `false`.
    pub tty: Option<bool>,
}

/// One file of a program.
#[derive(Debug, Clone, PartialEq, Eq, Object, Deserialize)]
#[oai(skip_serializing_if_is_none, deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Where it is: a relative path with `/`, at most 16 parts of at most 255 bytes, at most 1,024
    /// bytes in all, without `.`, `..`, empty parts, `\` and control characters.
    #[oai(validator(min_length = 1, max_length = 1024))]
    pub path: String,
    /// What is in it, written as `encoding` says.
    pub content: String,
    /// How `content` is written. Default `utf8`.
    pub encoding: Option<Encoding>,
}

/// How bytes are written as a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As they are: they are UTF-8.
    #[default]
    Utf8,
    /// As standard base64 with padding.
    Base64,
}

/// Limits of one run. What is above its maximum is refused, never lowered. The operator may allow less
/// than the maxima named here; defaults are then brought down to what is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Object, Deserialize)]
#[oai(skip_serializing_if_is_none, deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// User and system time of all processes together, in milliseconds: 1 to 60,000. Default 5,000.
    #[oai(validator(minimum(value = "1"), maximum(value = "60000")))]
    pub cpu_time_ms: Option<u64>,
    /// Time on the clock, in milliseconds: 1 to 120,000, with `interactive` to 600,000. Default twice
    /// `cpu_time_ms`, at least 10,000; with `interactive` the most allowed. Over all tests together at most
    /// 1,200,000.
    #[oai(validator(minimum(value = "1"), maximum(value = "600000")))]
    pub wall_time_ms: Option<u64>,
    /// Memory, in bytes: 16 MiB to 1 GiB. Default 256 MiB. Some languages ask for more at the
    /// least (`minimum_memory_bytes` in `GET /v1/languages`).
    #[oai(validator(minimum(value = "16777216"), maximum(value = "1073741824")))]
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once: 1 to 256. Default 64.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    pub processes: Option<u64>,
    /// Bytes of stdout, and of stderr: 1 to 8 MiB. Default 1 MiB. The first byte beyond ends the
    /// run.
    #[oai(validator(minimum(value = "1"), maximum(value = "8388608")))]
    pub output_bytes: Option<u64>,
    /// Bytes that files may take up: 1 to 512 MiB, at most half of `memory_bytes`, and enough for
    /// the submission's own files. Default 64 MiB, or half of `memory_bytes` if that is less.
    #[oai(validator(minimum(value = "1"), maximum(value = "536870912")))]
    pub disk_bytes: Option<u64>,
}

/// One test: a run with its own input, and what is expected of it.
#[derive(Debug, Clone, Default, PartialEq, Object, Deserialize)]
#[oai(skip_serializing_if_is_none, deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name, 1 to 255 bytes without control characters. Default its number, from 1.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// Standard input, at most 1 MiB. Default that of the submission.
    #[oai(validator(max_length = 1048576))]
    pub stdin: Option<String>,
    /// Arguments: at most 100, together at most 64 KiB. Default those of the submission.
    #[oai(validator(max_items = 100))]
    pub args: Option<Vec<String>>,
    /// The right output. Without it, ending well is enough, unless there is a custom checker.
    pub expected_output: Option<String>,
    /// How output is compared with `expected_output`. Default `tokens`. At most 8 different custom
    /// checkers, by language and source, in a submission.
    pub checker: Option<Checker>,
    /// What the test is worth: 0 to 1,000,000,000,000. Default 1.
    #[oai(validator(minimum(value = "0"), maximum(value = "1000000000000")))]
    pub points: Option<f64>,
}

/// How output is compared with what was expected.
#[derive(Debug, Clone, Default, PartialEq, Object, Deserialize)]
#[oai(skip_serializing_if_is_none, deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct Checker {
    /// The way of comparing: `tokens` word by word, `exact` byte by byte, `lines` line by line without
    /// white space at line ends and empty lines at the end, `float` word by word with a tolerance
    /// for numbers, `custom` by a program.
    pub r#type: CheckerType,
    /// For `float` alone: the absolute tolerance, 0 or more. Default 0 when `rel` is there, else
    /// 0.000001.
    #[oai(validator(minimum(value = "0")))]
    pub abs: Option<f64>,
    /// For `float` alone: the tolerance relative to the expected number, 0 or more. Default 0 when
    /// `abs` is there, else 0.000001.
    #[oai(validator(minimum(value = "0")))]
    pub rel: Option<f64>,
    /// For `custom` alone, and needed there: the language of the checker.
    #[oai(validator(min_length = 1))]
    pub language: Option<String>,
    /// For `custom` alone, and needed there: the source of the checker. It is called with the
    /// paths of input, output and answer; exit code 0 means right, 1 or 2 wrong, 7 partly right
    /// with a number from 0 to 1 on the first line of its stdout. At most 8 different custom
    /// checkers in a submission; compiled they take up at most 64 MiB together.
    #[oai(validator(min_length = 1))]
    pub source: Option<String>,
}

/// The ways of comparing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum, Deserialize)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum CheckerType {
    /// Word by word, white space of any kind between them.
    #[default]
    Tokens,
    /// Byte by byte.
    Exact,
    /// Line by line, white space at line ends and empty lines at the end set aside.
    Lines,
    /// Word by word, where words that are numbers may differ by `abs` or by `rel`.
    Float,
    /// By a program of the client's.
    Custom,
}

/// Many programs to run, each for itself.
#[derive(Debug, Clone, PartialEq, Object, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 100 submissions. One that is not valid gets a problem in its place in the answer; the
    /// others are taken all the same.
    #[oai(validator(min_items = 1, max_items = 100))]
    pub items: Vec<Value>,
}
