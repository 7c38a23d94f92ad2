//! From the engine's words to the shapes of the API. Pure.

mod event;
mod request;
mod service;

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub use self::service::{history, language, ready, stats, worker};
pub use self::{event::event, request::request};
use super::types as dto;
use crate::{
    dispatcher::{Page, Summary, View},
    store::{Kept, KeptOutput, written},
    submission::{self as core, StateName, StreamSummary, Timestamp},
};

/// A submission without its request.
pub fn submission(view: View) -> dto::Submission {
    let View { submission, outputs, both } = view;
    let state = state(submission.state.name());
    let (outcome, finished_at) = match submission.state {
        core::State::Finished { outcome, at } => (Some(outcome), Some(at)),
        _ => (None, None),
    };
    dto::Submission {
        id: submission.id.as_uuid(),
        state,
        language: submission.request.language,
        created_at: submission.created_at.into(),
        started_at: submission.started_at.map(Timestamp::into),
        finished_at: finished_at.map(Timestamp::into),
        attempt: submission.attempt,
        waiting_for: submission.waiting_for,
        placement: submission.placement.map(placement),
        outcome: outcome.map(|outcome| self::outcome(outcome, outputs, both)),
        request: None,
    }
}

/// A submission with its request.
pub fn submission_with_request(view: View) -> dto::Submission {
    let request = request::request(view.submission.request.clone());
    dto::Submission { request: Some(request), ..submission(view) }
}

fn state(state: StateName) -> dto::State {
    match state {
        StateName::Queued => dto::State::Queued,
        StateName::Dispatching => dto::State::Dispatching,
        StateName::Running => dto::State::Running,
        StateName::Finished => dto::State::Finished,
    }
}

/// The engine's word for a state that a client named.
pub fn state_name(state: dto::State) -> StateName {
    match state {
        dto::State::Queued => StateName::Queued,
        dto::State::Dispatching => StateName::Dispatching,
        dto::State::Running => StateName::Running,
        dto::State::Finished => StateName::Finished,
    }
}

fn verdict(verdict: core::Verdict) -> dto::Verdict {
    use core::Verdict as V;
    match verdict {
        V::Accepted => dto::Verdict::Accepted,
        V::WrongAnswer => dto::Verdict::WrongAnswer,
        V::TimeLimitExceeded => dto::Verdict::TimeLimitExceeded,
        V::MemoryLimitExceeded => dto::Verdict::MemoryLimitExceeded,
        V::OutputLimitExceeded => dto::Verdict::OutputLimitExceeded,
        V::RuntimeError => dto::Verdict::RuntimeError,
        V::CompileError => dto::Verdict::CompileError,
        V::Cancelled => dto::Verdict::Cancelled,
        // `skipped` is of runs alone: as the verdict of a whole it would be our own mistake.
        V::InternalError | V::Skipped => dto::Verdict::InternalError,
    }
}

/// The engine's word for a verdict that a client named.
pub fn verdict_name(verdict: dto::Verdict) -> core::Verdict {
    use core::Verdict as V;
    match verdict {
        dto::Verdict::Accepted => V::Accepted,
        dto::Verdict::WrongAnswer => V::WrongAnswer,
        dto::Verdict::TimeLimitExceeded => V::TimeLimitExceeded,
        dto::Verdict::MemoryLimitExceeded => V::MemoryLimitExceeded,
        dto::Verdict::OutputLimitExceeded => V::OutputLimitExceeded,
        dto::Verdict::RuntimeError => V::RuntimeError,
        dto::Verdict::CompileError => V::CompileError,
        dto::Verdict::Cancelled => V::Cancelled,
        dto::Verdict::InternalError => V::InternalError,
    }
}

fn run_verdict(verdict: core::Verdict) -> dto::RunVerdict {
    use core::Verdict as V;
    match verdict {
        V::Accepted => dto::RunVerdict::Accepted,
        V::WrongAnswer => dto::RunVerdict::WrongAnswer,
        V::TimeLimitExceeded => dto::RunVerdict::TimeLimitExceeded,
        V::MemoryLimitExceeded => dto::RunVerdict::MemoryLimitExceeded,
        V::OutputLimitExceeded => dto::RunVerdict::OutputLimitExceeded,
        V::Skipped => dto::RunVerdict::Skipped,
        // The last three are of submissions alone; a run never has them.
        V::RuntimeError | V::CompileError | V::Cancelled | V::InternalError => {
            dto::RunVerdict::RuntimeError
        }
    }
}

fn placement(placement: core::Placement) -> dto::Placement {
    let none = dto::Placement {
        kind: dto::PlacementKind::Local,
        job_id: None,
        evaluation_id: None,
        allocation_id: None,
        node_id: None,
        worker_id: None,
    };
    match placement {
        core::Placement::Local => none,
        core::Placement::Pool { worker_id, .. } => {
            dto::Placement { kind: dto::PlacementKind::Pool, worker_id: Some(worker_id), ..none }
        }
        core::Placement::Nomad { job_id, evaluation_id, allocation_id, node_id } => {
            dto::Placement {
                kind: dto::PlacementKind::Nomad,
                job_id: Some(job_id),
                evaluation_id: Some(evaluation_id),
                allocation_id,
                node_id,
                ..none
            }
        }
    }
}

