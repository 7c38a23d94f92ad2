//! One program, of a submission or of a checker: compiled at most once, then run any number of times.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Stop, ahead, caps,
    compile_cache::Ingredients,
    folder::{ProgramFolder, WorkDir},
    jail::{Jail, Written},
    verdict::{Evidence, end_text, judge},
};
use crate::{
    language::{CompileStep, LanguageDefinition, PROGRAM, ToolChain, UnknownPlaceholder, Values},
    protocol::CacheOwner,
    sandbox::{Caps, End, JailFile, Job, Measured, SandboxError},
    submission::{Blob, CompileReport, Fault, FaultKind, Limits, Output, StreamSummary, Verdict},
};

/// A program that is ready to run.
#[derive(Debug)]
pub(super) struct Program<'a> {
    language: &'a LanguageDefinition,
    tools: BTreeMap<String, PathBuf>,
    /// What makes them the same as before, as text.
    tools_identity: String,
    files: Vec<JailFile>,
    entrypoint: String,
    /// What the compile step made.
    folder: Option<ProgramFolder>,
    /// The same as files, where it is small and its interpreter may be started ahead.
    compiled: Vec<JailFile>,
}

/// What came of preparing a program.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// The program; absent after a compile that failed.
    pub(super) program: Option<Program<'a>>,
    /// How compiling went, where the language has such a step.
    pub(super) compile: Option<CompileReport>,
}

/// The source of a program.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) files: Vec<JailFile>,
    pub(super) entrypoint: &'a str,
    pub(super) compile_args: &'a [String],
    /// Whose compiled programs may be used, if anybody's.
    pub(super) cache_owner: Option<&'a CacheOwner>,
}

/// What one run of a program is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Invocation<'a> {
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) limits: &'a Limits,
    pub(super) caps: Caps,
}

impl<'a> Program<'a> {
    /// Finds the tool chain and compiles, where the language compiles.
    pub(super) async fn prepare(
        language: &'a LanguageDefinition,
        source: Source<'_>,
        jail: Jail<'_>,
        work: &WorkDir,
    ) -> Result<Prepared<'a>, Stop> {
        let tool_chain = ToolChain::find(language).map_err(|missing| {
            tracing::warn!(language = language.id, %missing, "a tool chain is missing");
            Stop::Fault(Fault::new(
                FaultKind::ToolChainMissing,
                format!("the tool chain of {} is not here: no {}", language.name, missing.tool),
            ))
        })?;
        let cache = work.caches.find(language, &tool_chain);
        let is_kept = work.compiled.is_on() && language.compile.is_some();
        let keeper = source.cache_owner.filter(|_| is_kept);
        let identity = tool_chain.identity();
        let tools_identity = serde_json::to_string(&identity).expect("strings and numbers alone");
        let keeper = keeper.map(|owner| (owner, identity));
        let mut program = Program {
            language,
            tools_identity,
            tools: tool_chain.tools,
            files: source.files,
            entrypoint: source.entrypoint.to_owned(),
            folder: None,
            compiled: Vec::new(),
        };
        let Some(step) = &language.compile else {
            return Ok(Prepared { program: Some(program), compile: None });
        };
        let room = jail.cancel.run_until_cancelled(work.room()).await.ok_or(Stop::Cancelled)?;
        let compiled = async {
            let job = program.compile_job(step, source.compile_args, cache)?;
            let key = keeper.map(|(owner, tools)| {
                Ingredients::gather(owner, language, tools, &job, jail.sandbox).key()
            });
            if let Some(key) = key
                && let Some(found) = work.compiled.find(key, work).await
            {
                return Ok(found);
            }
            let folder = work.new_folder().map_err(|error| {
                Stop::broken(format!("cannot make a folder for the compiled program: {error}"))
            })?;
            let report = program.compile(job, jail, &folder).await?;
            if let Some(key) = key.filter(|_| report.success) {
                work.compiled.keep(key, &folder, &report, work).await;
            }
            Ok((folder, report))
        };
        let (folder, report) = match compiled.await {
            // What the disk does is not the program's doing, and not a broken sandbox's.
            Err(Stop::Fault(_)) if work.is_full() => return Err(no_room()),
            compiled => compiled?,
        };
        drop(room);
        if language.ahead.is_some() && report.success {
            // What cannot be read is run all the same.
            program.compiled =
                folder.files(ahead::MOST_COMPILED).ok().flatten().unwrap_or_default();
        }
        program.folder = Some(folder);
        Ok(Prepared { program: report.success.then_some(program), compile: Some(report) })
    }

    /// The job of the compile step, without a folder for what it makes.
    fn compile_job(
        &self,
        step: &CompileStep,
        compile_args: &[String],
        cache: Option<PathBuf>,
    ) -> Result<Job, Stop> {
        let caps = caps::of_compile(self.language);
        let sources = self.sources();
        let values = Values {
            tools: &self.tools,
            entrypoint: &self.entrypoint,
            sources: &sources,
            args: &[],
            compile_args,
            memory_bytes: caps.memory_bytes,
            has_cache: cache.is_some(),
        };
        Ok(Job {
            command: values.words(&step.command)?,
            env: environment(&values, &[&self.language.env, &step.env], &BTreeMap::new())?,
            mounts: self.language.mounts.clone(),
            files: self.files.clone(),
            program: cache,
            collect: None,
            collects_cache: false,
            take: Vec::new(),
            stdin: Blob::default(),
            tty: false,
            followed: true,
            ahead: None,
            caps,
        })
    }

    async fn compile(
        &self,
        job: Job,
        jail: Jail<'_>,
        folder: &ProgramFolder,
    ) -> Result<CompileReport, Stop> {
        let caps = job.caps;
        let job = Job { collect: Some(folder.path().to_owned()), ..job };
        let (measured, written) = match jail.run_whole(job).await {
            Ok(ended) => ended,
            // What it left in /out is the program's doing: too much, or not files.
            Err(SandboxError::Collect(reason)) => return Ok(not_taken(reason)),
            Err(error) => return Err(error.into()),
        };
        let evidence = Evidence {
            measured: &measured,
            caps: &caps,
            language: self.language,
            stderr_tail: &written.stderr,
        };
        let judgement = judge(&evidence, None);
        let mut success = judgement.verdict == Verdict::Accepted;
        let mut reason = judgement.reason;
        if let Some(missing) = self.missing_executable(folder).filter(|_| success) {
            success = false;
            reason = format!("{}, but left no {missing}", end_text(measured.end));
        }
        Ok(compile_report(success, reason, &measured, written))
    }

    /// The file of the compiled program that a run would execute and that is not there.
    fn missing_executable(&self, folder: &ProgramFolder) -> Option<String> {
        let first = self.language.run.command.first()?;
        let name = first.strip_prefix("{program}/")?;
        (!folder.path().join(name).is_file()).then(|| name.to_owned())
    }

    /// The entrypoint, then every other file of the language.
    fn sources(&self) -> Vec<String> {
        let ending = format!(".{}", self.language.extension);
        let others = self.files.iter().map(|file| &file.path);
        std::iter::once(&self.entrypoint)
            .chain(others.filter(|path| path.ends_with(&ending) && **path != self.entrypoint))
            .cloned()
            .collect()
    }

    /// The job of one run, without input.
    pub(super) fn job(&self, invocation: Invocation<'_>) -> Result<Job, Stop> {
        let values = Values {
            tools: &self.tools,
            entrypoint: &self.entrypoint,
            sources: &[],
            args: invocation.args,
            compile_args: &[],
            memory_bytes: invocation.limits.memory_bytes,
            has_cache: false,
        };
        let language = self.language;
        Ok(Job {
            command: values.words(&language.run.command)?,
            env: environment(&values, &[&language.env, &language.run.env], invocation.env)?,
            mounts: language.mounts.clone(),
            files: self.files.clone(),
            program: self.folder.as_ref().map(|folder| folder.path().to_owned()),
            collect: None,
            collects_cache: false,
            take: Vec::new(),
            stdin: Blob::default(),
            tty: false,
            followed: false,
            ahead: ahead::start(language, self.for_start_ahead(), &invocation),
            caps: invocation.caps,
        })
    }

    fn for_start_ahead(&self) -> ahead::Program<'_> {
        ahead::Program {
            files: &self.files,
            entrypoint: &self.entrypoint,
            compiled: &self.compiled,
            identity: &self.tools_identity,
        }
    }

    /// Bytes that what was compiled takes up on the disk.
    pub(super) fn bytes_on_disk(&self) -> std::io::Result<u64> {
        self.folder.as_ref().map_or(Ok(0), ProgramFolder::bytes)
    }

    /// Whether a command that could not be executed is the program's own file, not a tool.
    pub(super) fn is_own(&self, command: &str) -> bool {
        command.starts_with(PROGRAM)
    }
}

