//! The end of a child: nothing of it runs, and its job is gone.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::follow::Shared;
use crate::nomad::{Blocking, Client, JobStub, NomadError, Problem};

/// How long the end may take: `kill_timeout` and two ticks of reporting, or, for a node that died,
/// the 20 to 30 s until Nomad gives it up.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long one query waits.
const WAIT: Duration = Duration::from_secs(2);

/// Whether it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is left that runs.
    Over,
    /// It was told to stop, and had not by the deadline.
    StillRuns,
}

/// Stops and forgets a child, and waits until nothing of it runs. Idempotent; fine for jobs that
/// are not there.
///
/// # Errors
/// Nomad could not be asked; what was begun goes on.
pub(super) async fn end(shared: &Shared, job: &str) -> Result<End, NomadError> {
    let begun = Instant::now();
    let client = &shared.client;
    let evaluation = match purge(shared, job).await {
        Err(error) if error.problem() == Some(Problem::Forbidden) => {
            return if is_over(client, job).await? { Ok(End::Over) } else { Err(error) };
        }
        purged => purged?,
    };
    // A job's evaluations are worked off one at a time: when that of the stop is over, no earlier
    // one can still make an allocation.
    if let Some(id) = evaluation {
        let mut blocking = None;
        while let Some(answer) = client.evaluation(&id, blocking).await? {
            if answer.value.is_over() {
                break;
            }
            if begun.elapsed() > DEADLINE {
                return Ok(End::StillRuns);
            }
            blocking = Some(Blocking { index: answer.index, wait: WAIT });
        }
    }
    let mut blocking = None;
    loop {
        let answer = client.allocations(job, blocking).await?;
        if answer.value.iter().all(|allocation| allocation.is_over()) {
            return Ok(End::Over);
        }
        if begun.elapsed() > DEADLINE {
            return Ok(End::StillRuns);
        }
        blocking = Some(Blocking { index: answer.index, wait: WAIT });
    }
}

/// Has Nomad stop and forget a child, and remembers when our token may not.
///
/// # Errors
/// See [`Client::purge`].
pub(super) async fn purge(shared: &Shared, job: &str) -> Result<Option<String>, NomadError> {
    let purged = shared.client.purge(job).await;
    if purged.as_ref().is_err_and(|error| error.problem() == Some(Problem::Forbidden)) {
        shared.may_purge.store(false, Ordering::Relaxed);
    }
    purged
}

/// Whether nothing of a child runs or will run. All that is left to do with a token that may only
/// dispatch; Nomad forgets the child by itself in time.
async fn is_over(client: &Client, job: &str) -> Result<bool, NomadError> {
    let stubs = client.jobs(job).await?.value;
    Ok(stubs.iter().find(|stub| stub.id == job).is_none_or(JobStub::is_dead))
}
