//! The daemon's settings: flags, then `BRAINDRILL_*`, then `braindrill.toml`, then defaults. Those that
//! may change while it runs are in `live.rs`.

mod advertise;
mod error;
mod live;

use std::{net::SocketAddr, path::PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub use self::advertise::AdvertiseError;
pub use self::error::ConfigError;
pub use self::live::{InForce, LiveSettings, LiveSettingsError};

use crate::sandbox::{Sandbox, SandboxConfig, SandboxError, Without};

/// The file that is read from the working directory when there is one.
const FILE: &str = "braindrill.toml";

/// Names of all settings: what `BRAINDRILL_` may stand in front of. Other variables with that prefix
/// belong to other commands.
const NAMES: [&str; 34] = [
    "listen",
    "data_dir",
    "backend",
    "languages",
    "slots",
    "queue_limit",
    "body_limit",
    "grace_seconds",
    "allow_anonymous",
    "runner_path",
    "nomad_addr",
    "nomad_job",
    "nomad_driver",
    "nomad_image",
    "nomad_datacenters",
    "nomad_service",
    "advertise_url",
    "consul_addr",
    "consul_datacenter",
    "consul_settings",
    "no_consul",
    "no_consul_register",
    "self_test",
    "first_uid",
    "cache_dir",
    "prepared_bytes",
    "unsafe_no_sandbox",
    "worker_secret_file",
    "workers",
    "scale_job",
    "scale_min",
    "scale_max",
    "scale_lease_seconds",
    "compile_cache_bytes",
];

/// Most programs at once.
const MAX_SLOTS: u64 = 1024;
/// Most submissions that may wait, whatever is asked for.
const MAX_QUEUE: u64 = 10_000_000;
/// Most leased workers, whatever is asked for: Nomad is asked for all of them each second.
const MAX_LEASED: u64 = 1000;
/// Seconds of a lease: less is over before its worker has been of use.
const MIN_LEASE: u64 = 10;
/// A month: what should go on for longer is a system job.
const MAX_LEASE: u64 = 31 * 24 * 3600;
/// Most bytes of kept programs: 1 TiB.
const MAX_COMPILE_CACHE: u64 = 1 << 40;
/// Below it are the machine's own users.
const MIN_UID: u64 = 1000;
/// The last but one that the kernel knows, less those of as many slots as there can be and of the
/// interpreters that wait for each.
const MAX_UID: u64 = u32::MAX as u64 - 1 - SandboxConfig::seats_for(MAX_SLOTS as u32, true) as u64;
/// Nobody's, which is also that of a jail's init, and the one that 16 bits show as "none".
const TAKEN_UIDS: [u32; 2] = [65_534, 65_535];

/// The settings of `braindrill serve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Where everything is kept. Default `data`.
    pub data_dir: PathBuf,
    /// Where programs run. Default `local`.
    pub backend: BackendKind,
    /// A file with more languages.
    #[serde(default)]
    pub languages: Option<PathBuf>,
    /// Programs at once. Default as many as there are processors; with `nomad` 16, with `pool`
    /// as many as the workers have.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Most submissions that wait. Default 10,000.
    pub queue_limit: u64,
    /// Most bytes of a request's body. Default 1 MiB.
    pub body_limit: usize,
    /// Seconds that running programs have to end when the daemon is told to. Default 10.
    pub grace_seconds: u64,
    /// Whether to listen on other addresses than loopback although everybody may do everything.
    pub allow_anonymous: bool,
    /// Whether each language is tried out on this machine before it is said to be ready. Default yes.
    pub self_test: bool,
    /// As root: the uid and gid on this machine of the first slot's programs; the others' follow it.
    /// Default 60000.
    pub first_uid: u32,
    /// Where what tool chains need made once is kept. Default `caches` in the data folder.
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
    /// Bytes of memory for interpreters that are started before there is a program for them; 0 for none.
    /// Default 256 MiB.
    pub prepared_bytes: u64,
    /// Whether programs are run without a sandbox where this machine cannot have one. Default no.
    pub unsafe_no_sandbox: bool,
    /// Most bytes of compiled programs that are kept on this machine for the next time; 0: none is.
    /// Default 1 GiB.
    pub compile_cache_bytes: u64,
    /// With Nomad: where braindrill is on the nodes.
    #[serde(default)]
    pub runner_path: Option<PathBuf>,
    /// Where Nomad is: one URL, or several separated by commas. Default `NOMAD_ADDR`, else what Consul
    /// says, else `http://127.0.0.1:4646`.
    #[serde(default)]
    pub nomad_addr: Option<String>,
    /// The job that attempts are dispatched from. Default one of this daemon's own.
    #[serde(default)]
    pub nomad_job: Option<String>,
    /// What the nodes run attempts with. Default `raw_exec`.
    pub nomad_driver: NomadDriver,
    /// With the docker driver: the image that holds braindrill and the tool chains.
    pub nomad_image: String,
    /// Where in the cluster attempts may run, separated by commas. Default `dc1`.
    pub nomad_datacenters: String,
    /// The name that Nomad's servers have in Consul; its clients have it with `-client`. Default `nomad`.
    pub nomad_service: String,
    /// The URL by which nodes and Consul reach this daemon.
    #[serde(default)]
    pub advertise_url: Option<String>,
    /// Where Consul is. Default `CONSUL_HTTP_ADDR`, else with Nomad `http://127.0.0.1:8500`.
    #[serde(default)]
    pub consul_addr: Option<String>,
    /// The datacenter whose services and keys Consul is asked for. Default the agent's own.
    #[serde(default)]
    pub consul_datacenter: Option<String>,
    /// The key in Consul that holds settings which may change while the daemon runs. Default
    /// `braindrill/settings`.
    pub consul_settings: String,
    /// Whether to do without Consul.
    pub no_consul: bool,
    /// Whether to keep out of Consul's list of services.
    pub no_consul_register: bool,
    /// With warm workers: a file with the secret that they ask for. Default `BRAINDRILL_WORKER_SECRET`
    /// itself.
    #[serde(default)]
    pub worker_secret_file: Option<PathBuf>,
    /// Where warm workers are: URLs, separated by commas. Default what Consul says.
    #[serde(default)]
    pub workers: Option<String>,
    /// The parameterized job of Nomad that workers are dispatched from when the queue grows. Default none:
    /// nobody dispatches any.
    #[serde(default)]
    pub scale_job: Option<String>,
    /// Leased workers that are kept, whether there is work or not. Default 0.
    pub scale_min: u32,
    /// Leased workers at the most, of all daemons that use the job. Default 4.
    pub scale_max: u32,
    /// How long a worker is leased for. Default 600.
    pub scale_lease_seconds: u64,
}

