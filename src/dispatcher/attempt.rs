//! Steps 5 to 9: one attempt, from its claim to its end.

use std::{sync::Arc, time::Duration};

use super::{
    backoff,
    core::{Core, Ended, Missing, Stopped},
    follow::{Follow, follow},
    live::{Busy, Permit},
    outcome::{self, Losses, Next},
    reaper,
};
use crate::{
    backend::{Execution, StartError},
    protocol::{ExecutionRequest, ExecutionResult},
    store::{Claim, Claimed, Finish, NewEvent, Requeue, Step},
    submission::{Fault, FaultKind, Placement, Timestamp},
};

/// A disk that was full is not looked at again sooner than after so many tries.
const NO_ROOM_TRIES: u32 = 2;

/// How long a start may take that nobody wants any more: longer than a call of a cluster takes.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// How an attempt was left.
pub(super) enum Left {
    /// Something of it may still be at this place.
    At(Placement),
    /// It is not known whether something of it is anywhere.
    Unknown,
    /// Nothing of it is anywhere.
    Nowhere,
    /// As it is, for the next process.
    Running(Execution),
    /// Nothing is to be done about it.
    Settled,
}

/// How far the events of an attempt have been stored already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Resume {
    /// The runner's number of the next.
    pub(super) next_seq: u64,
    /// Whether the runner had begun.
    pub(super) started: bool,
    /// Whether its placement is saved.
    pub(super) placed: bool,
}

/// One attempt at a submission. Whatever happens, the submission is then finished, queued again, or
/// ended by its user before; and what was placed is gone, or will be seen to by the reaper.
pub(super) async fn attempt(core: Arc<Core>, claimed: Claimed, permit: Permit, _busy: Busy) {
    let Claimed { claim, request } = claimed;
    let (id, attempt, owner) = (claim.id, claim.attempt, Some(&claim.owner));
    let left = match core.execution_request(id, attempt, request.clone(), true, owner) {
        Ok(request) => begin(&core, &claim, request, &permit).await,
        Err(Missing::Language(waiting_for)) => away(&core, &claim, waiting_for).await,
        Err(missing @ Missing::Request) => {
            let next = Next::finish(missing.fault());
            conclude(&core, &claim, next, Vec::new(), Left::Nowhere).await
        }
    };
    reaper::clear_up(&core, &claim, request, left, permit).await;
}

/// Has the backend place the attempt, and sees it through.
async fn begin(
    core: &Core,
    claim: &Claim,
    request: Arc<ExecutionRequest>,
    permit: &Permit,
) -> Left {
    let mut starting = core.backend.start(request.clone());
    let started = tokio::select! {
        biased;
        () = core.hard.cancelled() => return Left::Settled,
        () = permit.cancelled().cancelled() => return give_up(core, starting).await,
        started = &mut starting => started,
    };
    let execution = match started {
        Ok(execution) => execution,
        Err(StartError::Unavailable(reason)) => {
            core.observer.backend_unavailable();
            core.backend_away(claim.id, &reason);
            return away(core, claim, reason).await;
        }
        Err(StartError::NoPlace(reason)) => return away(core, claim, reason).await,
        Err(StartError::Ambiguous(reason)) => {
            core.observer.backend_unavailable();
            core.backend_away(claim.id, &reason);
            match core.find(&request, None, permit.cancelled()).await {
                Ok(Some(execution)) => execution,
                Ok(None) => return vanished(core, claim, reason).await,
                Err(Stopped) if core.hard.is_cancelled() => return Left::Settled,
                Err(Stopped) => return Left::Unknown,
            }
        }
        Err(StartError::Refused(reason)) => {
            let fault = Fault::new(FaultKind::Internal, reason);
            return conclude(core, claim, Next::finish(fault), Vec::new(), Left::Nowhere).await;
        }
    };
    core.backend_takes_work();
    core.observer.started(&request.language.id, core.now().since(claim.created_at));
    see_through(core, claim, &request, execution, permit, Resume::default()).await
}

/// Gives up a start that may be under way: what would come of it after it was looked for would run with
/// nobody to stop it. So its end is waited for.
async fn give_up(
    core: &Core,
    starting: impl Future<Output = Result<Execution, StartError>>,
) -> Left {
    let started = tokio::select! {
        biased;
        () = core.hard.cancelled() => return Left::Settled,
        started = tokio::time::timeout(START_PATIENCE, starting) => started,
    };
    match started {
        Ok(Ok(execution)) => Left::At(execution.placement),
        Ok(Err(StartError::Unavailable(_) | StartError::NoPlace(_) | StartError::Refused(_))) => {
            Left::Nowhere
        }
        Ok(Err(StartError::Ambiguous(_))) | Err(_) => Left::Unknown,
    }
}

