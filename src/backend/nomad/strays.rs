//! Children that nobody here waits for: of a dispatch that was carried out after it was given up, or of
//! a daemon whose database was put back.

use std::sync::atomic::Ordering;

use super::NomadBackend;
use crate::{backend::Stray, nomad::NomadError, submission::Placement};

impl NomadBackend {
    /// The children of this daemon in Nomad that are not on the board.
    pub(super) async fn find_strays(&self) -> Result<Vec<Stray>, NomadError> {
        let (job, mut strays) = (self.job(), Vec::new());
        let may_purge = self.shared.may_purge.load(Ordering::Relaxed);
        for stub in self.children().await? {
            // Those that are over and that we may not have forgotten are Nomad's to collect.
            let is_settled = stub.is_dead() && !may_purge;
            if is_settled || self.shared.board.watch(&stub.id).is_some() {
                continue;
            }
            let Some(child) = self.client.job(&stub.id).await? else { continue };
            let Some((submission, attempt)) = job.attempt_of(&child) else { continue };
            let placement = Placement::Nomad {
                job_id: child.id,
                evaluation_id: String::new(),
                allocation_id: None,
                node_id: None,
            };
            strays.push(Stray { submission, attempt, placement });
        }
        Ok(strays)
    }
}
