//! One language, as data. Travels inside an execution request, so that nodes need no file.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::submission::Limits;

/// How one language is compiled and run.
///
/// Words of `compile.command` and `run.command` may hold: `{tool:NAME}` the path of a tool found,
/// `{entrypoint}`, `{stem}` the entrypoint without its last extension, `{dir}` its folder,
/// `{sources}` (a word of its own: the entrypoint and every file whose name ends in
/// `.{extension}`, one word each), `{args}` and `{compile_args}` (likewise), `{out}` the folder a
/// compile step writes to, `{program}` the folder where a run finds it, `{cache}` where a compile step
/// finds what was made once (an empty folder of its own when nothing was), `{memory_bytes}`,
/// `{memory_mib}`, `{memory_bytes_90_percent}` of the run's (or compile's) limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageDefinition {
    /// Lower-case, unique: `python`.
    pub id: String,
    /// For people: `Python`.
    pub name: String,
    /// Other ids that mean this language.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Extension of its source files, without the dot.
    pub extension: String,
    /// The name that a program sent as one text is given: `main.py`.
    pub source_file: String,
    /// The programs it needs, by name, each with the fixed paths where it may be, best first.
    pub tools: BTreeMap<String, Vec<PathBuf>>,
    /// How the version is asked for.
    pub version: VersionCommand,
    /// Paths of the host shown read-only in the jail, beside the base (`/usr` and what it needs).
    /// Those that do not exist are passed over.
    #[serde(default)]
    pub mounts: Vec<PathBuf>,
    /// Environment of both steps; a request's own variables override those of the run.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The compile step, where there is one.
    #[serde(default)]
    pub compile: Option<CompileStep>,
    /// Something that the tool chain would make anew in each compile step, where there is that. It is
    /// made once, by a step like a compile step, with files of its own in the place of a program, whose
    /// `{out}` is then `{cache}` in all compile steps.
    #[serde(default)]
    pub cache: Option<CacheStep>,
    /// The run step.
    pub run: RunStep,
    /// How its interpreter may be started before there is a program for it, where that is of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<AheadStart>,
    /// Defaults of the limits of a run, where they differ from [`Limits::DEFAULT`].
    #[serde(default)]
    pub limits: LimitDefaults,
    /// The least `memory_bytes` a request may name.
    #[serde(default)]
    pub minimum_memory_bytes: Option<u64>,
    /// Memory of the language's own machinery, allowed on top of `memory_bytes`.
    #[serde(default)]
    pub memory_overhead_bytes: u64,
    /// Texts on stderr which, with a failing end near the memory limit, mean that memory ran out.
    #[serde(default)]
    pub out_of_memory: Vec<String>,
    /// What brings its tools, in words that follow "install": `the Debian package python3`.
    #[serde(default)]
    pub package: Option<String>,
    /// A program that shows that the tool chain works.
    #[serde(default)]
    pub self_test: Option<SelfTest>,
}

/// How an interpreter may be started before there is a program for it. It waits when it opens the program's
/// file, where it finds a FIFO until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AheadStart {
    /// Memory that it takes up while it waits.
    pub memory_bytes: u64,
    /// The file that it opens, as a path in `{program}`, where there is a compile step; else it is the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<String>,
    /// Texts in a program that it would read in another way.
    #[serde(default)]
    pub unless_in_source: Vec<String>,
    /// Names of files beside the program that it looks for while it starts.
    #[serde(default)]
    pub unless_files: Vec<String>,
}

/// A tiny program, and what it prints when all is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Its source, in a file named as `source_file`.
    pub source: String,
    /// Its exact standard output.
    pub stdout: String,
}

/// How the version of a tool chain is asked for, without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionCommand {
    /// Words; `{tool:NAME}` is replaced. Runs in the jail.
    pub command: Vec<String>,
    /// The version is the first word of the output that starts with a digit after this text; of
    /// the whole output when empty.
    #[serde(default)]
    pub after: String,
}

/// The compile step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileStep {
    /// Words, see [`LanguageDefinition`].
    pub command: Vec<String>,
    /// More environment, of this step alone.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where its limits differ from [`Limits::COMPILE`].
    #[serde(default)]
    pub limits: LimitDefaults,
}

/// The step that makes what compile steps need once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheStep {
    /// Words, see [`LanguageDefinition`].
    pub command: Vec<String>,
    /// What is in its work directory: the content of each file by its name.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// More environment than that of the compile step.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where its limits differ from [`Limits::COMPILE`].
    #[serde(default)]
    pub limits: LimitDefaults,
}

/// The run step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStep {
    /// Words, see [`LanguageDefinition`].
    pub command: Vec<String>,
    /// More environment, of this step alone; values may hold the memory placeholders.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Limits of which some are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitDefaults {
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_time_ms: Option<u64>,
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_time_ms: Option<u64>,
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// See [`Limits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

impl LimitDefaults {
    /// These limits, and `base` where they name none.
    pub fn over(&self, base: Limits) -> Limits {
        Limits {
            cpu_time_ms: self.cpu_time_ms.unwrap_or(base.cpu_time_ms),
            wall_time_ms: self.wall_time_ms.unwrap_or(base.wall_time_ms),
            memory_bytes: self.memory_bytes.unwrap_or(base.memory_bytes),
            processes: self.processes.unwrap_or(base.processes),
            output_bytes: self.output_bytes.unwrap_or(base.output_bytes),
            disk_bytes: self.disk_bytes.unwrap_or(base.disk_bytes),
        }
    }
}

impl LanguageDefinition {
    /// The limits of a run that names none.
    pub fn default_limits(&self) -> Limits {
        self.limits.over(Limits::DEFAULT)
    }

    /// The limits of the compile step.
    pub fn compile_limits(&self) -> Limits {
        self.compile.as_ref().map_or(Limits::COMPILE, |step| step.limits.over(Limits::COMPILE))
    }

    /// The least memory a run may ask for.
    pub fn minimum_memory(&self) -> u64 {
        self.minimum_memory_bytes.unwrap_or(crate::submission::MINIMUM_MEMORY_BYTES)
    }
}