/// Follows a placed attempt to its end and stores what came of it.
pub(super) async fn see_through(
    core: &Core,
    claim: &Claim,
    request: &ExecutionRequest,
    mut execution: Execution,
    permit: &Permit,
    resume: Resume,
) -> Left {
    let lead = core.attached.lead(claim.id, execution.input.take(), core.settings.unattached);
    let followed = tokio::select! {
        followed = follow(core, claim, request, &mut execution, permit.cancelled(), resume) => followed,
        never = lead => match never {},
    };
    let Execution { placement, events, input } = execution;
    if let Follow::Finished { .. } = followed
        && core.backend.is_free_when_finished(&placement)
    {
        permit.give_place_back();
    }
    let losses = Losses {
        earlier: &claim.losses,
        most: core.settings.max_lost_attempts,
        again: after_loss(core, claim),
    };
    let (next, unstored) = match followed {
        Follow::Finished { result, events } if is_no_room(&result) => {
            // A placed attempt begins to count anew, and each of these compiles once more.
            let tries = claim.tries.max(NO_ROOM_TRIES);
            let not_before = core.now().after(backoff::wait(&core.settings, claim.id, tries));
            let waiting_for = "room for compiled programs on the disk where it runs".to_owned();
            (Next::Requeue(Requeue::NoRoom { waiting_for, not_before }), events)
        }
        Follow::Finished { result, events } => {
            (outcome::of_result(*result, &placement, losses), events)
        }
        Follow::Lost(reason) => (outcome::of_loss(reason, losses), Vec::new()),
        Follow::Overdue(reason) => {
            (Next::finish(Fault::new(FaultKind::QueueTimeout, reason)), Vec::new())
        }
        Follow::Cancelled => return Left::At(placement),
        Follow::Stopped => return Left::Running(Execution { placement, events, input }),
    };
    // Tells the backend that nothing more is wanted of it.
    drop(events);
    conclude(core, claim, next, unstored, Left::At(placement)).await
}

fn is_no_room(result: &ExecutionResult) -> bool {
    matches!(result, ExecutionResult::Fault(fault) if fault.kind == FaultKind::NoRoom)
}

/// Stores what comes of an attempt. A conflict means that its user has ended it: nothing is to do.
pub(super) async fn conclude(
    core: &Core,
    claim: &Claim,
    next: Next,
    events: Vec<NewEvent>,
    left: Left,
) -> Left {
    let at = core.now();
    let written = match next {
        Next::Requeue(why) => {
            if matches!(why, Requeue::Lost { .. }) {
                core.observer.attempt_lost();
            }
            let step = core.requeue(claim, why, at).await;
            if let (Ok(Step::Done), Left::Nowhere) = (&step, &left) {
                // Forgotten with the requeue. The attempt's number may be given again by now.
                return Left::Settled;
            }
            step
        }
        Next::Finish { outcome, loss } => {
            if loss.is_some() {
                core.observer.attempt_lost();
            }
            let finish = Finish { outcome: *outcome, events, loss, at };
            let step = core.finish(claim, &finish).await;
            if let Ok(Step::Done) = step {
                let (id, attempt) = (claim.id, claim.attempt);
                let (created_at, outcome) = (claim.created_at, &finish.outcome);
                core.announce(&Ended { id, attempt, created_at, at, outcome });
            }
            step
        }
    };
    match written {
        Ok(_) => left,
        Err(Stopped) => Left::Settled,
    }
}

/// When to try again if this attempt is lost: at once after the first loss, which is mostly one
/// worker's or one helper's; later after a wait, since what is in trouble needs time.
fn after_loss(core: &Core, claim: &Claim) -> Option<Timestamp> {
    let earlier = claim.losses.len().checked_sub(1)? as u32;
    Some(core.now().after(backoff::wait(&core.settings, claim.id, earlier)))
}

/// The backend could not be had: back to the queue, and the attempt never was.
async fn away(core: &Core, claim: &Claim, waiting_for: String) -> Left {
    let not_before = core.now().after(backoff::wait(&core.settings, claim.id, claim.tries));
    let why = Requeue::Away { waiting_for, not_before };
    conclude(core, claim, Next::Requeue(why), Vec::new(), Left::Nowhere).await
}

/// The backend did not say whether it placed the attempt, and then did not have it.
async fn vanished(core: &Core, claim: &Claim, waiting_for: String) -> Left {
    let not_before = core.now().after(backoff::wait(&core.settings, claim.id, claim.tries));
    let why = Requeue::Vanished { waiting_for, not_before };
    conclude(core, claim, Next::Requeue(why), Vec::new(), Left::Nowhere).await
}
