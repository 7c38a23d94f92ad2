//! Children that nobody here waits for: of a dispatch that was carried out after it was given up, or of
//! a daemon whose database was put back.

use super::{NomadBackend, job};
use crate::{backend::Stray, nomad::NomadError, submission::Placement};

impl NomadBackend {
    /// The children of this daemon in Nomad that are not on the board.
    pub(super) async fn find_strays(&self) -> Result<Vec<Stray>, NomadError> {
        let listed = self.client.jobs(&self.job.child_prefix()).await?.value;
        let mut strays = Vec::new();
        for stub in listed {
            if self.shared.board.watch(&stub.id).is_some() {
                continue;
            }
            let Some(child) = self.client.job(&stub.id).await? else { continue };
            let meta = |key| child.meta.get(key).map(String::as_str);
            let submission = meta(job::META_SUBMISSION).and_then(|id| id.parse().ok());
            let attempt = meta(job::META_ATTEMPT).and_then(|attempt| attempt.parse().ok());
            // Without these it was not dispatched by a daemon.
            let (Some(submission), Some(attempt)) = (submission, attempt) else { continue };
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