/// What a Nomad node runs an attempt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum NomadDriver {
    /// The runner as a plain process, which builds its own jail.
    #[value(name = "raw_exec")]
    RawExec,
    /// The runner in a container without network.
    Docker,
}

/// The kinds of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// This machine.
    Local,
    /// A Nomad cluster.
    Nomad,
    /// Warm workers.
    Pool,
    /// Warm workers, else a Nomad cluster, else this machine: each attempt where it can run now.
    Auto,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("data"),
            backend: BackendKind::Local,
            languages: None,
            slots: None,
            queue_limit: 10_000,
            body_limit: 1 << 20,
            grace_seconds: 10,
            allow_anonymous: false,
            self_test: true,
            first_uid: SandboxConfig::FIRST_UID,
            cache_dir: None,
            prepared_bytes: 256 << 20,
            unsafe_no_sandbox: false,
            compile_cache_bytes: Config::COMPILE_CACHE_BYTES,
            runner_path: None,
            nomad_addr: None,
            nomad_job: None,
            nomad_driver: NomadDriver::RawExec,
            nomad_image: "braindrill-worker:local".to_owned(),
            nomad_datacenters: "dc1".to_owned(),
            nomad_service: "nomad".to_owned(),
            advertise_url: None,
            consul_addr: None,
            consul_datacenter: None,
            consul_settings: "braindrill/settings".to_owned(),
            no_consul: false,
            no_consul_register: false,
            worker_secret_file: None,
            workers: None,
            scale_job: None,
            scale_min: 0,
            scale_max: 4,
            scale_lease_seconds: 600,
        }
    }
}

