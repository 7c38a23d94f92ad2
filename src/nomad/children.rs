//! How many children a parameterized job has.

use reqwest::Method;
use serde::Deserialize;

use super::{Client, NomadError, Problem, model::or_default};

/// The children of a job, by how far they are. Those that were purged are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Children {
    /// Not placed yet.
    #[serde(default)]
    pub pending: u64,
    /// Placed.
    #[serde(default)]
    pub running: u64,
    /// Over.
    #[serde(default)]
    pub dead: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    #[serde(default, deserialize_with = "or_default")]
    children: Children,
}

impl Client {
    /// The children of a job; none where there is no such job.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub async fn children(&self, job: &str) -> Result<Children, NomadError> {
        let request = self.request(Method::GET, &["job", job, "summary"]);
        match self.json::<Summary>(request).await {
            Ok(summary) => Ok(summary.children),
            Err(error) if error.problem() == Some(Problem::NotFound) => Ok(Children::default()),
            Err(error) => Err(error),
        }
    }
}
