//! Finding children again: by the saved placement, or by their meta.

use super::{NomadBackend, calls::Of, ending};
use crate::{
    backend::Execution,
    nomad::{Allocation, JobStub, NomadError},
    protocol::ExecutionRequest,
    submission::Placement,
};

impl NomadBackend {
    /// The child of this attempt, if there is one that can still give a result; followed from its
    /// first event.
    pub(super) async fn find_again(
        &self,
        request: &ExecutionRequest,
        placement: Option<Placement>,
    ) -> Result<Option<Execution>, NomadError> {
        let of = (request.submission, request.attempt);
        match placement {
            Some(Placement::Nomad { job_id, evaluation_id, allocation_id, .. }) => {
                self.take_up(of, job_id, Some(evaluation_id), allocation_id).await
            }
            Some(Placement::Local | Placement::Pool { .. }) => Ok(None),
            None => {
                let mut children = self.children_of(request).await?;
                let newest = children.pop();
                // An attempt has one child, unless a dispatch of which the answer was lost was
                // carried out after all.
                for extra in children {
                    ending::end(&self.shared, &extra).await?;
                }
                match newest {
                    Some(job_id) => self.take_up(of, job_id, None, None).await,
                    None => Ok(None),
                }
            }
        }
    }

    /// The children of an attempt, oldest first.
    async fn children_of(&self, request: &ExecutionRequest) -> Result<Vec<String>, NomadError> {
        let wanted = Some((request.submission, request.attempt));
        let (job, mut found) = (self.job(), Vec::new());
        for stub in self.children().await? {
            let Some(child) = self.client.job(&stub.id).await? else { continue };
            if job.attempt_of(&child) == wanted {
                found.push((child.create_index, child.id));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// All children that Nomad has; with a shared job, those of other daemons too.
    pub(super) async fn children(&self) -> Result<Vec<JobStub>, NomadError> {
        let mut stubs = Vec::new();
        for prefix in self.job().child_prefixes() {
            stubs.extend(self.client.jobs(&prefix).await?.value);
        }
        Ok(stubs)
    }

    /// Follows a child that was dispatched before, if it can still give a result. Not when Nomad has
    /// replaced the allocation that was followed: what was stored of it may be half a run.
    async fn take_up(
        &self,
        of: Of,
        job_id: String,
        evaluation_id: Option<String>,
        followed: Option<String>,
    ) -> Result<Option<Execution>, NomadError> {
        let allocations = self.client.allocations(&job_id, None).await?.value;
        if let Some(allocation) = newest(allocations) {
            if followed.is_some_and(|followed| followed != allocation.id) {
                ending::end(&self.shared, &job_id).await?;
                return Ok(None);
            }
            let evaluation_id = match evaluation_id {
                Some(id) => id,
                None => self.first_evaluation(&job_id).await?.unwrap_or_default(),
            };
            return Ok(Some(self.follow(of, job_id, evaluation_id, Some(allocation))));
        }
        let waits = self.client.job(&job_id).await?.is_some_and(|job| !job.stop);
        match self.first_evaluation(&job_id).await? {
            Some(id) if waits => Ok(Some(self.follow(of, job_id, id, None))),
            _ => {
                // Gone, or without an evaluation: before 1.10.5 a server that fails between the two
                // writes of a dispatch leaves a child that is never scheduled.
                ending::end(&self.shared, &job_id).await?;
                Ok(None)
            }
        }
    }

    async fn first_evaluation(&self, job_id: &str) -> Result<Option<String>, NomadError> {
        let evaluations = self.client.evaluations(job_id).await?;
        Ok(evaluations.into_iter().min_by_key(|each| each.create_index).map(|each| each.id))
    }
}

/// The allocation that counts: Nomad replaces one that was lost.
fn newest(allocations: Vec<Allocation>) -> Option<Allocation> {
    allocations.into_iter().max_by_key(|each| each.create_index)
}
