//! `braindrill worker`: serves the slots of this machine to daemons.
//!
//! ```text
//!  listener ──> WorkerServer ──> Slots ──> Runner ──> Sandbox
//!  Consul <── registration, taken out when it is told to end
//! ```

mod work_folder;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::{Signal, raise};

use self::work_folder::WorkFolder;
use super::{
    discovery::{Discovery, Listing},
    say, upkeep, worker_secret,
};
use crate::{
    backend::pool::Member,
    config::{BackendKind, Config},
    language::{Catalog, Status},
    lifecycle::Lifecycle,
    runner::{Folders, Runner, machine_cache_dir},
    sandbox::SandboxConfig,
    submission::{Clock as _, SubmissionId, SystemClock},
    worker::{Facts, RELEASE, Slots, WorkerServer, WorkerSettings},
};

/// Beyond the uids that a daemon's slots take and those of Nomad's runners, and below what systemd hands
/// out (61184 and up).
const FIRST_UID: u32 = SandboxConfig::FIRST_UID + 768;

/// As long as a submission may take: its tests 1,200 s, its compile step 60 s, and a margin.
const GRACE_SECONDS: u64 = 1300;

/// Serve this machine's slots to daemons: a warm worker
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen for daemons
    #[arg(
        long,
        value_name = "ADDR",
        env = "BRAINDRILL_WORKER_LISTEN",
        default_value = "127.0.0.1:8081"
    )]
    listen: SocketAddr,
    /// The URL by which daemons and Consul reach this worker [default: where it listens]
    #[arg(long, value_name = "URL", env = "BRAINDRILL_WORKER_ADVERTISE_URL")]
    advertise_url: Option<String>,
    /// A file with the secret that daemons and workers share [default: the variable
    /// BRAINDRILL_WORKER_SECRET has it]
    #[arg(long, value_name = "FILE", env = "BRAINDRILL_WORKER_SECRET_FILE")]
    worker_secret_file: Option<PathBuf>,
    /// Programs at once [default: as many as processors]
    #[arg(long, value_name = "N", env = "BRAINDRILL_WORKER_SLOTS")]
    slots: Option<u32>,
    /// A file with more languages, or with others in place of those that come with braindrill
    #[arg(long, value_name = "FILE", env = "BRAINDRILL_WORKER_LANGUAGES")]
    languages: Option<PathBuf>,
    /// A folder for compiled programs [default: $NOMAD_TASK_DIR/work, else one among the temporary files]
    #[arg(long, value_name = "DIR", env = "BRAINDRILL_WORKER_DIR")]
    work_dir: Option<PathBuf>,
    /// Most bytes of compiled programs that are kept there, so that the same source of the same owner is
    /// not compiled again; 0 keeps none
    #[arg(long, value_name = "BYTES", env = "BRAINDRILL_WORKER_COMPILE_CACHE_BYTES", default_value_t = Config::COMPILE_CACHE_BYTES)]
    compile_cache_bytes: u64,
    /// Where what tool chains need made once is kept, such as Go's compiled standard library [default:
    /// /var/cache/braindrill; other users than root: braindrill in the folder for their caches]
    #[arg(long, value_name = "DIR", env = "BRAINDRILL_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Bytes of memory for interpreters that are started before there is a program for them; 0 for none
    #[arg(
        long,
        value_name = "BYTES",
        env = "BRAINDRILL_PREPARED_BYTES",
        default_value_t = Config::default().prepared_bytes
    )]
    prepared_bytes: u64,
    /// Whether each language is tried out while nobody wants the machine, and what it needs made once is
    /// made
    #[arg(
        long,
        value_name = "BOOL",
        env = "BRAINDRILL_WORKER_SELF_TEST",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    self_test: bool,
    /// As root: the first of the uids that programs run as: one for each slot, and two more for each,
    /// up to 64, for interpreters that wait
    #[arg(long, value_name = "UID", env = "BRAINDRILL_WORKER_FIRST_UID", default_value_t = FIRST_UID)]
    first_uid: u32,
    /// Seconds that running programs have to end when the worker is told to
    #[arg(long, value_name = "SECONDS", env = "BRAINDRILL_WORKER_GRACE_SECONDS", default_value_t = GRACE_SECONDS)]
    grace_seconds: u64,
    /// Take nothing new after so many seconds, and end when the last run is over
    #[arg(long, value_name = "SECONDS", env = "BRAINDRILL_WORKER_LEASE_SECONDS")]
    lease_seconds: Option<u64>,
    /// Where Consul is [default: CONSUL_HTTP_ADDR, else http://127.0.0.1:8500]
    #[arg(long, value_name = "URL", env = "BRAINDRILL_WORKER_CONSUL_ADDR")]
    consul_addr: Option<String>,
    /// Keep out of Consul: daemons are told by --workers where this worker is
    #[arg(long, env = "BRAINDRILL_WORKER_NO_CONSUL")]
    no_consul: bool,
}