impl Config {
    /// The most bytes of compiled programs that are kept unless configured.
    pub const COMPILE_CACHE_BYTES: u64 = 1 << 30;

    /// Puts the settings together; `flags` holds those that were given as flags.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(flags: impl Serialize) -> Result<Config, ConfigError> {
        let config: Config = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::file(FILE))
            .merge(Env::prefixed("BRAINDRILL_").only(&NAMES))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    /// Whether they can be used.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, value, minimum, maximum) in [
            ("slots", self.slots.map_or(1, u64::from), 1, MAX_SLOTS),
            ("queue_limit", self.queue_limit, 1, MAX_QUEUE),
            ("body_limit", self.body_limit as u64, 1024, 1 << 30),
            ("grace_seconds", self.grace_seconds, 0, 3600),
            ("first_uid", self.first_uid.into(), MIN_UID, MAX_UID),
            ("scale_max", self.scale_max.into(), 1, MAX_LEASED),
            ("scale_min", self.scale_min.into(), 0, self.scale_max.into()),
            ("scale_lease_seconds", self.scale_lease_seconds, MIN_LEASE, MAX_LEASE),
            ("compile_cache_bytes", self.compile_cache_bytes, 0, MAX_COMPILE_CACHE),
        ] {
            if !(minimum..=maximum).contains(&value) {
                return Err(ConfigError::Bounds { name, value, minimum, maximum });
            }
        }
        if let Some(url) = &self.advertise_url {
            advertise::parse(url)?;
        }
        let slots = self.local_slots();
        let last = self.first_uid + (SandboxConfig::seats_for(slots, self.prepared_bytes > 0) - 1);
        if let Some(taken) =
            TAKEN_UIDS.into_iter().find(|uid| (self.first_uid..=last).contains(uid))
        {
            return Err(ConfigError::TakenUid { first: self.first_uid, slots, last, taken });
        }
        if self.scale_job.is_some() {
            if !matches!(self.backend, BackendKind::Pool | BackendKind::Auto) {
                return Err(ConfigError::ScaleElsewhere);
            }
            let hides = [(self.no_consul, "--no-consul"), (self.workers.is_some(), "--workers")];
            if let Some((_, flag)) = hides.into_iter().find(|(is_given, _)| *is_given) {
                return Err(ConfigError::ScaleUnseen(flag));
            }
        }
        if self.unsafe_no_sandbox && !self.is_loopback() {
            return Err(ConfigError::UnsafeExposed(self.listen));
        }
        if self.unsafe_no_sandbox && matches!(self.backend, BackendKind::Nomad | BackendKind::Pool)
        {
            return Err(ConfigError::UnsafeElsewhere);
        }
        if !self.is_loopback() && !self.allow_anonymous {
            return Err(ConfigError::Exposed(self.listen));
        }
        Ok(())
    }

    /// How many programs run at once on this machine.
    pub fn local_slots(&self) -> u32 {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
        self.slots.unwrap_or_else(|| cores().min(MAX_SLOTS as usize) as u32)
    }

    /// Where what tool chains need made once is kept.
    pub fn caches(&self) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(|| self.data_dir.join("caches"))
    }

    /// Finds out what this machine's sandbox is made of, and starts it.
    ///
    /// # Errors
    /// [`SandboxError::Floor`] where there is none, unless [`Config::unsafe_no_sandbox`].
    pub async fn start_sandbox(
        &self,
        instance: String,
        executable: PathBuf,
    ) -> Result<Sandbox, SandboxError> {
        let config = SandboxConfig {
            instance,
            slots: self.local_slots(),
            first_uid: self.first_uid,
            executable,
            for_one_request: false,
            prepared_bytes: self.prepared_bytes,
            without: Without::default(),
        };
        if self.unsafe_no_sandbox {
            Sandbox::start_lifting_the_floor(config).await
        } else {
            Sandbox::start(config).await
        }
    }

    /// Whether only this machine can reach the daemon.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests;
