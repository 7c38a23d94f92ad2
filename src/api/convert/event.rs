//! Events as clients see them.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{compile_report, run_verdict, state, verdict};
use crate::{
    api::types as dto,
    sandbox::Stream,
    store::{EventData, Happened, StoredEvent},
    submission::{RunReport, StateName},
};

/// One event. That the runner began is to clients the state `running` once more, with `started`.
pub fn event(event: &StoredEvent) -> dto::SubmissionEvent {
    let blank = dto::SubmissionEvent {
        r#type: dto::EventType::State,
        n: event.n,
        attempt: event.attempt,
        at: event.at.into(),
        state: None,
        started: None,
        compile: None,
        test: None,
        data: None,
        encoding: None,
        run: None,
        verdict: None,
        reason: None,
    };
    let in_state = |name| Some(state(name));
    match &event.happened {
        Happened::State(name) => dto::SubmissionEvent { state: in_state(*name), ..blank },
        Happened::Runner(EventData::Started) => {
            let state = in_state(StateName::Running);
            dto::SubmissionEvent { state, started: Some(true), ..blank }
        }
        Happened::Runner(EventData::Compiled(report)) => dto::SubmissionEvent {
            r#type: dto::EventType::Compile,
            compile: Some(compile_report(report.clone())),
            ..blank
        },
        Happened::Runner(EventData::Output { run, stream, data, .. }) => {
            let (data, encoding) = match std::str::from_utf8(data) {
                Ok(text) => (text.to_owned(), dto::Encoding::Utf8),
                Err(_) => (STANDARD.encode(data), dto::Encoding::Base64),
            };
            dto::SubmissionEvent {
                r#type: match stream {
                    Stream::Stdout => dto::EventType::Stdout,
                    Stream::Stderr => dto::EventType::Stderr,
                },
                test: Some(run + 1),
                data: Some(data),
                encoding: Some(encoding),
                ..blank
            }
        }
        Happened::Runner(EventData::RunFinished { run, report }) => dto::SubmissionEvent {
            r#type: dto::EventType::Test,
            test: Some(run + 1),
            run: Some(summary(report)),
            ..blank
        },
        // A last word without an outcome is not read from the store, nor are files.
        Happened::Runner(EventData::Finished | EventData::File { .. }) => {
            dto::SubmissionEvent { r#type: dto::EventType::Finished, ..blank }
        }
        Happened::Ended(outcome) => dto::SubmissionEvent {
            r#type: dto::EventType::Finished,
            verdict: Some(verdict(outcome.verdict())),
            reason: Some(outcome.reason()),
            ..blank
        },
    }
}

fn summary(report: &RunReport) -> dto::RunSummary {
    dto::RunSummary {
        test: report.test.clone(),
        verdict: run_verdict(report.verdict),
        reason: report.reason.clone(),
        exit_code: report.exit_code,
        signal: report.signal,
        stdout_bytes: report.stdout.bytes,
        stdout_truncated: report.stdout.truncated,
        stderr_bytes: report.stderr.bytes,
        stderr_truncated: report.stderr.truncated,
        cpu_time_ms: report.cpu_time_ms,
        wall_time_ms: report.wall_time_ms,
        memory_bytes: report.memory_bytes,
        points: report.points,
    }
}