fn outcome(outcome: core::Outcome, outputs: Vec<KeptOutput>, both: Vec<Kept>) -> dto::Outcome {
    let word = verdict(outcome.verdict());
    let reason = outcome.reason();
    let core::Outcome::Judged(report) = outcome else {
        return dto::Outcome {
            verdict: word,
            reason,
            compile: None,
            runs: Vec::new(),
            points: 0.0,
            files: None,
        };
    };
    let outputs = outputs.into_iter().chain(std::iter::repeat_with(KeptOutput::default));
    let both = both.into_iter().map(Some).chain(std::iter::repeat(None));
    let files: Vec<_> = report.files.into_iter().map(collected_file).collect();
    dto::Outcome {
        verdict: word,
        reason,
        compile: report.compile.map(|compile| compile_report(*compile)),
        runs: report
            .runs
            .into_iter()
            .zip(outputs.zip(both))
            .map(|(report, (kept, both))| run(report, kept, both))
            .collect(),
        points: report.points,
        files: (!files.is_empty()).then_some(files),
    }
}

fn collected_file(file: core::CollectedFile) -> dto::CollectedFile {
    dto::CollectedFile { path: file.path, bytes: file.bytes, missed: file.missed }
}

fn compile_report(report: core::CompileReport) -> dto::CompileReport {
    let output = |output: core::Output| {
        self::output(Kept::Here(output.data), output.bytes, output.truncated)
    };
    dto::CompileReport {
        success: report.success,
        reason: report.reason,
        exit_code: report.exit_code,
        signal: report.signal,
        stdout: output(report.stdout),
        stderr: output(report.stderr),
        cpu_time_ms: report.cpu_time_ms,
        wall_time_ms: report.wall_time_ms,
        memory_bytes: report.memory_bytes,
        cached: report.cached,
    }
}

fn run(report: core::RunReport, kept: KeptOutput, both: Option<Kept>) -> dto::Run {
    let StreamSummary { bytes, truncated } = written(&report, None);
    dto::Run {
        test: report.test,
        verdict: run_verdict(report.verdict),
        reason: report.reason,
        exit_code: report.exit_code,
        signal: report.signal,
        stdout: output(kept.stdout, report.stdout.bytes, report.stdout.truncated),
        stderr: output(kept.stderr, report.stderr.bytes, report.stderr.truncated),
        output: both.map(|both| output(both, bytes, truncated)),
        cpu_time_ms: report.cpu_time_ms,
        wall_time_ms: report.wall_time_ms,
        memory_bytes: report.memory_bytes,
        points: report.points,
    }
}

/// Output with the encoding that fits it. Where output was cut, so may its last character be: what
/// is left of that is dropped before choosing.
fn output(kept: Kept, bytes: u64, truncated: bool) -> dto::Output {
    let (data, encoding) = match kept {
        Kept::Here(kept) => match text(&kept, truncated) {
            Some(text) => (dto::OutputData::Text(text.to_owned()), dto::Encoding::Utf8),
            None => (dto::OutputData::Text(STANDARD.encode(&kept[..])), dto::Encoding::Base64),
        },
        Kept::Stored(kept) => {
            let whole = kept.bytes;
            match kept.text_bytes.filter(|&text| text == whole || truncated) {
                Some(text) => (dto::OutputData::Stored(kept, text), dto::Encoding::Utf8),
                None => (dto::OutputData::Stored(kept, whole), dto::Encoding::Base64),
            }
        }
    };
    dto::Output { data, encoding, truncated, bytes }
}

fn text(kept: &[u8], truncated: bool) -> Option<&str> {
    match std::str::from_utf8(kept) {
        Ok(text) => Some(text),
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&kept[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

fn summary(summary: Summary) -> dto::SubmissionSummary {
    dto::SubmissionSummary {
        id: summary.id.as_uuid(),
        state: state(summary.state),
        language: summary.language,
        created_at: summary.created_at.into(),
        started_at: summary.started_at.map(Timestamp::into),
        finished_at: summary.finished_at.map(Timestamp::into),
        attempt: summary.attempt,
        verdict: summary.verdict.map(verdict),
    }
}

/// Part of a list.
pub fn page(page: Page) -> dto::SubmissionList {
    dto::SubmissionList {
        items: page.items.into_iter().map(summary).collect(),
        next_cursor: page.next.map(super::cursor::encode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(kept: &[u8], bytes: u64, truncated: bool) -> (String, dto::Encoding) {
        let output = super::output(Kept::Here(kept.to_vec().into()), bytes, truncated);
        match output.data {
            dto::OutputData::Text(text) => (text, output.encoding),
            dto::OutputData::Stored(..) => panic!("it is here"),
        }
    }

    #[test]
    fn output_that_is_text_is_utf8_and_other_bytes_are_base64() {
        let text = output("grün\0\n".as_bytes(), 7, false);
        assert_eq!(text, ("grün\0\n".to_owned(), dto::Encoding::Utf8));
        let bytes = output(&[0xff, 0x00], 2, false);
        assert_eq!(bytes, ("/wA=".to_owned(), dto::Encoding::Base64));
    }

    #[test]
    fn a_character_cut_at_the_limit_is_dropped_but_only_there() {
        let cut = output(b"gr\xc3", 9, true);
        assert_eq!(cut, ("gr".to_owned(), dto::Encoding::Utf8));
        let whole = output(b"gr\xc3", 3, false);
        assert_eq!(whole.1, dto::Encoding::Base64);
        let broken_inside = output(b"\xc3(\xc3", 9, true);
        assert_eq!(broken_inside.1, dto::Encoding::Base64);
    }
}
