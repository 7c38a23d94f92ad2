//! Jobs: register, dispatch, watch, end.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use super::{
    Allocation, Blocking, Client, Dispatched, Evaluation, Indexed, Job, JobStub, NomadError,
    Problem,
};

/// What stopping a job answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deregistered {
    #[serde(rename = "EvalID", default)]
    evaluation_id: Option<String>,
}

/// Stands in the id of a child between the id of its job and what tells it from others; Nomad's
/// `DispatchLaunchSuffix`.
const DISPATCH: &str = "/dispatch-";

/// What the ids of all children of a job begin with.
pub fn child_prefix(job: &str) -> String {
    format!("{job}{DISPATCH}")
}

/// What the ids of a child and of all others of its job begin with; the whole id where it is no child's.
pub fn prefix_of_child(id: &str) -> &str {
    id.rfind(DISPATCH).map_or(id, |at| &id[..at + DISPATCH.len()])
}

impl Client {
    /// A job file as the JSON that [`Client::register`] takes, defaults filled in.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn parse_job(&self, hcl: &str) -> Result<serde_json::Value, NomadError> {
        let body = json!({ "JobHCL": hcl, "Canonicalize": true });
        let request = self.request(Method::POST, &["jobs", "parse"]).json(&body);
        self.json(request.repeatable(true)).await
    }

    /// Registers a job, or a new version of it. Children of an earlier version run on untouched.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn register(&self, job: &serde_json::Value) -> Result<(), NomadError> {
        let request = self.request(Method::PUT, &["jobs"]).json(&json!({ "Job": job }));
        self.json::<IgnoredAny>(request).await.map(drop)
    }

    /// The job of this id, if there is one.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn job(&self, id: &str) -> Result<Option<Job>, NomadError> {
        absent(self.json(self.request(Method::GET, &["job", id])).await)
    }

    /// The jobs whose ids begin so, in the order of their ids, and the index of that answer.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn jobs(&self, prefix: &str) -> Result<Indexed<Vec<JobStub>>, NomadError> {
        let request = self.request(Method::GET, &["jobs"]).query(&[("prefix", prefix)]);
        self.indexed(request, None).await
    }

    /// Makes a child of a parameterized job.
    ///
    /// With an idempotency token, Nomad 1.1.3 and later make one child of all dispatches with that
    /// token, as long as the child is there; of a child that was there before, the answer names no
    /// evaluation. Where all servers do so, a dispatch whose answer was lost is tried again here.
    /// Without, such a dispatch may have been carried out: when [`NomadError::nothing_was_done`] is
    /// false, look for its child before dispatching again.
    ///
    /// A dispatch that comes while an earlier one with its token is being carried out can make a
    /// second child all the same, before 1.11 (hashicorp/nomad #27353).
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn dispatch(
        &self,
        job: &str,
        payload: &[u8],
        meta: &BTreeMap<&str, String>,
        token: Option<&str>,
    ) -> Result<Dispatched, NomadError> {
        let body = json!({ "Payload": STANDARD.encode(payload), "Meta": meta });
        let mut request = self.request(Method::POST, &["job", job, "dispatch"]).json(&body);
        if let Some(token) = token {
            let repeatable = self.honours_idempotency_tokens().await;
            request = request.query(&[("idempotency_token", token)]).repeatable(repeatable);
        }
        self.json(request).await
    }

    /// The allocations of a job, in no order. Unknown jobs have none; those of a purged job stay
    /// until Nomad collects them.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn allocations(
        &self,
        job: &str,
        blocking: Option<Blocking>,
    ) -> Result<Indexed<Vec<Allocation>>, NomadError> {
        self.indexed(self.request(Method::GET, &["job", job, "allocations"]), blocking).await
    }

    /// The evaluations of a job, in no order.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn evaluations(&self, job: &str) -> Result<Vec<Evaluation>, NomadError> {
        self.json(self.request(Method::GET, &["job", job, "evaluations"])).await
    }

    /// Has the scheduler try once more to place a job.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn evaluate(&self, job: &str) -> Result<(), NomadError> {
        let request = self.request(Method::PUT, &["job", job, "evaluate"]);
        self.send(request.json(&json!({ "JobID": job }))).await.map(drop)
    }

    /// One evaluation, if there is (still) one of this id.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn evaluation(
        &self,
        id: &str,
        blocking: Option<Blocking>,
    ) -> Result<Option<Indexed<Evaluation>>, NomadError> {
        absent(self.indexed(self.request(Method::GET, &["evaluation", id]), blocking).await)
    }

    /// Stops a job and forgets it; returns the evaluation that carries this out. Its tasks get
    /// their kill signal, then SIGKILL after `kill_timeout`. Fine for jobs that are not there.
    /// Allocations and logs that it had stay until Nomad collects them.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn purge(&self, job: &str) -> Result<Option<String>, NomadError> {
        let request = self.request(Method::DELETE, &["job", job]).query(&[("purge", "true")]);
        let Deregistered { evaluation_id } = self.json(request).await?;
        Ok(evaluation_id.filter(|id| !id.is_empty()))
    }
}

pub(super) fn absent<T>(answer: Result<T, NomadError>) -> Result<Option<T>, NomadError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.problem() == Some(Problem::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_the_id_of_its_job_and_more() {
        assert_eq!(prefix_of_child("run/dispatch-17-ab"), child_prefix("run"));
        assert_eq!(prefix_of_child("other"), "other");
    }
}
