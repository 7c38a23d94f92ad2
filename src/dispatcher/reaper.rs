//! Sees to it that nothing is left behind: placements whose attempts are over, submissions that
//! waited too long, keys whose time is up.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{
    attempt::Left,
    core::{Core, Ended, Stopped},
    live::Permit,
};
use crate::{
    backend::BackendError,
    store::{Claim, Leftover, Overdue, Step, StoreError, Whereabouts},
    submission::{
        Fault, FaultKind, Outcome, StateName, SubmissionId, SubmissionRequest, Timestamp,
    },
};

/// Leftovers seen to in one round; the next round takes the next.
const LEFTOVERS: u32 = 256;

/// Leftovers seen to at once: a backend is asked over a network.
const AT_ONCE: usize = 8;

/// Overdue submissions ended in one round.
const OVERDUE: u32 = 256;

/// Removes what an attempt has left, which takes a place of those that the backend has until it is
/// vacated. What the backend cannot be asked about now is left to the rounds of the reaper.
pub(super) async fn clear_up(
    core: &Core,
    claim: &Claim,
    request: Result<SubmissionRequest, StoreError>,
    left: Left,
    permit: Permit,
) {
    let _place = match &left {
        Left::At(placement) => {
            let vacated = tokio::select! {
                biased;
                () = core.hard.cancelled() => return,
                vacated = core.backend.vacate(placement) => vacated,
            };
            (!vacated).then_some(permit)
        }
        _ => Some(permit),
    };
    let release = async {
        match left {
            // Kept whatever else happens: dropping it would end the program.
            Left::Running(execution) => {
                core.parked.keep(execution);
                None
            }
            Left::Settled => None,
            Left::Nowhere => Some(Ok(())),
            Left::At(placement) => Some(core.backend.release(&placement).await),
            Left::Unknown => Some(look_and_release(core, claim.id, claim.attempt, request).await),
        }
    };
    let cleared = tokio::select! {
        biased;
        cleared = release => cleared,
        () = core.hard.cancelled() => None,
    };
    match cleared {
        None => {}
        // Not on disk at once: forgetting twice is harmless.
        Some(Ok(())) => drop(core.store.forget(claim).await),
        Some(Err(error)) => still_there(core, claim.id, claim.attempt, error),
    }
}

/// Says, once for each, that a placement could not be cleared. It is kept.
fn still_there(core: &Core, id: SubmissionId, attempt: u32, BackendError(reason): BackendError) {
    let backend = core.backend.name();
    if core.stuck.is_news(id, attempt) {
        tracing::warn!(
            submission.id = %id, attempt, backend, reason,
            "a placement could not be cleared; trying again later"
        );
    } else {
        tracing::debug!(submission.id = %id, attempt, backend, reason, "a placement is still there");
    }
}

/// Releases an attempt of which it is not known whether it was placed.
async fn look_and_release(
    core: &Core,
    id: SubmissionId,
    attempt: u32,
    request: Result<SubmissionRequest, StoreError>,
) -> Result<(), BackendError> {
    let Ok(request) = core.execution_request(id, attempt, request, false, None) else {
        // Its language is not configured any more, say: nothing could be followed, but found it can be.
        return release_strays_of(core, id, attempt).await;
    };
    match core.backend.recover(request, None).await? {
        Some(execution) => {
            let placement = execution.placement.clone();
            drop(execution);
            core.backend.release(&placement).await
        }
        None => Ok(()),
    }
}

/// Releases what the backend has of an attempt that nobody here acts for.
async fn release_strays_of(
    core: &Core,
    id: SubmissionId,
    attempt: u32,
) -> Result<(), BackendError> {
    let strays = core.backend.strays().await?;
    for stray in strays.iter().filter(|each| (each.submission, each.attempt) == (id, attempt)) {
        core.backend.release(&stray.placement).await?;
    }
    Ok(())
}

