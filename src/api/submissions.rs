//! Submissions: send, read, list, cancel, delete.

use std::time::Duration;

use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Engine, Tag,
    answer::{Answer, Pieces},
    body::{JsonBody, RawOutput, decode_value},
    convert, cursor,
    params::{IdempotencyKey, Whole},
    problem::{Failure, Kind},
    types as dto, validate,
};
use crate::{
    dispatcher::{Filter, Submitted, View},
    sandbox::Stream,
    submission::{NewSubmission, SubmissionId},
};

/// How many submissions a list shows that asks for no number.
const DEFAULT_LIMIT: u32 = 20;
/// Most submissions of a batch.
const MAX_BATCH: usize = 100;

/// The operations on submissions.
pub(super) struct SubmissionsApi;

/// A submission was accepted.
#[derive(ApiResponse)]
enum Created {
    /// The submission is accepted and saved. With `wait` it is also finished, unless the time ran
    /// out before.
    #[oai(status = 201)]
    Created(
        Answer<dto::Submission>,
        /// The path of the submission.
        #[oai(header = "Location")]
        String,
        /// `true` if the `Idempotency-Key` was known and this is the submission of then.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

/// A submission is gone.
#[derive(ApiResponse)]
enum Deleted {
    /// It is deleted.
    #[oai(status = 204)]
    Deleted,
}

#[OpenApi(tag = "Tag::Submissions")]
impl SubmissionsApi {
    /// Send a program
    ///
    /// When the answer comes, the submission is saved and will be run, whatever happens to the
    /// daemon. With `wait` the answer comes when the submission is finished or the time is over.
    #[oai(path = "/v1/submissions", method = "post", operation_id = "createSubmission")]
    async fn create(
        &self,
        Data(engine): Data<&Engine>,
        /// Your own name for this request, 1 to 255 visible ASCII characters. The same request
        /// with the same key is accepted once; another request with it is refused.
        #[oai(name = "Idempotency-Key")]
        key: IdempotencyKey,
        /// Seconds to wait for the end: 0 to 60. Default 0.
        wait: Query<Option<Whole<0, 60>>>,
        /// Whether each run has `output` too: stdout and stderr together. Default `false`.
        output: Query<Option<bool>>,
        body: JsonBody<dto::SubmissionRequest>,
    ) -> Result<Created, Failure> {
        let new = new_submission(engine, body.0, key.0)?;
        created(engine, engine.submit(new, seconds(wait.0)).await?, output.0).await
    }

    /// Send many programs
    ///
    /// Each is accepted or refused for itself; `items` of the answer are in the order sent.
    #[oai(path = "/v1/submissions/batch", method = "post", operation_id = "createSubmissionBatch")]
    async fn create_batch(
        &self,
        Data(engine): Data<&Engine>,
        body: JsonBody<dto::BatchRequest>,
    ) -> Result<Answer<dto::BatchResponse>, Failure> {
        let items = batch_items(body.0.items)?;
        let checked: Vec<_> = items.into_iter().map(|item| batch_item(engine, item)).collect();
        let sound = checked.iter().flatten().cloned().collect();
        let mut answers = engine.submit_batch(sound).await?.into_iter();
        let items = checked.into_iter().map(|item| {
            let answer = item.and_then(|_| match answers.next() {
                Some(answer) => answer.map_err(Failure::from),
                None => Err(Failure::internal()),
            });
            match answer {
                Ok(Submitted { view, .. }) => {
                    dto::BatchResult::Submission(Box::new(convert::submission(view)))
                }
                Err(failure) => dto::BatchResult::Problem(failure.problem),
            }
        });
        Answer::new(&dto::BatchResponse { items: items.collect() }, &engine.handle)
    }

    /// List submissions
    ///
    /// Newest first, without what was sent and without runs.
    #[oai(path = "/v1/submissions", method = "get", operation_id = "listSubmissions")]
    async fn list(
        &self,
        Data(engine): Data<&Engine>,
        /// Only those in this state.
        state: Query<Option<dto::State>>,
        /// Only those in this language.
        language: Query<Option<String>>,
        /// Only those that ended so.
        verdict: Query<Option<dto::Verdict>>,
        /// At most so many: 1 to 100. Default 20.
        limit: Query<Option<Whole<1, 100>>>,
        /// Where to go on: `next_cursor` of the part before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<dto::SubmissionList>, Failure> {
        let filter = Filter {
            state: state.0.map(convert::state_name),
            language: language.0.map(|id| engine.language_id(id)),
            verdict: verdict.0.map(convert::verdict_name),
            before: cursor.0.as_deref().map(cursor::decode).transpose()?,
            limit: limit.0.map_or(DEFAULT_LIMIT, |limit| limit.0),
        };
        let page = engine.handle.list(&engine.owner(), &filter).await?;
        Ok(Json(convert::page(page)))
    }

    /// Read a submission
    ///
    /// With `request`: what was sent, with every default filled in. With `wait` the answer comes
    /// when the submission is finished or the time is over.
    #[oai(path = "/v1/submissions/:id", method = "get", operation_id = "getSubmission")]
    async fn get(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// Seconds to wait for the end: 0 to 60. Default 0.
        wait: Query<Option<Whole<0, 60>>>,
        /// Whether each run has `output` too: stdout and stderr together. Default `false`.
        output: Query<Option<bool>>,
    ) -> Result<Answer<dto::Submission>, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        let view = with_output(engine, engine.wait(id, seconds(wait.0)).await?, output.0).await?;
        Answer::new(&convert::submission_with_request(view), &engine.handle)?.with_turn().await
    }

    /// Read stdout
    ///
    /// The bytes as they were written, as far as they are kept; while the program runs, those that
    /// have come.
    #[oai(path = "/v1/submissions/:id/stdout", method = "get", operation_id = "getStdout")]
    async fn stdout(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// The number of the test, from 1. Default 1, which is also the run without tests.
        test: Query<Option<Whole<1, 100>>>,
    ) -> Result<RawOutput, Failure> {
        output(engine, id.0, test.0, Some(Stream::Stdout)).await
    }

    /// Read stderr
    ///
    /// The bytes as they were written, as far as they are kept; while the program runs, those that
    /// have come.
    #[oai(path = "/v1/submissions/:id/stderr", method = "get", operation_id = "getStderr")]
    async fn stderr(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// The number of the test, from 1. Default 1, which is also the run without tests.
        test: Query<Option<Whole<1, 100>>>,
    ) -> Result<RawOutput, Failure> {
        output(engine, id.0, test.0, Some(Stream::Stderr)).await
    }

    /// Read stdout and stderr together
    ///
    /// The bytes of both in the order in which they were written, as far as they are kept; while the
    /// program runs, those that have come. Bytes that stood in both pipes at the moment at which they were
    /// read have no order that could be known.
    #[oai(path = "/v1/submissions/:id/output", method = "get", operation_id = "getOutput")]
    async fn output(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// The number of the test, from 1. Default 1, which is also the run without tests.
        test: Query<Option<Whole<1, 100>>>,
    ) -> Result<RawOutput, Failure> {
        output(engine, id.0, test.0, None).await
    }

    /// Cancel a submission
    ///
    /// When the answer comes it is finished with the verdict `cancelled`, and its program is being
    /// ended. One that had finished before is left as it is, and the answer is 409.
    #[oai(path = "/v1/submissions/:id/cancel", method = "post", operation_id = "cancelSubmission")]
    async fn cancel(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
    ) -> Result<Answer<dto::Submission>, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        let view = engine.handle.cancel(&engine.owner(), id).await?;
        Answer::new(&convert::submission(view), &engine.handle)
    }

