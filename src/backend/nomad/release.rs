//! The end of a placement: nothing of the child runs, and Nomad has forgotten it.

use std::time::Duration;

use super::{NomadBackend, backend_error, ending};
use crate::{backend::BackendError, nomad::Problem};

/// How long the end of a runner that has said its last word may take to be seen. It ends by itself at
/// once, and from 1.6 on Nomad reports the end of a short task after up to a second.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(3);

impl NomadBackend {
    /// Has Nomad forget a child whose runner has said its last word, whether Nomad has seen the end of
    /// it or not; says whether it did. The runner says that when its program and its jail are gone, and
    /// ends by itself.
    pub(super) async fn give_up_place(&self, job_id: &str) -> bool {
        let Some(child) = self.shared.board.watch(job_id) else { return false };
        let (ended, finished) = {
            let child = child.borrow();
            (child.has_ended_by_itself(), child.finished && !child.gone)
        };
        if ended || !finished {
            return ended;
        }
        // Whatever keeps us from it now, the release tries again and says so.
        let purged = ending::purge(&self.shared, job_id).await.is_ok();
        if purged {
            self.shared.board.note_purged(job_id);
        }
        purged
    }

    /// Ends a child in whatever state, and takes it off the board.
    pub(super) async fn let_go(&self, job_id: &str) -> Result<(), BackendError> {
        let board = &self.shared.board;
        if self.stops_by_itself(job_id).await {
            board.remove(job_id);
            return Ok(());
        }
        if self.has_ended_by_itself(job_id).await {
            // Nothing of it is left that the purge could have to wait for.
            match ending::purge(&self.shared, job_id).await {
                Ok(_) => {}
                // Nomad forgets it by itself in time.
                Err(error) if error.problem() == Some(Problem::Forbidden) => {}
                Err(error) => return Err(backend_error(error)),
            }
        } else if let ending::End::StillRuns =
            ending::end(&self.shared, job_id).await.map_err(backend_error)?
        {
            return Err(BackendError(format!(
                "the Nomad job {job_id} was stopped, and its allocation runs on"
            )));
        }
        board.remove(job_id);
        Ok(())
    }

    /// Whether a child that was purged is seen to have stopped before long.
    async fn stops_by_itself(&self, job_id: &str) -> bool {
        let Some(mut child) = self.shared.board.watch(job_id) else { return false };
        if !child.borrow().purged {
            return false;
        }
        let stopped = child.wait_for(|child| child.has_stopped());
        matches!(tokio::time::timeout(ENDS_BY_ITSELF, stopped).await, Ok(Ok(_)))
    }

    /// Whether its runner is known to have ended, without having been told to; waits for that where
    /// it is about to.
    async fn has_ended_by_itself(&self, job_id: &str) -> bool {
        let Some(mut child) = self.shared.board.watch(job_id) else { return false };
        if child.borrow().finished {
            // A purge of what still runs would cost Nomad the trouble of ending it.
            let over = child.wait_for(|child| child.is_over());
            let _ = tokio::time::timeout(ENDS_BY_ITSELF, over).await;
        }
        child.borrow().has_ended_by_itself()
    }
}
