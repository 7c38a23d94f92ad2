//! One run of a program: its jail, its output, its verdict.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::{
    Stop, caps, checker,
    custom_checker::{Case, CustomCheckers},
    emitter::Emitter,
    folder::WorkDir,
    jail::{Jail, Output},
    program::{Invocation, Program, codes},
    verdict::{Checked, Evidence, Judgement, judge},
};
use crate::{
    protocol::{EventKind, ExecutionRequest, Input, RunInput},
    sandbox::{Caps, Measured, SandboxError, Stream, Taken},
    submission::{
        Checker, CollectedFile, Fault, FaultKind, Interactive, RunReport, StreamSummary, Verdict,
    },
};

/// Bytes of the end of stderr that are searched for the language's words for "out of memory".
const STDERR_TAIL: usize = 64 << 10;

/// What a program takes its terminal for that is not told by its request.
const TERMINAL: &str = "xterm-256color";

/// What all runs of an attempt share.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    pub(super) request: &'a ExecutionRequest,
    pub(super) program: Program<'a>,
    pub(super) checkers: CustomCheckers<'a>,
    pub(super) jail: Jail<'a>,
    pub(super) work: &'a WorkDir,
    /// What is sent to the only run, where it is talked to.
    pub(super) live: Option<mpsc::Receiver<Input>>,
    /// Of the work directory, as the request wants them.
    pub(super) files: Vec<CollectedFile>,
}

/// What is known of the output of a run, beside the events it went out with.
#[derive(Debug, Default)]
struct Seen {
    /// All of stdout that its cap let through, where a checker wants it.
    stdout: Option<BytesMut>,
    /// The end of stderr, which on a terminal is that of everything.
    stderr_tail: BytesMut,
    has_terminal: bool,
    /// Bytes sent of each stream.
    sent: [u64; 2],
}

impl<'a> Runs<'a> {
    /// Runs the program on one input and judges it. Sends its output and then its report.
    pub(super) async fn one(
        &mut self,
        index: u32,
        input: &RunInput<'a>,
        emitter: &mut Emitter,
    ) -> Result<RunReport, Stop> {
        let limits = self.request.limits();
        let caps = caps::of_run(limits, &self.request.language);
        let mut job = self.program.job(Invocation {
            args: input.args,
            env: &self.request.request.env,
            limits,
            caps,
        })?;
        job.stdin = input.stdin.into();
        job.take.clone_from(&self.request.request.collect);
        job.tty = self.request.request.interactive == Some(Interactive::Tty);
        if job.tty && !job.env.iter().any(|(name, _)| name == "TERM") {
            job.env.push(("TERM".to_owned(), TERMINAL.to_owned()));
        }
        let is_last = index as usize + 1 == self.request.request.tests.len().max(1);
        job.followed = !is_last || matches!(input.checker, Checker::Custom { .. });
        let wants = (input.answer().is_some(), job.tty);
        let (measured, seen) = self
            .jail
            .run(job, self.live.take(), async |output: Output| {
                seen(output, index, wants, emitter).await
            })
            .await;
        // The reader stops early only when the attempt is cancelled; that is then the answer.
        let seen = seen?;
        let report = match measured {
            Ok(mut measured) => {
                self.collect(std::mem::take(&mut measured.taken), emitter).await?;
                self.judge(&caps, input, &measured, &seen).await?
            }
            Err(SandboxError::Exec(command)) if self.program.is_own(&command) => {
                not_executable(input)
            }
            Err(error) => return Err(error.into()),
        };
        emitter.emit(EventKind::RunFinished { run: index, report: report.clone() }).await?;
        Ok(report)
    }

    /// Sends the files that were taken.
    async fn collect(&mut self, taken: Vec<Taken>, emitter: &mut Emitter) -> Result<(), Stop> {
        for (file, Taken { path, bytes, content }) in (0..).zip(taken) {
            let missed = match content {
                Err(why) => Some(why),
                Ok(content) => {
                    let is_kept = emitter.file(file, content.0).await?;
                    (!is_kept).then(|| "is more than is left to keep of a submission".to_owned())
                }
            };
            self.files.push(CollectedFile { path, bytes, missed });
        }
        Ok(())
    }

    async fn judge(
        &mut self,
        caps: &Caps,
        input: &RunInput<'a>,
        measured: &Measured,
        seen: &Seen,
    ) -> Result<RunReport, Stop> {
        let language = &self.request.language;
        let evidence = Evidence { measured, caps, language, stderr_tail: &seen.stderr_tail };
        let mut judgement = judge(&evidence, None);
        let mut share = if judgement.verdict == Verdict::Accepted { 1.0 } else { 0.0 };
        if judgement.verdict == Verdict::Accepted
            && let (Some(answer), Some(stdout)) = (input.answer(), &seen.stdout)
        {
            let case = Case { input: input.stdin, output: stdout, answer };
            let checked = self.check(input.checker, case).await;
            let checked = checked.map_err(|stop| of_test(stop, input.test.as_deref()))?;
            share = checked.share;
            judgement = judge(&evidence, Some(&checked));
        }
        Ok(report(input, measured, seen, judgement, share))
    }

