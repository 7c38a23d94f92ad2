//! The parameterized jobs that attempts are dispatched from: what they are called, what they are made
//! from, and how they come to be registered. The files are `nomad-jobs/`.

mod file;

use std::path::PathBuf;

use serde_json::{Value, json};
use tracing::{info, warn};

pub use self::file::JobFile;
use super::place::RequestUrls;
use crate::{
    nomad::{Client, Job, NomadError, Problem, child_prefix},
    submission::SubmissionId,
};

/// The name of its only task, in every file.
pub(super) const TASK: &str = "runner";

/// Meta of a child: the id of its submission.
pub(super) const META_SUBMISSION: &str = "braindrill_submission";

/// Meta of a child: the number of its attempt.
pub(super) const META_ATTEMPT: &str = "braindrill_attempt";

/// Meta of a child: the installation that its submission is of. Tells the children of daemons that
/// share a job apart.
pub(super) const META_INSTANCE: &str = "braindrill_instance";

/// Meta of a child without a payload: where its request is fetched from.
pub(super) const META_REQUEST_URL: &str = "braindrill_request_url";

/// Meta of the job itself: a digest of all it was made from, to know whether it is up to date.
const META_DIGEST: &str = "braindrill_digest";

/// What the nodes run attempts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// The runner as a plain process, which builds a jail of its own.
    RawExec,
    /// The runner in a container without network, which is the jail.
    Docker {
        /// Holds braindrill, as its entry point, and the tool chains.
        image: String,
    },
}

impl Driver {
    /// As Nomad calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Driver::RawExec => "raw_exec",
            Driver::Docker { .. } => "docker",
        }
    }
}

/// What the jobs of this daemon are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSettings {
    /// The id of the job; see [`JobSettings::name_for`]. That of its companion for long requests, where
    /// there is one, has `-fetch` behind it.
    pub name: String,
    /// Whether the job is others' too: a daemon then neither registers nor changes it.
    pub shared: bool,
    /// The name of this installation, which each child carries.
    pub instance: String,
    /// What runs attempts on the nodes. Default `raw_exec`.
    pub driver: Driver,
    /// With `raw_exec`, the braindrill executable on the nodes.
    pub runner_path: PathBuf,
    /// Where it may run. Default `dc1`, Nomad's own default.
    pub datacenters: Vec<String>,
    /// Where nodes fetch long requests from; without, those are refused. Default nowhere.
    pub requests: Option<RequestUrls>,
}

/// How a job stands in Nomad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not there.
    Missing,
    /// It cannot be dispatched from: it was stopped, or is no parameterized job.
    Unusable,
    /// It can be used, and is not what these settings make.
    Differs,
    /// It is what these settings make.
    UpToDate,
}

/// What came of seeing to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It was up to date.
    UpToDate,
    /// It is now registered.
    Registered,
    /// It would have to be registered and our token may not; in Nomad's words. What there was is
    /// untouched.
    NotAllowed(String),
}

impl JobSettings {
    /// The settings of a daemon's own job, with every default.
    pub fn own(instance: &str, runner_path: PathBuf) -> Self {
        JobSettings {
            name: JobSettings::name_for(instance),
            shared: false,
            instance: instance.to_owned(),
            driver: Driver::RawExec,
            runner_path,
            datacenters: vec!["dc1".to_owned()],
            requests: None,
        }
    }

    /// The job's id for a daemon of this instance: two daemons never share children.
    pub fn name_for(instance: &str) -> String {
        format!("braindrill-run-{instance}")
    }