/// The environment: later maps win; the request's own values are taken as they are.
pub(super) fn environment(
    values: &Values<'_>,
    ours: &[&BTreeMap<String, String>],
    request: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, UnknownPlaceholder> {
    let mut merged = BTreeMap::new();
    for (name, value) in ours.iter().copied().flatten() {
        merged.insert(name.clone(), values.text(value)?);
    }
    merged.extend(request.clone());
    Ok(merged.into_iter().collect())
}

fn no_room() -> Stop {
    Stop::Fault(Fault::new(FaultKind::NoRoom, "the disk for compiled programs is full"))
}

fn compile_report(
    success: bool,
    reason: String,
    measured: &Measured,
    written: Written,
) -> CompileReport {
    let (exit_code, signal) = codes(measured.end);
    let output = |summary: StreamSummary, data: bytes::BytesMut| Output {
        truncated: summary.truncated || summary.bytes > data.len() as u64,
        bytes: summary.bytes,
        data: Blob(data.freeze()),
    };
    CompileReport {
        success,
        reason,
        exit_code,
        signal,
        stdout: output(measured.stdout, written.stdout),
        stderr: output(measured.stderr, written.stderr),
        cpu_time_ms: measured.cpu_time.as_millis() as u64,
        wall_time_ms: measured.wall_time.as_millis() as u64,
        memory_bytes: measured.memory_peak_bytes,
        cached: false,
    }
}

/// A compile whose result was not taken.
fn not_taken(reason: String) -> CompileReport {
    CompileReport {
        success: false,
        reason: format!("left something in /out that was not taken: {reason}"),
        exit_code: Some(0),
        signal: None,
        stdout: Output::default(),
        stderr: Output::default(),
        cpu_time_ms: 0,
        wall_time_ms: 0,
        memory_bytes: 0,
        cached: false,
    }
}

/// Exit code and signal, one of them.
pub(super) fn codes(end: End) -> (Option<i32>, Option<i32>) {
    match end {
        End::Exited(code) => (Some(code), None),
        End::Signaled(signal) => (None, Some(signal)),
    }
}
