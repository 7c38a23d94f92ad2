//! The parameterized job that attempts are dispatched from.

use std::path::PathBuf;

use serde_json::{Value, json};
use tracing::{info, warn};

use crate::nomad::{Client, Job, NomadError, Problem};

/// The job file. What is registered is this file with the [`JobSettings`] put in.
const FILE: &str = include_str!("../../../nomad-jobs/run.nomad.hcl");

/// The name of its only task.
pub(super) const TASK: &str = "runner";

/// Meta of a child: the id of its submission.
pub(super) const META_SUBMISSION: &str = "braindrill_submission";

/// Meta of a child: the number of its attempt.
pub(super) const META_ATTEMPT: &str = "braindrill_attempt";

/// Meta of the job itself: a digest of all it was made from, to know whether it is up to date.
const META_DIGEST: &str = "braindrill_digest";

/// What the job of this daemon is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSettings {
    /// Its id; see [`JobSettings::name_for`].
    pub name: String,
    /// The braindrill executable on the nodes.
    pub runner_path: PathBuf,
    /// Where it may run. Default `dc1`, Nomad's own default.
    pub datacenters: Vec<String>,
}

impl JobSettings {
    /// The job's id for a daemon of this instance: two daemons never share children.
    pub fn name_for(instance: &str) -> String {
        format!("braindrill-run-{instance}")
    }

    /// How the ids of all children begin.
    pub(super) fn child_prefix(&self) -> String {
        format!("{}/dispatch-", self.name)
    }

    fn digest(&self) -> String {
        let whole = json!([FILE, self.name, self.runner_path, self.datacenters]);
        blake3::hash(whole.to_string().as_bytes()).to_hex()[..16].to_owned()
    }

    /// Puts the settings into the parsed file; the values of the file's variables are overwritten
    /// because Nomad takes none with a parse before 1.4.
    fn fill_in(&self, job: &mut Value) {
        if let Some(command) = job.pointer_mut("/TaskGroups/0/Tasks/0/Config/command") {
            *command = json!(self.runner_path);
        }
        if let Some(job) = job.as_object_mut() {
            job.insert("ID".to_owned(), json!(self.name));
            job.insert("Name".to_owned(), json!(self.name));
            job.insert("Datacenters".to_owned(), json!(self.datacenters));
            job.insert("Meta".to_owned(), json!({ META_DIGEST: self.digest() }));
            // Parsing fills these with `default` and `global`, which are not always ours; absent,
            // they are those of the call.
            job.remove("Namespace");
            job.remove("Region");
        }
    }
}

/// Sees to it that the job is registered as wanted, or at least so that it can be used.
///
/// # Errors
/// It is not there and cannot be registered.
pub(super) async fn ensure(client: &Client, settings: &JobSettings) -> Result<(), NomadError> {
    let existing = client.job(&settings.name).await?;
    let usable = existing.as_ref().is_some_and(is_usable);
    let current = existing.is_some_and(|job| job.meta.get(META_DIGEST) == Some(&settings.digest()));
    if usable && current {
        return Ok(());
    }
    match register(client, settings).await {
        Ok(()) => {
            info!(nomad.job_id = settings.name, "registered the job with Nomad");
            Ok(())
        }
        Err(error)
            if usable
                && matches!(error.problem(), Some(Problem::Forbidden | Problem::Disabled)) =>
        {
            warn!(
                nomad.job_id = settings.name,
                "the job in Nomad differs from ours and our token may not change it: \
                 using it as it is"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_usable(job: &Job) -> bool {
    !job.stop && job.parameterized_job.is_some()
}

async fn register(client: &Client, settings: &JobSettings) -> Result<(), NomadError> {
    let mut job = client.parse_job(FILE).await?;
    settings.fill_in(&mut job);
    client.register(&job).await
}
