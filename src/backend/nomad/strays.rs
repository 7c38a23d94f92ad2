//! Children that nobody here waits for: of a dispatch that was carried out after it was given up, or of
//! a daemon whose database was put back.

use super::NomadBackend;
use crate::{backend::Stray, nomad::NomadError, submission::Placement};

impl NomadBackend {
    /// The children of this daemon in Nomad that are not on the board.
    pub(super) async fn find_strays(&self) -> Result<Vec<Stray>, NomadError> {
        let mut strays = Vec::new();
        for id in self.children().await? {
            if self.shared.board.watch(&id).is_some() {
                continue;
            }
            let Some(child) = self.client.job(&id).await? else { continue };
            let Some((submission, attempt)) = self.job.attempt_of(&child) else { continue };
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