    /// Run a submission again
    ///
    /// A new submission with the same request, with the defaults that it had. It is checked as if it were
    /// sent now.
    #[oai(path = "/v1/submissions/:id/rerun", method = "post", operation_id = "rerunSubmission")]
    async fn rerun(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
        /// Seconds to wait for the end: 0 to 60. Default 0.
        wait: Query<Option<Whole<0, 60>>>,
        /// Whether each run has `output` too: stdout and stderr together. Default `false`.
        output: Query<Option<bool>>,
    ) -> Result<Created, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        let view = engine.handle.get(&engine.owner(), id).await?;
        let request = convert::request(view.submission.request);
        let new = new_submission(engine, request, None)?;
        created(engine, engine.submit(new, seconds(wait.0)).await?, output.0).await
    }

    /// Delete a submission
    ///
    /// It is cancelled if need be, and not found any more from now on.
    #[oai(path = "/v1/submissions/:id", method = "delete", operation_id = "deleteSubmission")]
    async fn delete(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the submission.
        id: Path<Uuid>,
    ) -> Result<Deleted, Failure> {
        let id = SubmissionId::from_uuid(id.0);
        engine.handle.delete(&engine.owner(), id).await?;
        Ok(Deleted::Deleted)
    }
}

async fn created(
    engine: &Engine,
    submitted: Submitted,
    output: Option<bool>,
) -> Result<Created, Failure> {
    let Submitted { view, replayed } = submitted;
    let view = with_output(engine, view, output).await?;
    let location = format!("/v1/submissions/{}", view.submission.id);
    let replayed = replayed.then(|| "true".to_owned());
    let answer = Answer::new(&convert::submission(view), &engine.handle)?;
    Ok(Created::Created(answer, location, replayed))
}

