//! The interface of the original engine: source in, output out, no JSON.
//!
//! `POST /{language}` stands beside every other path of one part; those come first.

use std::time::Duration;

use poem::web::Data;
use poem_openapi::{ApiResponse, OpenApi, param::Path};

use super::{
    Engine, Tag,
    answer::Pieces,
    body::{RawBody, Text},
    problem::{Failure, Kind},
    service::unknown_language,
    submissions::new_submission,
    types as dto,
};
use crate::{
    dispatcher::View,
    language::Status,
    store::Kept,
    submission::{Outcome, State, StateName, SubmissionId, Verdict},
};

/// How long one look lasts. After it, whoever still waits in the queue is looked at again.
const WAIT: Duration = Duration::from_secs(60);
/// How many looks there are at the most: five minutes. A client that can wait longer should use
/// `/v1/submissions`.
const MAX_WAITS: u32 = 5;

/// The operations on bare source.
pub(super) struct RawApi;

/// What a program wrote.
#[derive(ApiResponse)]
enum Ran {
    /// What the program wrote to stdout, then what it wrote to stderr; after a compile error, what
    /// the compiler wrote. Bytes that are not UTF-8 are sent as they are.
    #[oai(status = 200)]
    Ran(
        Text,
        /// The id of the submission.
        #[oai(header = "Braindrill-Submission")]
        String,
        /// How it ended, in a word.
        #[oai(header = "Braindrill-Verdict")]
        String,
    ),
}

#[OpenApi(tag = "Tag::Raw")]
impl RawApi {
    /// Run source
    ///
    /// Saves the body as a submission, waits for its end and answers with its output. Waits a
    /// minute, and up to five while it is queued; then the answer is 504 with the id of the
    /// submission in `Braindrill-Submission`, which runs on.
    #[oai(path = "/lang/:language", method = "post", operation_id = "runSource")]
    async fn run(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of a language, or an alias of it.
        language: Path<String>,
        body: RawBody,
    ) -> Result<Ran, Failure> {
        run(engine, language.0, body).await
    }

    /// Run source, by the short path
    ///
    /// The same as `/lang/{language}`.
    #[oai(path = "/:language", method = "post", operation_id = "runSourceShort")]
    async fn run_short(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of a language, or an alias of it.
        language: Path<String>,
        body: RawBody,
    ) -> Result<Ran, Failure> {
        run(engine, language.0, body).await
    }
}

async fn run(engine: &Engine, language: String, body: RawBody) -> Result<Ran, Failure> {
    match engine.catalog.get(&language) {
        None => return Err(unknown_language(&language)),
        Some(entry) => {
            if let Status::Unavailable(reason) = entry.status {
                let detail = format!("{} is unavailable: {reason}", entry.definition.id);
                return Err(Failure::new(Kind::InvalidRequest, detail));
            }
        }
    }
    let source = String::from_utf8(body.0.to_vec())
        .map_err(|_| Failure::invalid_field("body", "is not UTF-8, and a source must be"))?;
    let request = dto::SubmissionRequest { language, source: Some(source), ..Default::default() };
    let view = engine.submit(new_submission(engine, request, None)?, WAIT).await?.view;
    let id = view.submission.id;
    finished(engine, view)
        .await
        .and_then(|view| ran(engine, view))
        .map_err(|failure| with_id(failure, id))
}

/// Waits for the end of what was waited for once, as long as such a request may.
async fn finished(engine: &Engine, mut view: View) -> Result<View, Failure> {
    for _ in 1..MAX_WAITS {
        match view.submission.state.name() {
            StateName::Finished => return Ok(view),
            StateName::Queued if !engine.draining.is_cancelled() => {}
            _ => break,
        }
        view = engine.wait(view.submission.id, WAIT).await?;
    }
    if view.submission.state.name() == StateName::Finished {
        return Ok(view);
    }
    let detail = "the submission runs on; read it at /v1/submissions/{id}, with the id from the \
                  header Braindrill-Submission";
    Err(Failure::new(Kind::StillRunning, detail))
}

fn ran(engine: &Engine, view: View) -> Result<Ran, Failure> {
    let id = view.submission.id;
    let State::Finished { outcome, .. } = view.submission.state else {
        return Err(Failure::internal());
    };
    let verdict = outcome.verdict();
    let kept: Vec<Kept> = match outcome {
        Outcome::Failed(fault) => return Err(Failure::new(Kind::Internal, fault.to_string())),
        Outcome::Cancelled => Vec::new(),
        Outcome::Judged(report) => match report.compile {
            Some(compile) if verdict == Verdict::CompileError => {
                vec![Kept::Here(compile.stdout.data), Kept::Here(compile.stderr.data)]
            }
            _ => view.outputs.into_iter().flat_map(|run| [run.stdout, run.stderr]).collect(),
        },
    };
    let text = Text(Pieces::raw(kept, &engine.handle));
    Ok(Ran::Ran(text, id.to_string(), verdict.as_str().to_owned()))
}

fn with_id(failure: Failure, id: SubmissionId) -> Failure {
    let name = poem::http::HeaderName::from_static("braindrill-submission");
    let id = id.to_string().parse().expect("an id is a header value");
    failure.header(name, id)
}