impl Args {
    /// The settings that a worker has in common with a daemon.
    fn config(&self) -> Config {
        Config {
            listen: self.listen,
            // Asks for Consul, as whatever is part of a cluster does.
            backend: BackendKind::Pool,
            slots: self.slots,
            languages: self.languages.clone(),
            first_uid: self.first_uid,
            prepared_bytes: self.prepared_bytes,
            compile_cache_bytes: self.compile_cache_bytes,
            grace_seconds: self.grace_seconds,
            advertise_url: self.advertise_url.clone(),
            consul_addr: self.consul_addr.clone(),
            no_consul: self.no_consul,
            // It has a secret.
            allow_anonymous: true,
            ..Config::default()
        }
    }
}

/// Runs the subcommand, until it is told to end or its lease is over.
///
/// # Errors
/// The worker could not start, or did not end well.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.config();
    config.check()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let secret = worker_secret::find(args.worker_secret_file.as_deref())?;
    let mut lifecycle = Lifecycle::new()?;
    let catalog = Catalog::load(config.languages.as_deref())?;
    let listener = TcpListener::bind(config.listen).with_context(|| {
        format!("cannot listen on {}; --listen names another address", config.listen)
    })?;
    let address = listener.local_addr()?;
    let id = instance();
    let executable = std::env::current_exe().context("cannot find the own executable")?;
    let sandbox = config.start_sandbox(id.clone(), executable).await;
    let sandbox = sandbox.context("programs cannot be run on this machine")?;
    for layer in sandbox.layers().into_iter().filter(|layer| !layer.active) {
        let name = layer.name.as_str();
        tracing::warn!(layer = name, "a layer of the sandbox is missing: {}", layer.detail);
    }
    catalog.find_tool_chains();
    let work = WorkFolder::open(args.work_dir, &id)?;
    let caches = machine_cache_dir(args.cache_dir, work.path());
    let folders = Folders {
        programs: work.path().to_owned(),
        caches: caches.clone(),
        compiled: Some((work.path().join("compiled"), config.compile_cache_bytes)),
    };
    let runner =
        Runner::new(sandbox, folders).context("cannot use the folders for compiled programs")?;
    upkeep::watch_room(&mut lifecycle, runner.clone());
    let slots = Slots::new(runner.clone(), config.local_slots() as usize)
        .context("cannot start threads for programs")?;
    let settings = WorkerSettings { id, name: name(), secret, languages: languages(&catalog) };
    let server = WorkerServer::new(settings.clone(), slots.clone(), lifecycle.soft());

    // Before Consul is told of it: it looks at once.
    let serving = server.clone();
    let hard = lifecycle.hard();
    lifecycle.spawn("worker's server", async move {
        serving.serve(listener, hard).await.map_err(|error| error.to_string())
    });
    if let Some(seconds) = args.lease_seconds {
        let soft = lifecycle.soft();
        lifecycle.spawn("lease", async move {
            let lease = tokio::time::sleep(Duration::from_secs(seconds));
            if soft.run_until_cancelled(lease).await.is_some() {
                tracing::info!("the lease is over");
                // The way that everybody else ends it.
                raise(Signal::SIGTERM).map_err(|error| error.to_string())?;
            }
            soft.cancelled().await;
            Ok(())
        });
    }
    if args.self_test {
        upkeep::self_tests(&mut lifecycle, catalog, runner, slots.demand(), caches);
    }
    let discovery = Discovery::new(&config, &settings.id, lifecycle.soft())?;
    let advertised = config.advertised(address, discovery.is_here() || args.no_consul);
    match &advertised {
        Some(url) => {
            let meta = Member::meta(&server.facts(), nomad_job().as_deref());
            discovery.list(&Listing::of_worker(&settings.id, url.clone(), meta))?;
        }
        None => anyhow::ensure!(
            args.no_consul,
            "daemons cannot be told where this worker is: --advertise-url names the URL by which they \
             reach it, or --no-consul keeps it out of Consul"
        ),
    }
    announce(address, &server.facts());
    let ended = lifecycle.run(Duration::from_secs(args.grace_seconds)).await;
    slots.shut_down().await;
    discovery.close().await;
    drop(work);
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// 8 hex digits that no other worker has: of the random part of a new id.
fn instance() -> String {
    format!("{:08x}", SubmissionId::new(SystemClock.now()).as_uuid().as_u128() as u32)
}

/// The job of Nomad that this worker is a task of, by which whoever dispatched it knows it. The name of a
/// dispatched job is its id.
fn nomad_job() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    variable("NOMAD_JOB_ID").or_else(|| variable("NOMAD_JOB_NAME"))
}

/// What this machine calls itself.
fn name() -> String {
    let name = nix::unistd::gethostname();
    name.map_or_else(|_| "worker".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Those whose tool chains are here.
fn languages(catalog: &Catalog) -> Vec<String> {
    let entries = catalog.list().into_iter();
    let there = entries.filter(|entry| !matches!(entry.status, Status::Unavailable(_)));
    there.map(|entry| entry.definition.id.clone()).collect()
}

/// Says on standard output where the worker is and what it has.
fn announce(address: SocketAddr, facts: &Facts) {
    say(format_args!("braindrill worker {} listens on http://{address}", facts.id));
    say(format_args!("  release        {RELEASE}"));
    say(format_args!("  slots          {}", facts.slots));
    say(format_args!("  languages      {}", facts.languages.join(" ")));
    tracing::info!(%address, worker.id = facts.id, slots = facts.slots, "ready");
}
