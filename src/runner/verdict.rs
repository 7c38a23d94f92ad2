//! The verdict on one run: a pure function of what was measured.
//!
//! Precedence (docs/sandbox.md): our own fault never gets here; then memory, then whatever the run
//! was killed for first, then output or a time over its limit at the end, then a failing end, then
//! the checker.

use std::time::Duration;

use crate::{
    language::LanguageDefinition,
    sandbox::{Cap, Caps, End, Measured, Space, Stream},
    submission::Verdict,
};

/// What is known of a run when it is over.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// How it ended, and what it used.
    pub measured: &'a Measured,
    /// What it was allowed.
    pub caps: &'a Caps,
    /// Its language: knows what running out of memory looks like.
    pub language: &'a LanguageDefinition,
    /// The end of what it wrote to stderr.
    pub stderr_tail: &'a [u8],
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Whether the output is right.
    pub right: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// The part of the test's points that it earns, from 0 to 1.
    pub share: f64,
}

/// The word for a run, and the sentence beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The word.
    pub verdict: Verdict,
    /// The sentence.
    pub reason: String,
}

impl Judgement {
    fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Judgement { verdict, reason: reason.into() }
    }
}

/// The verdict on one run. `checked` is absent while nothing was checked: a run that is `accepted`
/// without it is one whose output is worth checking.
pub fn judge(evidence: &Evidence<'_>, checked: Option<&Checked>) -> Judgement {
    memory(evidence)
        .or_else(|| killed(evidence))
        .or_else(|| wrote_too_much(evidence))
        .or_else(|| too_long(evidence))
        .or_else(|| failed(evidence))
        .unwrap_or_else(|| match checked {
            None => Judgement::new(Verdict::Accepted, "exited with code 0"),
            Some(Checked { right: true, reason, .. }) => Judgement::new(Verdict::Accepted, reason),
            Some(Checked { reason, .. }) => Judgement::new(Verdict::WrongAnswer, reason),
        })
}

/// Memory, in any of the three ways it shows.
fn memory(evidence: &Evidence<'_>) -> Option<Judgement> {
    let Evidence { measured, caps, .. } = evidence;
    let used = format!("{} of {} bytes of memory", measured.memory_peak_bytes, caps.memory_bytes);
    let reason = if measured.killed_for == Some(Cap::Memory) {
        format!("used {used} when it was killed")
    } else if measured.oom_kills > 0 {
        match measured.end {
            End::Signaled(libc::SIGKILL) => format!("used {used} when it was killed"),
            end => format!(
                "one of its processes was killed for memory: used {used}, then {}",
                end_text(end)
            ),
        }
    } else if measured.end != End::Exited(0) && ran_out_by_itself(evidence) {
        format!("ran out of memory: used {used}, then {}", end_text(measured.end))
    } else {
        return None;
    };
    Some(Judgement::new(Verdict::MemoryLimitExceeded, reason))
}

/// Whether the program itself says that memory ran out, and its peak makes that credible.
fn ran_out_by_itself(evidence: &Evidence<'_>) -> bool {
    let limit = evidence.caps.memory_bytes.saturating_sub(evidence.language.memory_overhead_bytes);
    let near = evidence.measured.memory_peak_bytes >= limit / 4 * 3;
    let says = |text: &String| {
        !text.is_empty()
            && evidence.stderr_tail.windows(text.len()).any(|part| part == text.as_bytes())
    };
    near && evidence.measured.killed_for.is_none()
        && evidence.language.out_of_memory.iter().any(says)
}

fn killed(evidence: &Evidence<'_>) -> Option<Judgement> {
    let Evidence { measured, caps, .. } = evidence;
    match measured.killed_for? {
        Cap::Cpu => Some(cpu(measured.cpu_time, caps)),
        Cap::Wall => Some(wall(measured.wall_time, caps)),
        Cap::Output => Some(output(measured, caps, " when it was killed")),
        Cap::Memory => None,
    }
}

fn cpu(used: Duration, caps: &Caps) -> Judgement {
    Judgement::new(
        Verdict::TimeLimitExceeded,
        format!("used {} of {} ms of CPU time", millis(used), caps.cpu_time.as_millis()),
    )
}

fn wall(used: Duration, caps: &Caps) -> Judgement {
    Judgement::new(
        Verdict::TimeLimitExceeded,
        format!("took {} of {} ms of wall time", millis(used), caps.wall_time.as_millis()),
    )
}

/// A program that ends right after its last write is gone before it can be killed for it.
fn wrote_too_much(evidence: &Evidence<'_>) -> Option<Judgement> {
    let Evidence { measured, caps, .. } = evidence;
    let most = measured.stdout.bytes.max(measured.stderr.bytes);
    (most > caps.output_kill).then(|| output(measured, caps, ""))
}

fn output(measured: &Measured, caps: &Caps, when: &str) -> Judgement {
    let (stream, bytes) = if measured.stdout.bytes > caps.output_kill {
        (Stream::Stdout, measured.stdout.bytes)
    } else {
        (Stream::Stderr, measured.stderr.bytes)
    };
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    Judgement::new(
        Verdict::OutputLimitExceeded,
        format!("wrote {bytes} of {} bytes to {name}{when}", caps.output_kill),
    )
}

fn too_long(evidence: &Evidence<'_>) -> Option<Judgement> {
    let Evidence { measured, caps, .. } = evidence;
    if measured.cpu_time > caps.cpu_time {
        Some(cpu(measured.cpu_time, caps))
    } else if measured.wall_time > caps.wall_time {
        Some(wall(measured.wall_time, caps))
    } else {
        None
    }
}

fn failed(evidence: &Evidence<'_>) -> Option<Judgement> {
    let Evidence { measured, caps, .. } = evidence;
    if measured.destroyed_sandbox {
        return Some(Judgement::new(Verdict::RuntimeError, "destroyed its own sandbox"));
    }
    if measured.end == End::Exited(0) {
        return None;
    }
    let mut reason = end_text(measured.end);
    if let Some(space) = measured.disk_full {
        let (used, cap, unit) = match space {
            Space::Bytes => (measured.disk_used_bytes, caps.disk_bytes, "bytes"),
            Space::Inodes => (caps.inodes, caps.inodes, "files"),
        };
        reason.push_str(&format!("; work directory full, {used} of {cap} {unit}"));
    }
    Some(Judgement::new(Verdict::RuntimeError, reason))
}

/// Milliseconds, rounded up, so that "1000 of 1000" is never said of more than the limit.
fn millis(duration: Duration) -> u128 {
    duration.as_micros().div_ceil(1000)
}

/// How a process ended, after "it": `exited with code 3`, `ended by signal 11 (SIGSEGV)`.
pub(super) fn end_text(end: End) -> String {
    match end {
        End::Exited(code) => format!("exited with code {code}"),
        End::Signaled(signal) => match signal_name(signal) {
            Some(name) => format!("ended by signal {signal} ({name})"),
            None => format!("ended by signal {signal}"),
        },
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    nix::sys::signal::Signal::try_from(signal).ok().map(nix::sys::signal::Signal::as_str)
}

#[cfg(test)]
mod tests;