    /// The files of all jobs that these settings take, the main one first.
    pub fn files(&self) -> &'static [JobFile] {
        match self.driver {
            Driver::RawExec => &[JobFile::Run],
            Driver::Docker { .. } => &[JobFile::RunDocker, JobFile::RunDockerFetch],
        }
    }

    /// The id of the job of this file.
    pub fn id(&self, file: JobFile) -> String {
        format!("{}{}", self.name, file.suffix())
    }

    /// How the ids of all children begin, also of those from before the driver was changed.
    pub(super) fn child_prefixes(&self) -> [String; 2] {
        [JobFile::RunDocker, JobFile::RunDockerFetch].map(|file| child_prefix(&self.id(file)))
    }

    /// Which attempt at which submission a job was dispatched for, when it is a child of this
    /// installation. No listing tells: the job must be read.
    pub(super) fn attempt_of(&self, child: &Job) -> Option<(SubmissionId, u32)> {
        let meta = |key| child.meta.get(key).map(String::as_str);
        // Those of a job of one's own may be from before children carried it.
        let is_ours =
            meta(META_INSTANCE).map_or(!self.shared, |instance| instance == self.instance);
        let submission = meta(META_SUBMISSION)?.parse().ok()?;
        let attempt = meta(META_ATTEMPT)?.parse().ok()?;
        is_ours.then_some((submission, attempt))
    }

    /// The file with these settings as its variables' defaults: what there is to register.
    pub fn render(&self, file: JobFile) -> String {
        self.render_with(file, &self.digest(file))
    }

    fn digest(&self, file: JobFile) -> String {
        blake3::hash(self.render_with(file, "").as_bytes()).to_hex()[..16].to_owned()
    }

    fn render_with(&self, file: JobFile, digest: &str) -> String {
        let image = match &self.driver {
            Driver::RawExec => None,
            Driver::Docker { image } => Some(("image", json!(image))),
        };
        let values = [
            ("runner_path", json!(self.runner_path.to_string_lossy())),
            ("datacenters", json!(self.datacenters)),
            ("digest", json!(digest)),
        ];
        file.fill_in(&self.id(file), &image.into_iter().chain(values).collect::<Vec<_>>())
    }

    /// How the job of this file stands, given what is registered under its id.
    pub fn standing(&self, file: JobFile, registered: Option<&Job>) -> Standing {
        match registered {
            None => Standing::Missing,
            Some(job) if job.stop || job.parameterized_job.is_none() => Standing::Unusable,
            Some(job) if job.meta.get(META_DIGEST) == Some(&self.digest(file)) => {
                Standing::UpToDate
            }
            Some(_) => Standing::Differs,
        }
    }
}

/// The job of a file, as [`Client::register`] takes it.
///
/// # Errors
/// Nomad could not be asked, or does not understand the file.
pub async fn parsed(
    client: &Client,
    settings: &JobSettings,
    file: JobFile,
) -> Result<Value, NomadError> {
    let mut job = client.parse_job(&settings.render(file)).await?;
    if let Some(job) = job.as_object_mut() {
        // Parsing fills these with `default` and `global`, which are not always ours. The namespace
        // must be said: Nomad 1.1 takes one without for the default, whatever that of the call.
        match client.namespace() {
            Some(namespace) => job.insert("Namespace".to_owned(), json!(namespace)),
            None => job.remove("Namespace"),
        };
        job.remove("Region");
    }
    Ok(job)
}

/// Registers the job of a file, unless it is up to date.
///
/// # Errors
/// Nomad could not be asked, or refuses the job.
pub async fn register(
    client: &Client,
    settings: &JobSettings,
    file: JobFile,
) -> Result<Registration, NomadError> {
    let existing = client.job(&settings.id(file)).await?;
    if settings.standing(file, existing.as_ref()) == Standing::UpToDate {
        return Ok(Registration::UpToDate);
    }
    let registered = match parsed(client, settings, file).await {
        Ok(job) => client.register(&job).await,
        Err(error) => Err(error),
    };
    match registered {
        Ok(()) => Ok(Registration::Registered),
        Err(NomadError::Answered {
            body, problem: Problem::Forbidden | Problem::Disabled, ..
        }) => Ok(Registration::NotAllowed(body)),
        Err(error) => Err(error),
    }
}

/// Sees to it that a daemon's jobs are registered as wanted, or at least so that they can be used. A
/// shared job is left as it is; where it is missing, that is said, and dispatches fail until somebody
/// registers it.
///
/// # Errors
/// One is not there and cannot be registered.
pub(super) async fn ensure(client: &Client, settings: &JobSettings) -> Result<(), NomadError> {
    for file in settings.files() {
        if settings.shared {
            look_at_shared(client, settings, *file).await?;
        } else {
            ensure_own(client, settings, *file).await?;
        }
    }
    Ok(())
}

