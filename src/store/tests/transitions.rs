//! Each transition has one twin in SQL: whatever is tried, in whatever order, both agree.

use proptest::{collection::vec, prelude::*};

use super::{at, insert, open};
use crate::{
    store::{Cancelled, Claim, Finish, Requeue, Step, Store},
    submission::{Fault, FaultKind, Lease, Outcome, Placement, State, StateName, Submission},
};

#[derive(Debug, Clone)]
enum Try {
    Claim,
    Place { stale: bool },
    Away { stale: bool },
    Vanished { stale: bool },
    NoRoom { stale: bool },
    Lost { stale: bool },
    Restarted { stale: bool },
    Finish { stale: bool },
    Cancel,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let stale = || prop::bool::weighted(0.2);
    vec(
        prop_oneof![
            4 => Just(Try::Claim),
            3 => stale().prop_map(|stale| Try::Place { stale }),
            1 => stale().prop_map(|stale| Try::Away { stale }),
            1 => stale().prop_map(|stale| Try::Vanished { stale }),
            1 => stale().prop_map(|stale| Try::NoRoom { stale }),
            1 => stale().prop_map(|stale| Try::Lost { stale }),
            1 => stale().prop_map(|stale| Try::Restarted { stale }),
            1 => stale().prop_map(|stale| Try::Finish { stale }),
            1 => Just(Try::Cancel),
        ],
        1..20,
    )
}

/// What the pure states say, beside the store.
struct Model {
    state: State,
    attempt: u32,
    lost: usize,
    restarts: u32,
}

fn outcome() -> Outcome {
    Outcome::Failed(Fault::new(FaultKind::Internal, "for the test"))
}

/// The pure step, when the claim is the current one.
fn step(model: &mut Model, current: bool, next: impl FnOnce(State) -> Option<State>) -> Step {
    if !current {
        return Step::Conflict;
    }
    match next(model.state.clone()) {
        Some(state) => {
            model.state = state;
            Step::Done
        }
        None => Step::Conflict,
    }
}

async fn run(tries: Vec<Try>) -> Result<(), TestCaseError> {
    let (_folder, store) = open().await;
    let submission = insert(&store).await;
    let mut model = Model { state: State::Queued, attempt: 0, lost: 0, restarts: 0 };
    let mut claims: Vec<Claim> = Vec::new();
    for (number, tried) in tries.into_iter().enumerate() {
        let now = at(10 + number as i64);
        check_one(&store, &submission, &mut model, &mut claims, tried, now).await?;
        let found = store.get(&submission.owner, submission.id).await.unwrap().unwrap().0;
        prop_assert_eq!(found.state.name(), model.state.name());
        prop_assert_eq!(found.attempt, model.attempt);
        let counts = store.counts().await.unwrap();
        for (state, n) in counts {
            prop_assert_eq!(n, u64::from(state == model.state.name()));
        }
    }
    let events: i64 =
        super::count(&store, "SELECT count(*) FROM events WHERE kind = 'finished'").await;
    prop_assert_eq!(events, i64::from(model.state.name() == StateName::Finished));
    store.close().await;
    Ok(())
}

async fn check_one(
    store: &Store,
    submission: &Submission,
    model: &mut Model,
    claims: &mut Vec<Claim>,
    tried: Try,
    now: crate::submission::Timestamp,
) -> Result<(), TestCaseError> {
    // A stale claim is an earlier one; the current one is the last while it is in flight.
    let in_flight = matches!(model.state, State::Dispatching { .. } | State::Running { .. });
    let pick = |stale: bool| -> Option<(Claim, bool)> {
        let index =
            if stale { claims.len().checked_sub(2)? } else { claims.len().checked_sub(1)? };
        Some((claims[index].clone(), !stale && in_flight))
    };
    let requeue =
        |why: Requeue, stale: bool| pick(stale).map(|(claim, current)| (claim, current, why));
    let (waiting_for, not_before) = ("it".to_owned(), at(0));
    let (claim, current, why) = match tried {
        Try::Claim => {
            let claimed = store.claim_next(1, now).await.unwrap();
            match model.state.clone().claim(model.attempt + 1, Lease(0)) {
                Ok(state) => {
                    prop_assert_eq!(claimed.len(), 1);
                    model.state = state;
                    model.attempt += 1;
                    let claim = claimed[0].claim.clone();
                    prop_assert_eq!(claim.attempt, model.attempt);
                    prop_assert_eq!(claim.losses.len(), model.lost);
                    prop_assert_eq!(claim.restarts, model.restarts);
                    claims.push(claim);
                }
                Err(_) => prop_assert!(claimed.is_empty()),
            }
            return Ok(());
        }
        Try::Place { stale } => {
            let Some((claim, current)) = pick(stale) else { return Ok(()) };
            let expected = step(model, current, |state| state.place(Placement::Local).ok());
            let mut placed = store.place(&claim, &Placement::Local, now).await.unwrap();
            prop_assert_eq!(placed.done().await, Ok(expected));
            return Ok(());
        }
        Try::Finish { stale } => {
            let Some((claim, current)) = pick(stale) else { return Ok(()) };
            let expected = step(model, current, |state| state.finish(outcome(), now).ok());
            let finish = Finish { outcome: outcome(), events: Vec::new(), loss: None, at: now };
            prop_assert_eq!(store.finish(&claim, finish).await, Ok(expected));
            return Ok(());
        }
        Try::Cancel => {
            let expected = step(model, true, |state| state.finish(Outcome::Cancelled, now).ok());
            let cancelled = store.cancel(&submission.owner, submission.id, now).await.unwrap();
            let done = matches!(cancelled, Cancelled::Now { .. });
            prop_assert_eq!(done, expected == Step::Done);
            prop_assert_eq!(!done, cancelled == Cancelled::Before);
            return Ok(());
        }
        Try::Away { stale } => match requeue(Requeue::Away { waiting_for, not_before }, stale) {
            Some(requeue) => requeue,
            None => return Ok(()),
        },
        Try::Vanished { stale } => {
            match requeue(Requeue::Vanished { waiting_for, not_before }, stale) {
                Some(requeue) => requeue,
                None => return Ok(()),
            }
        }
        Try::NoRoom { stale } => {
            match requeue(Requeue::NoRoom { waiting_for, not_before }, stale) {
                Some(requeue) => requeue,
                None => return Ok(()),
            }
        }
        Try::Lost { stale } => {
            match requeue(Requeue::Lost { reason: "r".to_owned(), not_before: None }, stale) {
                Some(requeue) => requeue,
                None => return Ok(()),
            }
        }
        Try::Restarted { stale } => match requeue(Requeue::Restarted, stale) {
            Some(requeue) => requeue,
            None => return Ok(()),
        },
    };
    let expected = step(model, current, |state| state.requeue().ok());
    prop_assert_eq!(store.requeue(&claim, why.clone(), now).await, Ok(expected));
    if expected == Step::Done {
        match why {
            Requeue::Away { .. } => model.attempt -= 1,
            Requeue::Vanished { .. } | Requeue::NoRoom { .. } => {}
            Requeue::Lost { .. } => model.lost += 1,
            Requeue::Restarted => model.restarts += 1,
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_and_the_pure_states_agree(tries in tries()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(tries))?;
    }
}
