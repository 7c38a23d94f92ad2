//! Step 5 in a cluster: the dispatch of one attempt.

use std::collections::BTreeMap;

use super::{NomadBackend, chain, job};
use crate::{
    backend::{Execution, StartError},
    nomad::{Dispatched, NomadError, Problem},
    protocol::{ExecutionRequest, payload},
};

/// What the payload of a dispatch may hold, in bytes before base64; Nomad 1.1 to 2.0
/// (`DispatchPayloadSizeLimit`).
pub const MAX_PAYLOAD_BYTES: usize = 16_384;

impl NomadBackend {
    /// Dispatches an attempt; see [`crate::backend::Backend::start`].
    pub(super) async fn place(&self, request: &ExecutionRequest) -> Result<Execution, StartError> {
        let payload = payload::encode(request);
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(StartError::Refused(format!(
                "the request is {} bytes when compressed, and Nomad takes {MAX_PAYLOAD_BYTES} at \
                 the most: its source and tests are too long for this backend",
                payload.len()
            )));
        }
        self.ensure_registered().await.map_err(|error| unavailable(&error))?;
        let child = match self.dispatch(request, &payload).await {
            Err(error) if error.problem() == Some(Problem::JobMissing) => {
                // Somebody purged it, or the cluster is a new one.
                *self.registered.lock().await = false;
                self.ensure_registered().await.map_err(|error| unavailable(&error))?;
                self.dispatch(request, &payload).await
            }
            other => other,
        };
        let Dispatched { job_id, evaluation_id } = child.map_err(start_error)?;
        Ok(self.follow(job_id, evaluation_id, None))
    }

    async fn dispatch(
        &self,
        request: &ExecutionRequest,
        payload: &[u8],
    ) -> Result<Dispatched, NomadError> {
        let meta = BTreeMap::from([
            (job::META_SUBMISSION, request.submission.to_string()),
            (job::META_ATTEMPT, request.attempt.to_string()),
        ]);
        let token = format!("{}-{}", request.submission, request.attempt);
        self.client.dispatch(&self.job.name, payload, &meta, Some(&token)).await
    }
}

/// Whether a dispatch that failed counts, and whether it may have been carried out.
fn start_error(error: NomadError) -> StartError {
    match error.problem() {
        Some(Problem::PayloadTooLarge | Problem::Malformed) => StartError::Refused(chain(&error)),
        _ if error.nothing_was_done() => unavailable(&error),
        _ => StartError::Ambiguous(chain(&error)),
    }
}

fn unavailable(error: &NomadError) -> StartError {
    StartError::Unavailable(chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> NomadError {
        let problem = Problem::classify(status, body);
        NomadError::Answered { status, body: body.to_owned(), problem }
    }

    #[test]
    fn a_failed_dispatch_counts_only_when_it_can_never_be_placed() {
        let refused = ["Payload exceeds maximum size; 20000 > 16384"];
        let later = [
            "Specified job \"braindrill-run\" is stopped",
            "Dispatch request included unpermitted metadata keys: [braindrill_attempt]",
            "rpc error: No cluster leader",
            "parameterized job not found",
            "rpc error: Permission denied",
        ];
        let unclear = ["leadership lost while committing log", "rpc error: EOF"];
        for body in refused {
            assert!(matches!(start_error(answered(500, body)), StartError::Refused(_)), "{body}");
        }
        for body in later {
            let error = start_error(answered(500, body));
            assert!(matches!(error, StartError::Unavailable(_)), "{body}");
        }
        for body in unclear {
            let error = start_error(answered(500, body));
            assert!(matches!(error, StartError::Ambiguous(_)), "{body}");
        }
    }
}
