//! What comes of an attempt: decided here, without I/O.

use crate::{
    protocol::ExecutionResult,
    store::Requeue,
    submission::{Fault, FaultKind, Outcome},
};

/// What is to be done with a submission after an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// It ends.
    Finish {
        /// How.
        outcome: Box<Outcome>,
        /// Why the attempt was lost, when that is what ends it.
        loss: Option<String>,
    },
    /// It waits again.
    Requeue(Requeue),
}

impl Next {
    /// It ends through us.
    pub(super) fn finish(fault: Fault) -> Next {
        Next::Finish { outcome: Box::new(Outcome::Failed(fault)), loss: None }
    }
}

/// What a runner's last word means.
pub(super) fn of_result(result: ExecutionResult, losses: &[String], most: usize) -> Next {
    match result {
        ExecutionResult::Report(report) => {
            Next::Finish { outcome: Box::new(Outcome::Judged(report)), loss: None }
        }
        ExecutionResult::Fault(fault) if fault.kind.is_retryable() => {
            of_loss(fault.message, losses, most)
        }
        ExecutionResult::Fault(fault) => Next::finish(fault),
    }
}

/// What a lost attempt means after `losses` earlier ones, when `most` end a submission.
pub(super) fn of_loss(reason: String, losses: &[String], most: usize) -> Next {
    if losses.len() + 1 < most {
        return Next::Requeue(Requeue::Lost { reason });
    }
    let reasons = losses.iter().chain([&reason]).enumerate();
    let reasons: Vec<_> =
        reasons.map(|(index, reason)| format!("({}) {reason}", index + 1)).collect();
    let message = format!("{} attempts were lost: {}", reasons.len(), reasons.join("; "));
    let fault = Fault::new(FaultKind::AttemptsExhausted, message);
    Next::Finish { outcome: Box::new(Outcome::Failed(fault)), loss: Some(reason) }
}

/// What a restart of the daemon means after `restarts` earlier ones, when `most` end a submission.
pub(super) fn of_restart(restarts: u32, most: u32) -> Next {
    if restarts + 1 < most {
        return Next::Requeue(Requeue::Restarted);
    }
    let message = format!("the service restarted {most} times while this was being run");
    Next::finish(Fault::new(FaultKind::RestartsExhausted, message))
}