    async fn check(&mut self, checker: &'a Checker, case: Case<'_>) -> Result<Checked, Stop> {
        let answer = case.answer.as_bytes();
        Ok(match checker {
            Checker::Tokens => checker::tokens(case.output, answer),
            Checker::Exact => checker::exact(case.output, answer),
            Checker::Lines => checker::lines(case.output, answer),
            Checker::Float { abs, rel } => checker::float(case.output, answer, *abs, *rel),
            Checker::Custom { language, source } => {
                self.checkers.check(language, source, case, self.jail, self.work).await?
            }
        })
    }
}

/// Says at which test a checker failed.
fn of_test(stop: Stop, test: Option<&str>) -> Stop {
    match (stop, test) {
        (Stop::Fault(fault), Some(test)) if fault.kind == FaultKind::CheckerFailed => {
            Stop::Fault(Fault::new(fault.kind, format!("test {test}: {}", fault.message)))
        }
        (stop, _) => stop,
    }
}

/// Sends output on as it comes and keeps what judging needs.
async fn seen(
    mut output: Output,
    run: u32,
    (wanted, has_terminal): (bool, bool),
    emitter: &mut Emitter,
) -> Result<Seen, Stop> {
    let mut seen = Seen { stdout: wanted.then(BytesMut::new), has_terminal, ..Seen::default() };
    while let Some(piece) = output.next().await {
        let stream = piece.stream;
        seen.note(stream, &piece.data);
        seen.sent[stream as usize] += emitter.output(run, piece).await?;
    }
    Ok(seen)
}

impl Seen {
    fn note(&mut self, stream: Stream, data: &Bytes) {
        if let (Stream::Stdout, Some(stdout)) = (stream, &mut self.stdout) {
            stdout.extend_from_slice(data);
        }
        if stream == Stream::Stderr || self.has_terminal {
            self.stderr_tail.extend_from_slice(data);
            let excess = self.stderr_tail.len().saturating_sub(STDERR_TAIL);
            bytes::Buf::advance(&mut self.stderr_tail, excess);
        }
    }

    fn summary(&self, stream: Stream, measured: StreamSummary) -> StreamSummary {
        StreamSummary {
            bytes: measured.bytes,
            truncated: measured.truncated || measured.bytes > self.sent[stream as usize],
        }
    }
}

fn report(
    input: &RunInput<'_>,
    measured: &Measured,
    seen: &Seen,
    judgement: Judgement,
    share: f64,
) -> RunReport {
    let (exit_code, signal) = codes(measured.end);
    RunReport {
        test: input.test.clone(),
        verdict: judgement.verdict,
        reason: judgement.reason,
        exit_code,
        signal,
        stdout: seen.summary(Stream::Stdout, measured.stdout),
        stderr: seen.summary(Stream::Stderr, measured.stderr),
        cpu_time_ms: measured.cpu_time.as_millis() as u64,
        wall_time_ms: measured.wall_time.as_millis() as u64,
        memory_bytes: measured.memory_peak_bytes,
        points: input.points * share,
    }
}

/// The report on a run that never was.
fn without_figures(input: &RunInput<'_>, verdict: Verdict, reason: &str) -> RunReport {
    RunReport {
        test: input.test.clone(),
        verdict,
        reason: reason.to_owned(),
        exit_code: None,
        signal: None,
        stdout: StreamSummary::default(),
        stderr: StreamSummary::default(),
        cpu_time_ms: 0,
        wall_time_ms: 0,
        memory_bytes: 0,
        points: 0.0,
    }
}

/// A test after the first that failed, under `stop_on_failure`.
pub(super) fn skipped(input: &RunInput<'_>) -> RunReport {
    without_figures(input, Verdict::Skipped, "an earlier test failed")
}

/// A compile that ended well but made something that is no program (`-c`).
fn not_executable(input: &RunInput<'_>) -> RunReport {
    without_figures(input, Verdict::RuntimeError, "the compiled program cannot be executed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_stderr_is_searched_and_stdout_is_kept_where_it_is_wanted() {
        let mut seen = Seen { stdout: Some(BytesMut::new()), ..Seen::default() };
        seen.note(Stream::Stderr, &Bytes::from(vec![b'a'; STDERR_TAIL]));
        seen.note(Stream::Stderr, &Bytes::from("end"));
        seen.note(Stream::Stdout, &Bytes::from("out"));
        assert_eq!(seen.stderr_tail.len(), STDERR_TAIL);
        assert!(seen.stderr_tail.ends_with(b"aend"));
        assert_eq!(seen.stdout.as_deref(), Some(&b"out"[..]));
        let mut on_a_terminal = Seen { has_terminal: true, ..Seen::default() };
        on_a_terminal.note(Stream::Stdout, &Bytes::from("all"));
        assert_eq!(on_a_terminal.stderr_tail, "all");
        let mut unwanted = Seen::default();
        unwanted.note(Stream::Stdout, &Bytes::from("out"));
        assert_eq!(unwanted.stdout, None);
    }

    #[test]
    fn output_that_the_submission_no_longer_keeps_is_marked_as_cut() {
        let seen = Seen { sent: [5, 7], ..Seen::default() };
        let measured = StreamSummary { bytes: 7, truncated: false };
        assert!(seen.summary(Stream::Stdout, measured).truncated);
        assert!(!seen.summary(Stream::Stderr, measured).truncated);
    }
}
