//! What comes of an attempt: decided here, without I/O.

use crate::{
    protocol::ExecutionResult,
    store::Requeue,
    submission::{Fault, FaultKind, Outcome, Placement, Timestamp},
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

/// What is known of a submission when an attempt at it is lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses<'a> {
    /// Why earlier attempts were lost, oldest first.
    pub(super) earlier: &'a [String],
    /// How many end it.
    pub(super) most: usize,
    /// When it is to be tried again; `None`: at once.
    pub(super) again: Option<Timestamp>,
}

/// Of an id, as much as Nomad's own command shows.
const SHORT_ID: usize = 8;

/// What the last word of a runner at this place means.
pub(super) fn of_result(result: ExecutionResult, place: &Placement, losses: Losses<'_>) -> Next {
    match result {
        ExecutionResult::Report(report) => {
            Next::Finish { outcome: Box::new(Outcome::Judged(report)), loss: None }
        }
        ExecutionResult::Fault(fault) if fault.kind.is_retryable() => {
            let reason = match place {
                // It may be the only one of its kind.
                Placement::Nomad { node_id: Some(node), .. } => {
                    let node = node.get(..SHORT_ID).unwrap_or(node);
                    format!("node {node}: {}", fault.message)
                }
                Placement::Pool { worker_id, .. } => {
                    format!("worker {worker_id}: {}", fault.message)
                }
                _ => fault.message,
            };
            of_loss(reason, losses)
        }
        ExecutionResult::Fault(fault) => Next::finish(fault),
    }
}

/// What a lost attempt means.
pub(super) fn of_loss(reason: String, losses: Losses<'_>) -> Next {
    if losses.earlier.len() + 1 < losses.most {
        return Next::Requeue(Requeue::Lost { reason, not_before: losses.again });
    }
    let reasons = losses.earlier.iter().chain([&reason]).enumerate();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(next: Next) -> (Fault, Option<String>) {
        match next {
            Next::Finish { outcome, loss } => match *outcome {
                Outcome::Failed(fault) => (fault, loss),
                other => panic!("{other:?}"),
            },
            other @ Next::Requeue(_) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_loss_allowed_ends_a_submission_with_all_reasons() {
        let losses = ["first".to_owned(), "second".to_owned()];
        let again = Some(Timestamp::from_millis(7));
        let lost =
            |earlier: &[String]| of_loss("third".to_owned(), Losses { earlier, most: 3, again });
        let requeue =
            Next::Requeue(Requeue::Lost { reason: "third".to_owned(), not_before: again });
        assert_eq!((lost(&[]), lost(&losses[..1])), (requeue.clone(), requeue));
        let (fault, loss) = fault(lost(&losses));
        assert_eq!(fault.kind, FaultKind::AttemptsExhausted);
        assert_eq!(fault.message, "3 attempts were lost: (1) first; (2) second; (3) third");
        assert_eq!(loss.as_deref(), Some("third"));
    }

    #[test]
    fn the_tenth_restart_ends_a_submission() {
        assert_eq!(of_restart(8, 10), Next::Requeue(Requeue::Restarted));
        assert_eq!(fault(of_restart(9, 10)).0.kind, FaultKind::RestartsExhausted);
    }

    #[test]
    fn a_fault_counts_as_a_loss_only_where_another_attempt_may_help() {
        for kind in [
            FaultKind::Sandbox,
            FaultKind::ToolChainMissing,
            FaultKind::CheckerFailed,
            FaultKind::Internal,
        ] {
            let losses = Losses { earlier: &[], most: 3, again: None };
            let fault = ExecutionResult::Fault(Fault::new(kind, "why"));
            let next = of_result(fault, &Placement::Local, losses);
            assert_eq!(matches!(next, Next::Requeue(_)), kind.is_retryable(), "{kind}");
        }
    }

    #[test]
    fn a_fault_of_a_node_names_it() {
        let place = Placement::Nomad {
            job_id: "job".to_owned(),
            evaluation_id: "evaluation".to_owned(),
            allocation_id: Some("allocation".to_owned()),
            node_id: Some("5ea6feab-58af-0fc9-eca1-83b94384010d".to_owned()),
        };
        let losses = Losses { earlier: &[], most: 3, again: None };
        let missing = Fault::new(FaultKind::ToolChainMissing, "gcc is not there");
        let next = of_result(ExecutionResult::Fault(missing), &place, losses);
        let reason = "node 5ea6feab: gcc is not there".to_owned();
        assert_eq!(next, Next::Requeue(Requeue::Lost { reason, not_before: None }));
    }
}
