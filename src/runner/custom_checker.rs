//! Checkers that users write: compiled once, each run in a jail of its own.
//!
//! The conventions are testlib's: arguments `input output answer`, exit code 0 right, 1 or 2 wrong,
//! 7 partly right with the share on the first line of stdout. Anything else is the checker's
//! failure, which is no verdict on the program.

use std::collections::{BTreeMap, HashMap};

use super::{
    Stop, caps,
    folder::WorkDir,
    jail::Jail,
    program::{Invocation, Prepared, Program, Source},
    verdict::{Checked, Evidence, end_text, judge},
};
use crate::{
    language::LanguageDefinition,
    protocol::CacheOwner,
    sandbox::{End, JailFile, Job, MAX_COLLECTED_BYTES, SandboxError},
    submission::{Blob, CompileReport, Fault, FaultKind, Verdict},
};

/// Bytes of the checker's stderr that become the reason.
const REASON_BYTES: usize = 4 << 10;

/// Bytes on the disk that the compiled checkers of one attempt may take up together: as many as one
/// program may, so that a single checker may be of any size. With the program itself and a checker
/// that is being compiled, an attempt takes up three times as much at the most.
const MAX_KEPT_BYTES: u64 = MAX_COLLECTED_BYTES;

/// Names of the files that a checker is given, in the order of its arguments.
const ARGUMENTS: [&str; 3] = ["input", "output", "answer"];

/// The checkers of one attempt, each compiled when it is first needed and kept for later tests.
#[derive(Debug)]
pub(super) struct CustomCheckers<'a> {
    languages: &'a BTreeMap<String, LanguageDefinition>,
    cache_owner: Option<&'a CacheOwner>,
    /// By language and source.
    programs: HashMap<(&'a str, &'a str), (Program<'a>, &'a LanguageDefinition)>,
    /// What `programs` take up on the disk; at most [`MAX_KEPT_BYTES`].
    kept_bytes: u64,
}

/// What a checker compares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) input: &'a str,
    pub(super) output: &'a [u8],
    pub(super) answer: &'a str,
}

impl<'a> CustomCheckers<'a> {
    pub(super) fn new(
        languages: &'a BTreeMap<String, LanguageDefinition>,
        cache_owner: Option<&'a CacheOwner>,
    ) -> Self {
        CustomCheckers { languages, cache_owner, programs: HashMap::new(), kept_bytes: 0 }
    }

    /// Asks the checker with this source.
    ///
    /// # Errors
    /// [`FaultKind::CheckerFailed`] when it does not compile, breaks its limits or answers oddly, or
    /// takes up too much together with those before it.
    pub(super) async fn check(
        &mut self,
        language: &'a str,
        source: &'a str,
        case: Case<'_>,
        jail: Jail<'_>,
        work: &WorkDir,
    ) -> Result<Checked, Stop> {
        if !self.programs.contains_key(&(language, source)) {
            let (program, definition) = self.prepare(language, source, jail, work).await?;
            self.kept_bytes += fitting(&program, MAX_KEPT_BYTES - self.kept_bytes)?;
            self.programs.insert((language, source), (program, definition));
        }
        let (program, definition) = &self.programs[&(language, source)];
        let job = checker_job(program, definition, case)?;
        let caps = job.caps;
        let (measured, written) = jail.run_whole(job).await.map_err(|error| match error {
            SandboxError::Exec(command) if program.is_own(&command) => {
                failed("cannot be executed".to_owned())
            }
            error => error.into(),
        })?;
        let evidence = Evidence {
            measured: &measured,
            caps: &caps,
            language: definition,
            stderr_tail: &written.stderr,
        };
        let judgement = judge(&evidence, None);
        match (judgement.verdict, measured.end) {
            (Verdict::Accepted | Verdict::RuntimeError, End::Exited(code))
                if !measured.destroyed_sandbox =>
            {
                answer(code, &written.stdout, &written.stderr)
            }
            _ => Err(failed(judgement.reason)),
        }
    }

    async fn prepare(
        &self,
        language: &str,
        source: &str,
        jail: Jail<'_>,
        work: &WorkDir,
    ) -> Result<(Program<'a>, &'a LanguageDefinition), Stop> {
        let definition = self
            .languages
            .get(language)
            .ok_or_else(|| failed(format!("is in `{language}`, which is no language here")))?;
        if definition.compile.is_some() {
            // Not the checker's fault: another attempt may find room.
            work.check_room().map_err(|full| Stop::Fault(Fault::new(FaultKind::NoRoom, full)))?;
        }
        let path = definition.source_file.clone();
        let files = vec![JailFile { path, content: source.into() }];
        let entrypoint = &definition.source_file;
        let cache_owner = self.cache_owner;
        let source = Source { files, entrypoint, compile_args: &[], cache_owner };
        match Program::prepare(definition, source, jail, work).await? {
            Prepared { program: Some(program), .. } => Ok((program, definition)),
            Prepared { compile, .. } => Err(failed(does_not_compile(compile.as_ref()))),
        }
    }
}