/// Works until dropped.
pub(super) async fn run(core: &Core) -> Stopped {
    let mut reap = tokio::time::interval(core.settings.reap_every);
    let mut sweep = tokio::time::interval(core.settings.sweep_every);
    reap.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            _ = reap.tick() => reap_round(core).await,
            _ = sweep.tick() => sweep_round(core).await,
            () = core.hard.cancelled() => return Stopped,
        };
        match done {
            Ok(()) => {}
            Err(StoreError::Closed) => return Stopped,
            Err(error) => tracing::warn!(%error, "a round of the reaper failed"),
        }
    }
}

async fn reap_round(core: &Core) -> Result<(), StoreError> {
    core.store.expire(core.now()).await?;
    let leftovers = core.store.leftovers(LEFTOVERS).await?;
    stream::iter(leftovers)
        .filter(|leftover| std::future::ready(!core.live.is_busy(leftover.id, leftover.attempt)))
        .for_each_concurrent(AT_ONCE, |leftover| reap_one(core, leftover))
        .await;
    reap_strays(core).await
}

/// Releases what the backend has and no attempt answers for.
async fn reap_strays(core: &Core) -> Result<(), StoreError> {
    // Away or not, that is noticed and said elsewhere.
    let Ok(strays) = core.backend.strays().await else { return Ok(()) };
    for stray in strays {
        // Looked at after the backend has named it: the row is made before anything is placed.
        if core.store.is_placed(stray.submission, stray.attempt).await? {
            continue;
        }
        let (id, attempt, backend) = (stray.submission, stray.attempt, core.backend.name());
        match core.backend.release(&stray.placement).await {
            Ok(()) => {
                core.stuck.cleared(id, attempt);
                tracing::info!(
                    submission.id = %id, attempt, backend,
                    "ended a placement that nobody waited for"
                );
            }
            Err(error) => still_there(core, id, attempt, error),
        }
    }
    Ok(())
}

async fn reap_one(core: &Core, leftover: Leftover) {
    let released = match &leftover.place {
        Whereabouts::At(placement) => core.backend.release(placement).await,
        Whereabouts::Unknown(request) => {
            look_and_release(core, leftover.id, leftover.attempt, request.clone()).await
        }
    };
    match released {
        Ok(()) => {
            tracing::debug!(submission.id = %leftover.id, attempt = leftover.attempt, "reaped");
            core.stuck.cleared(leftover.id, leftover.attempt);
            drop(core.store.forget_leftover(&leftover).await);
        }
        Err(error) => still_there(core, leftover.id, leftover.attempt, error),
    }
}

async fn sweep_round(core: &Core) -> Result<(), StoreError> {
    let now = core.now();
    let counts = core.store.counts().await?;
    let count = |state| counts.iter().find(|(name, _)| *name == state).map_or(0, |(_, n)| *n);
    let queued = count(StateName::Queued);
    core.observer.queue_depth(queued);
    core.figures.seen(queued, count(StateName::Dispatching) + count(StateName::Running), now);
    let before =
        Timestamp::from_millis(now.as_millis() - core.settings.queue_timeout.as_millis() as i64);
    for overdue in core.store.overdue(before, OVERDUE).await? {
        end_overdue(core, &overdue).await?;
    }
    Ok(())
}

async fn end_overdue(core: &Core, overdue: &Overdue) -> Result<(), StoreError> {
    let at = core.now();
    let waited_for = overdue.waiting_for.clone().or_else(|| core.breaker.reason());
    let message = overdue_message(at.since(overdue.queued_at), waited_for.as_deref());
    let outcome = Outcome::Failed(Fault::new(FaultKind::QueueTimeout, message));
    if core.store.finish_overdue(overdue, outcome.clone(), at).await? == Step::Done {
        let (id, attempt, created_at) = (overdue.id, overdue.attempt, overdue.created_at);
        core.announce(&Ended { id, attempt, created_at, at, outcome: &outcome });
    }
    Ok(())
}

/// What a submission that waited too long is told.
pub(super) fn overdue_message(waited: Duration, waited_for: Option<&str>) -> String {
    let seconds = waited.as_secs();
    match waited_for {
        Some(reason) => format!("it waited {seconds} s: {reason}"),
        None => format!("it waited {seconds} s for a free place to run"),
    }
}
