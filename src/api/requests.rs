//! Attempts, for the nodes that run them: a request that is too long for the payload of a dispatch is
//! fetched from here, and a runner that has said its last word calls here.
//!
//! Not part of the OpenAPI description, nor under `/v1`: it is a matter between the daemon and its own
//! runners, with a token that no client can make, and changes with the protocol between the two. Who
//! has no token of a live attempt learns nothing, not even that there is one.

use poem::{IntoResponse as _, Request, Response, http::header};

use super::{Engine, problem::Failure};
use crate::{
    protocol::{REQUESTS_PATH, payload},
    submission::SubmissionId,
};

/// The path for the router.
pub(super) fn route() -> String {
    format!("{REQUESTS_PATH}/:submission/:attempt/:token")
}

/// Answers with the request of an attempt, compressed, until the attempt ends; as often as it is
/// asked, since Nomad asks twice and a lost node's replacement asks again.
pub(super) async fn answer(request: Request) -> poem::Result<Response> {
    Ok(match find(&request).await {
        Ok(bytes) => Response::builder()
            .content_type("application/octet-stream")
            .header(header::CACHE_CONTROL, "no-store")
            .body(bytes),
        Err(failure) => failure.into_response(),
    })
}

/// Takes note that a runner has said its last word.
pub(super) async fn call(request: Request) -> poem::Result<Response> {
    let engine: &Engine = request.data().expect("the router has it");
    let Some((submission, attempt)) = named(engine, &request) else {
        return Ok(Failure::not_found().into_response());
    };
    engine.handle.nudge(submission, attempt);
    Ok(poem::http::StatusCode::NO_CONTENT.into_response())
}

async fn find(request: &Request) -> Result<Vec<u8>, Failure> {
    let engine: &Engine = request.data().expect("the router has it");
    let (submission, attempt) = named(engine, request).ok_or_else(Failure::not_found)?;
    let found = engine.handle.request_in_flight(submission, attempt).await?;
    let request = found.ok_or_else(Failure::not_found)?;
    // Tens of milliseconds for the longest, in which others must be answered.
    let encoded = tokio::task::spawn_blocking(move || payload::encode(&request)).await;
    encoded.map_err(|_| Failure::internal())
}

/// The attempt that the path names, if its token is right.
fn named(engine: &Engine, request: &Request) -> Option<(SubmissionId, u32)> {
    let (submission, attempt, token): (String, String, String) = request.path_params().ok()?;
    let (submission, attempt) = (submission.parse().ok()?, attempt.parse().ok()?);
    engine.secret.admits(submission, attempt, &token).then_some((submission, attempt))
}
