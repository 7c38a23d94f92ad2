//! `braindrill jobs`: the jobs in Nomad that attempts are dispatched from, for whoever keeps the cluster.
//!
//! A daemon registers its own. This is for tokens that may not, for jobs that daemons share, and to see
//! how things stand. It works beside a running daemon: of the data folder it reads the installation's
//! name and nothing else.

mod status;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    cluster,
    cluster_args::ClusterArgs,
    discovery::{Addresses, Discovery},
    say,
};
use crate::{
    backend::nomad::{self, JobFile, JobSettings, Registration},
    config::{BackendKind, Config},
    nomad::{Client, ClientSettings},
    store::Store,
};

/// What `register` and `status` exit with when they could do their work and a job is not as it should
/// be. 1 is for what could not be done, 2 for a wrong command line.
const NOT_AS_WANTED: u8 = 3;

/// Its name where no installation is known: fit to be shared.
const COMMON_NAME: &str = "braindrill-run";

/// Print, register and look at the jobs in Nomad that attempts are dispatched from
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a job file with this installation's values, for `nomad job run -`
    Render(RenderArgs),
    /// Register the jobs with Nomad, where they are not up to date. Exits with 3 if the token may not
    Register(Place),
    /// Say how the jobs stand, and which nodes can take them. Exits with 3 unless all are up to date
    Status(Place),
}

#[derive(Debug, clap::Args)]
struct RenderArgs {
    /// Which one [default: run, with the docker driver run-docker]
    #[arg(value_enum)]
    job: Option<Name>,
    /// Print JSON as Nomad registers it (PUT /v1/jobs). Nomad is asked to parse the file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// A file in `nomad-jobs/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// The runner as a plain process (raw_exec)
    Run,
    /// The runner in a container
    RunDocker,
    /// The same, for requests of more than 16 KiB
    RunDockerFetch,
}

/// Whose jobs, in which cluster.
#[derive(Debug, clap::Args, Serialize)]
struct Place {
    /// The folder of the daemon that the jobs are for; without one, and without --nomad-job, they are
    /// called braindrill-run [default: data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Render(args) => render(args).await,
        Command::Register(place) => register(&place).await,
        Command::Status(place) => {
            let (client, jobs) = client_and_jobs(&place).await?;
            let all_well = status::print(&client, &jobs).await.with_context(|| asking(&client))?;
            Ok(exit_code(all_well))
        }
    }
}

async fn render(args: RenderArgs) -> anyhow::Result<ExitCode> {
    let (mut config, instance) = load(&args.place).await?;
    let nomad = Nomad::find(&config).await?;
    let file = match args.job {
        Some(Name::Run) => JobFile::Run,
        Some(Name::RunDocker) => JobFile::RunDocker,
        Some(Name::RunDockerFetch) => JobFile::RunDockerFetch,
        None => settings(&config, instance.as_deref(), nomad.is_here)?.files()[0],
    };
    // What is asked for by name is for its driver, whichever the daemon is set to.
    config.nomad_driver = match file {
        JobFile::Run => crate::config::NomadDriver::RawExec,
        JobFile::RunDocker | JobFile::RunDockerFetch => crate::config::NomadDriver::Docker,
    };
    let jobs = settings(&config, instance.as_deref(), nomad.is_here)?;
    if args.json {
        let client = nomad.client;
        let job = nomad::parsed(&client, &jobs, file).await.with_context(|| asking(&client))?;
        say(serde_json::to_string_pretty(&json!({ "Job": job }))?);
    } else {
        say(jobs.render(file).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

async fn register(place: &Place) -> anyhow::Result<ExitCode> {
    let (client, jobs) = client_and_jobs(place).await?;
    let mut all_well = true;
    for file in jobs.files() {
        let id = jobs.id(*file);
        let registration = nomad::register(&client, &jobs, *file).await;
        match registration.with_context(|| asking(&client))? {
            Registration::UpToDate => say(format_args!("{id} is up to date")),
            Registration::Registered => say(format_args!("{id} registered")),
            Registration::NotAllowed(words) => {
                all_well = false;
                say(format_args!("{id} may not be registered with this token: {words}"));
            }
        }
    }
    Ok(exit_code(all_well))
}

fn exit_code(all_well: bool) -> ExitCode {
    if all_well { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_WANTED) }
}

fn asking(client: &Client) -> String {
    let servers = client.servers().in_order();
    let servers: Vec<_> = servers.iter().map(reqwest::Url::as_str).collect();
    format!("asking Nomad at {}", servers.join(", "))
}

async fn client_and_jobs(place: &Place) -> anyhow::Result<(Client, JobSettings)> {
    let (config, instance) = load(place).await?;
    let nomad = Nomad::find(&config).await?;
    Ok((nomad.client, settings(&config, instance.as_deref(), nomad.is_here)?))
}

/// Nomad, where the daemon would find it.
struct Nomad {
    client: Client,
    is_here: bool,
}

impl Nomad {
    async fn find(config: &Config) -> anyhow::Result<Nomad> {
        let stopping = CancellationToken::new();
        let discovery = Discovery::new(config, "jobs", stopping)?;
        let settings = ClientSettings::from_env(|name| std::env::var(name).ok());
        let Addresses { servers, known, .. } = discovery.nomad(config, &settings.tls).await?;
        // What it found is enough for one command.
        discovery.close().await;
        let is_here = Addresses::are_here(&known.borrow());
        Ok(Nomad { client: Client::new(&settings, servers)?, is_here })
    }
}

/// The settings, and the name of the installation where there is one.
async fn load(place: &Place) -> anyhow::Result<(Config, Option<String>)> {
    let config = Config { backend: BackendKind::Nomad, ..Config::load(place)? };
    let instance = Store::peek_instance(&config.data_dir).await.with_context(|| {
        format!("cannot read the name of the installation in {}", config.data_dir.display())
    })?;
    Ok((config, instance))
}

fn settings(
    config: &Config,
    instance: Option<&str>,
    nomad_is_here: bool,
) -> anyhow::Result<JobSettings> {
    let jobs = cluster::job_settings(config, instance.unwrap_or_default(), nomad_is_here, None)?;
    Ok(match instance {
        None if !jobs.shared => JobSettings { name: COMMON_NAME.to_owned(), ..jobs },
        _ => jobs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_called_by_flag_else_by_installation_else_in_common() {
        let name = |nomad_job: Option<&str>, instance| {
            let nomad_job = nomad_job.map(str::to_owned);
            settings(&Config { nomad_job, ..Config::default() }, instance, true).unwrap().name
        };
        assert_eq!(name(Some("judges"), Some("0123abcd")), "judges");
        assert_eq!(name(None, Some("0123abcd")), "braindrill-run-0123abcd");
        assert_eq!(name(None, None), "braindrill-run");
    }
}
