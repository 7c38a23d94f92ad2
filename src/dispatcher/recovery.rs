//! Takes up what an earlier process of the daemon was doing when it ended.

use std::sync::Arc;

use super::{
    attempt::{self, Left, Resume},
    core::{Core, Stopped},
    live::{Busy, Permit},
    outcome::{self, Next},
    reaper,
};
use crate::store::{Claimed, Interrupted};

/// One attempt of an earlier process: goes on with it where the backend still has it, else
/// has it made anew, and counts the restart.
pub(super) async fn resume(core: Arc<Core>, interrupted: Interrupted, permit: Permit, _busy: Busy) {
    let Interrupted { claimed: Claimed { claim, request }, placement, next_seq, started } =
        interrupted;
    let (id, attempt, owner) = (claim.id, claim.attempt, Some(&claim.owner));
    let left = match core.execution_request(id, attempt, request.clone(), false, owner) {
        Ok(execution_request) => {
            match core.find(&execution_request, placement.clone(), permit.cancelled()).await {
                Ok(Some(execution)) => {
                    tracing::info!(
                        submission.id = %claim.id, attempt = claim.attempt,
                        backend = core.backend.name(), "attempt taken up again after a restart"
                    );
                    let placed = placement.is_some();
                    let resume = Resume { next_seq, started, placed };
                    let request = &execution_request;
                    attempt::see_through(&core, &claim, request, execution, &permit, resume).await
                }
                Ok(None) => {
                    let next = outcome::of_restart(claim.restarts, core.settings.max_restarts);
                    attempt::conclude(&core, &claim, next, Vec::new(), Left::Nowhere).await
                }
                Err(Stopped) if core.hard.is_cancelled() => Left::Settled,
                Err(Stopped) => placement.map_or(Left::Unknown, Left::At),
            }
        }
        // The backend cannot be asked for a result.
        Err(missing) => {
            let next = Next::finish(missing.fault());
            let left = placement.map_or(Left::Unknown, Left::At);
            attempt::conclude(&core, &claim, next, Vec::new(), left).await
        }
    };
    reaper::clear_up(&core, &claim, request, left, permit).await;
}