async fn look_at_shared(
    client: &Client,
    settings: &JobSettings,
    file: JobFile,
) -> Result<(), NomadError> {
    let id = settings.id(file);
    let job = match client.job(&id).await {
        Ok(job) => job,
        // It is Nomad that decides about dispatches, and it may allow them all the same.
        Err(error) if error.problem() == Some(Problem::Forbidden) => return Ok(()),
        Err(error) => return Err(error),
    };
    match settings.standing(file, job.as_ref()) {
        Standing::UpToDate => {}
        Standing::Differs => info!(nomad.job_id = id, "using the shared job as it is"),
        Standing::Missing | Standing::Unusable => warn!(
            nomad.job_id = id,
            "the shared job is not registered with Nomad, or stopped: submissions wait until somebody \
             registers it, as with `braindrill jobs register`"
        ),
    }
    Ok(())
}

async fn ensure_own(
    client: &Client,
    settings: &JobSettings,
    file: JobFile,
) -> Result<(), NomadError> {
    let id = settings.id(file);
    let words = match register(client, settings, file).await? {
        Registration::UpToDate => return Ok(()),
        Registration::Registered => {
            info!(nomad.job_id = id, "registered the job with Nomad");
            return Ok(());
        }
        Registration::NotAllowed(words) => words,
    };
    let existing = client.job(&id).await?;
    if settings.standing(file, existing.as_ref()) == Standing::Differs {
        warn!(
            nomad.job_id = id,
            "the job in Nomad differs from ours and our token may not change it: using it as it is"
        );
        return Ok(());
    }
    Err(NomadError::Answered { status: 403, body: words, problem: Problem::Forbidden })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker() -> JobSettings {
        let driver = Driver::Docker { image: "registry/worker:7".to_owned() };
        JobSettings { driver, ..JobSettings::own("0123abcd", "/opt/braindrill".into()) }
    }

    fn registered(settings: &JobSettings, file: JobFile) -> Job {
        let digest = settings.digest(file);
        assert!(settings.render(file).contains(&format!("\"{digest}\"")));
        serde_json::from_value(json!({
            "ID": settings.id(file),
            "Meta": { META_DIGEST: digest },
            "ParameterizedJob": {},
        }))
        .unwrap()
    }

    #[test]
    fn a_job_is_up_to_date_until_anything_that_it_is_made_from_changes() {
        let settings = docker();
        let file = JobFile::RunDocker;
        let job = registered(&settings, file);
        assert_eq!(settings.standing(file, Some(&job)), Standing::UpToDate);
        let changes: [fn(&mut JobSettings); 3] = [
            |settings| settings.name.push('x'),
            |settings| settings.datacenters.push("dc2".to_owned()),
            |settings| settings.driver = Driver::Docker { image: "other".to_owned() },
        ];
        for change in changes {
            let mut changed = settings.clone();
            change(&mut changed);
            assert_eq!(changed.standing(file, Some(&job)), Standing::Differs);
        }
        let other_file = JobFile::RunDockerFetch;
        assert_eq!(settings.standing(other_file, Some(&job)), Standing::Differs);
    }

    #[test]
    fn a_job_that_cannot_be_dispatched_from_is_unusable_even_when_up_to_date() {
        let settings = docker();
        let file = JobFile::RunDocker;
        let job = registered(&settings, file);
        let stopped = Job { stop: true, ..job.clone() };
        let plain = Job { parameterized_job: None, ..job.clone() };
        let by_hand = Job { meta: Default::default(), ..job };
        assert_eq!(settings.standing(file, None), Standing::Missing);
        assert_eq!(settings.standing(file, Some(&stopped)), Standing::Unusable);
        assert_eq!(settings.standing(file, Some(&plain)), Standing::Unusable);
        assert_eq!(settings.standing(file, Some(&by_hand)), Standing::Differs);
    }

    #[test]
    fn containers_take_a_second_job_for_long_requests() {
        let settings = docker();
        let ids: Vec<_> = settings.files().iter().map(|file| settings.id(*file)).collect();
        assert_eq!(ids, ["braindrill-run-0123abcd", "braindrill-run-0123abcd-fetch"]);
        for file in settings.files() {
            assert!(settings.render(*file).contains("\"registry/worker:7\""), "{file:?}");
        }
        let plain = JobSettings::own("0123abcd", "/opt/braindrill".into());
        assert_eq!(plain.files(), [JobFile::Run]);
        let prefixes = ["", "-fetch"].map(|suffix| format!("braindrill-run-0123abcd{suffix}"));
        let prefixes = prefixes.map(|id| format!("{id}/dispatch-"));
        assert_eq!(plain.child_prefixes(), prefixes, "those of another driver are looked for too");
        assert!(plain.render(JobFile::Run).contains("\"/opt/braindrill\""));
    }
}