/// The bytes that a checker takes up, when they are no more than are `left`.
fn fitting(program: &Program<'_>, left: u64) -> Result<u64, Stop> {
    let bytes = program.bytes_on_disk().map_err(|error| {
        Stop::broken(format!("cannot see how large a compiled checker is: {error}"))
    })?;
    if bytes <= left {
        return Ok(bytes);
    }
    Err(failed(format!(
        "takes up {bytes} bytes when it is compiled, and only {left} are left of the \
         {MAX_KEPT_BYTES} that the checkers of a submission may take up together"
    )))
}

fn checker_job(
    program: &Program<'_>,
    language: &LanguageDefinition,
    case: Case<'_>,
) -> Result<Job, Stop> {
    let limits = caps::checker_limits(language);
    let mut job = program.job(Invocation {
        args: &ARGUMENTS.map(str::to_owned),
        env: &BTreeMap::new(),
        limits: &limits,
        caps: caps::of_checker(language),
    })?;
    let contents = [case.input.into(), Blob::from(case.output.to_vec()), case.answer.into()];
    let files = ARGUMENTS.iter().zip(contents);
    job.files.extend(files.map(|(path, content)| JailFile { path: (*path).to_owned(), content }));
    Ok(job)
}

/// What an exit code of a checker means.
fn answer(code: i32, stdout: &[u8], stderr: &[u8]) -> Result<Checked, Stop> {
    let said = String::from_utf8_lossy(&stderr[..stderr.len().min(REASON_BYTES)]).trim().to_owned();
    let reason = |without: &str| if said.is_empty() { without.to_owned() } else { said.clone() };
    match code {
        0 => Ok(Checked {
            right: true,
            reason: reason("the checker accepts the output"),
            share: 1.0,
        }),
        1 | 2 => Ok(Checked {
            right: false,
            reason: reason("the checker refuses the output"),
            share: 0.0,
        }),
        7 => {
            let share = first_number(stdout)
                .ok_or_else(|| failed("gives no share from 0 to 1 on its first line".to_owned()))?;
            let reason = reason(&format!("the checker gives {share} of the points"));
            Ok(Checked { right: share == 1.0, reason, share })
        }
        other => Err(failed(end_text(End::Exited(other)))),
    }
}

/// The number from 0 to 1 on the first line.
fn first_number(stdout: &[u8]) -> Option<f64> {
    let line = stdout.split(|&byte| byte == b'\n').next()?;
    let number: f64 = std::str::from_utf8(line).ok()?.trim().parse().ok()?;
    (0.0..=1.0).contains(&number).then_some(number)
}

fn does_not_compile(compile: Option<&CompileReport>) -> String {
    let Some(compile) = compile else { return "does not compile".to_owned() };
    let stderr = &compile.stderr.data[..compile.stderr.data.len().min(REASON_BYTES)];
    format!("does not compile ({}): {}", compile.reason, String::from_utf8_lossy(stderr).trim())
}

fn failed(what: String) -> Stop {
    Stop::Fault(Fault::new(FaultKind::CheckerFailed, format!("the checker {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: i32, stdout: &str, stderr: &str) -> Checked {
        answer(code, stdout.as_bytes(), stderr.as_bytes()).expect("an answer")
    }

    #[test]
    fn exit_codes_mean_what_testlib_says() {
        assert_eq!(of(0, "", "ok 3 tokens\n").reason, "ok 3 tokens");
        assert!(of(0, "", "").right);
        for code in [1, 2] {
            let checked = of(code, "", "");
            assert!(!checked.right);
            assert_eq!(
                (checked.share, checked.reason.as_str()),
                (0.0, "the checker refuses the output")
            );
        }
        let partial = of(7, "0.25\nmore", "");
        assert_eq!((partial.right, partial.share), (false, 0.25));
        assert_eq!(partial.reason, "the checker gives 0.25 of the points");
        assert!(of(7, " 1 ", "").right);
    }

    #[test]
    fn any_other_answer_is_the_checkers_failure_and_is_not_retried() {
        for (code, stdout) in
            [(3, ""), (255, ""), (7, ""), (7, "1.5"), (7, "-1"), (7, "NaN"), (7, "x")]
        {
            match answer(code, stdout.as_bytes(), b"") {
                Err(Stop::Fault(fault)) => {
                    assert_eq!(fault.kind, FaultKind::CheckerFailed, "{code} {stdout}");
                    assert!(!fault.kind.is_retryable());
                }
                other => panic!("{code} {stdout}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_reason_is_the_first_four_kibibytes_of_stderr() {
        assert_eq!(of(1, "", &"x".repeat(10_000)).reason.len(), REASON_BYTES);
    }
}