/// The same with both streams of each run together, where that is wanted.
async fn with_output(
    engine: &Engine,
    view: View,
    is_wanted: Option<bool>,
) -> Result<View, Failure> {
    if is_wanted == Some(true) { Ok(engine.handle.with_both(view).await?) } else { Ok(view) }
}

fn seconds(wait: Option<Whole<0, 60>>) -> Duration {
    Duration::from_secs(wait.map_or(0, |wait| u64::from(wait.0)))
}

/// Validates one request.
pub(super) fn new_submission(
    engine: &Engine,
    request: dto::SubmissionRequest,
    idempotency_key: Option<String>,
) -> Result<NewSubmission, Failure> {
    let request = validate::validate(request, &engine.catalog).map_err(Failure::invalid)?;
    if request.interactive.is_some() && !engine.handle.takes_input() {
        let detail = "this daemon runs programs on Nomad nodes alone, where none can be talked to";
        return Err(Failure::invalid_field("interactive", detail));
    }
    Ok(NewSubmission { owner: engine.owner(), request, idempotency_key })
}

/// The items of a batch, if their number and shape are right.
fn batch_items(items: Vec<Value>) -> Result<Vec<Value>, Failure> {
    let count = items.len();
    if !(1..=MAX_BATCH).contains(&count) {
        let detail = format!("{count} items are not between 1 and {MAX_BATCH}");
        return Err(Failure::invalid_field("items", detail));
    }
    if let Some(index) = items.iter().position(|item| !item.is_object()) {
        return Err(Failure::invalid_field(format!("items[{index}]"), "is not an object"));
    }
    Ok(items)
}

/// Validates one item of a batch: a request with a key of its own.
fn batch_item(engine: &Engine, mut item: Value) -> Result<NewSubmission, Failure> {
    let field = "idempotency_key";
    let key = match item.as_object_mut().and_then(|fields| fields.shift_remove(field)) {
        None => None,
        Some(Value::String(key)) => {
            let key = IdempotencyKey::check(field, key.as_bytes());
            Some(key.map_err(|fault| Failure::invalid(vec![fault]))?)
        }
        Some(_) => return Err(Failure::invalid_field(field, "is not a text")),
    };
    new_submission(engine, decode_value(item)?, key)
}

async fn output(
    engine: &Engine,
    id: Uuid,
    test: Option<Whole<1, 100>>,
    stream: Option<Stream>,
) -> Result<RawOutput, Failure> {
    let run = test.map_or(0, |test| test.0 - 1);
    let id = SubmissionId::from_uuid(id);
    let output = engine.handle.output(&engine.owner(), id, run, stream).await?;
    Ok(RawOutput(Pieces::raw([output.kept], &engine.handle).with_turn().await?))
}

impl Engine {
    /// Accepts one submission, unless the daemon is ending; with a `wait` it is then finished, or as it is
    /// when the time is over or the daemon ends.
    pub(super) async fn submit(
        &self,
        new: NewSubmission,
        wait: Duration,
    ) -> Result<Submitted, Failure> {
        self.refuse_when_draining()?;
        if wait.is_zero() {
            return Ok(self.handle.submit(new).await?);
        }
        let patience = async {
            let _ = tokio::time::timeout(wait, self.draining.cancelled()).await;
        };
        Ok(self.handle.submit_and_wait(new, patience).await?)
    }

    async fn submit_batch(
        &self,
        new: Vec<NewSubmission>,
    ) -> Result<Vec<Result<Submitted, crate::dispatcher::SubmitError>>, Failure> {
        self.refuse_when_draining()?;
        if new.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.handle.submit_batch(new).await)
    }

    /// One submission when it is finished, or as it is when the time is over or the daemon ends.
    pub(super) async fn wait(&self, id: SubmissionId, wait: Duration) -> Result<View, Failure> {
        let owner = self.owner();
        if !wait.is_zero() {
            tokio::select! {
                view = self.handle.wait(&owner, id, wait) => return Ok(view?),
                () = self.draining.cancelled() => {}
            }
        }
        Ok(self.handle.get(&owner, id).await?)
    }

    fn refuse_when_draining(&self) -> Result<(), Failure> {
        if self.draining.is_cancelled() {
            return Err(Failure::new(Kind::Unavailable, "the daemon is shutting down"));
        }
        Ok(())
    }
}
