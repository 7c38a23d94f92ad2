//! The flags about Nomad and Consul, which several subcommands have.

use std::path::PathBuf;

use serde::Serialize;

use crate::config::NomadDriver;

/// Where Nomad and Consul are, and what is asked of them.
#[derive(Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Nomad and Consul")]
pub(super) struct ClusterArgs {
    /// Where braindrill is on the nodes [default: this executable when Nomad is on this machine, else
    /// /usr/local/bin/braindrill]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_path: Option<PathBuf>,
    /// Where Nomad is: a URL, or several with commas between [default: NOMAD_ADDR, else what Consul
    /// says, else http://127.0.0.1:4646]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_addr: Option<String>,
    /// The job to dispatch attempts from, shared with others; for tokens that may only dispatch
    /// [default: braindrill-run-INSTANCE, registered by the daemon]
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_job: Option<String>,
    /// What the nodes run attempts with [default: raw_exec]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_driver: Option<NomadDriver>,
    /// With the docker driver: the image that holds braindrill and the tool chains [default:
    /// braindrill-worker:local]
    #[arg(long, value_name = "IMAGE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_image: Option<String>,
    /// The datacenters that attempts may run in, with commas between [default: dc1]
    #[arg(long, value_name = "NAMES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_datacenters: Option<String>,
    /// What Nomad's servers are called in Consul; its clients are called that with -client [default:
    /// nomad]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    nomad_service: Option<String>,
    /// Where Consul is [default: CONSUL_HTTP_ADDR, else with Nomad http://127.0.0.1:8500]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    consul_addr: Option<String>,
    /// The datacenter whose services and settings Consul is asked for [default: the agent's own]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    consul_datacenter: Option<String>,
    /// Do without Consul
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_consul: bool,
}

/// Where warm workers are, and what they ask for.
#[derive(Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Warm workers")]
pub(super) struct PoolArgs {
    /// A file with the secret that daemon and workers share [default: the variable
    /// BRAINDRILL_WORKER_SECRET has it]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_secret_file: Option<PathBuf>,
    /// Where the workers are: URLs, with commas between [default: where Consul says]
    #[arg(long, value_name = "URLS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<String>,
    /// Have Nomad start workers when the queue grows: the parameterized job that is dispatched for each,
    /// as nomad-jobs/worker.nomad.hcl [default: none are started]
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_job: Option<String>,
    /// With --scale-job: so many workers are kept when there is nothing to do [default: 0]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_min: Option<u32>,
    /// With --scale-job: no more workers than so many, of all daemons that use the job [default: 4]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_max: Option<u32>,
    /// With --scale-job: for how long a worker is started; the job's meta `seconds` [default: 600]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_lease_seconds: Option<u64>,
}

/// What only a daemon has to do with them.
#[derive(Debug, clap::Args, Serialize)]
#[command(next_help_heading = "Nomad and Consul")]
pub(super) struct DaemonClusterArgs {
    /// The URL by which nodes and Consul reach this daemon [default: where it listens, unless that is
    /// every address, or one that only this machine knows while the cluster is elsewhere]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise_url: Option<String>,
    /// The key in Consul of settings that may change while the daemon runs [default:
    /// braindrill/settings]
    #[arg(long, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    consul_settings: Option<String>,
    /// Keep this daemon out of Consul's list of services
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_consul_register: bool,
}
