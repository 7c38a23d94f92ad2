//! The log of an allocation that is over: read until it shows the end of the run, or until it is clear
//! that it never will.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    follow::Stop,
    reader::{Reader, Reading, Unread},
    sentences,
};
use crate::{error_chain::error_chain, nomad::Allocation};

/// Of a child that somebody else ended.
pub(super) const REMOVED: &str = "its job was removed from Nomad";

/// From the first failed reading of a log that is whole to the next, doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between such readings.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long the log of an allocation that is over may be unreadable, while Nomad itself answers,
/// before the attempt is given up: its node may be rebooting.
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// Passes on what an allocation that is over has said; `gone`: Nomad has forgotten its job.
///
/// # Errors
/// Why there is no result.
pub(super) async fn read_to_the_end(
    reader: &mut Reader,
    allocation: &Allocation,
    gone: bool,
) -> Result<(), Stop> {
    let job_id = &allocation.job_id;
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    let incomplete = loop {
        match reader.read_once(allocation).await {
            Ok(Reading::Finished) => return Ok(()),
            Ok(Reading::Incomplete(what)) => break what,
            Err(Unread::Unwanted) => return Err(Stop::Unwanted),
            Err(Unread::Nomad(error)) => {
                let nomad_answers = error.problem().is_some();
                if gone || nomad_answers && begun.elapsed() > READ_DEADLINE {
                    break "its log cannot be read from its node";
                }
                let reason = error_chain(&error);
                debug!(nomad.job_id = job_id, reason, "a log cannot be read yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    };
    warn!(
        nomad.job_id = job_id,
        alloc.id = allocation.id,
        reason = incomplete,
        nomad.events = sentences::details(allocation),
        "an allocation ended without a result"
    );
    Err(Stop::Lost(if allocation.is_over() {
        sentences::lost(allocation)
    } else {
        REMOVED.to_owned()
    }))
}
