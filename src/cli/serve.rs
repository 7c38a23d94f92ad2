//! `braindrill serve`: the daemon. The only place that wires the parts together.
//!
//! ```text
//!  listener ──> api ──> dispatcher ──> backend ──> sandbox or Nomad
//!                 └────────┴──> store
//! ```

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    cluster,
    cluster_args::{ClusterArgs, DaemonClusterArgs},
    discovery::{Addresses, Discovery},
    live_settings::{Follower, Levers},
    say,
};
use crate::{
    api::{self, Engine, FrontSettings},
    backend::{
        Backend,
        absent::AbsentBackend,
        local::LocalBackend,
        nomad::{NomadBackend, NomadSettings, RequestUrls},
    },
    config::{BackendKind, Config},
    dispatcher::{Dispatcher, Parts, Settings},
    language::{Catalog, Status},
    lifecycle::Lifecycle,
    metrics,
    nomad::ClientSettings,
    runner::{Runner, self_test},
    sandbox::SandboxError,
    store::{Store, StoreOptions},
    submission::SystemClock,
};

/// Executions at once in a Nomad cluster unless configured: Nomad queues what does not fit.
const NOMAD_SLOTS: usize = 16;

/// Run the daemon
#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Args {
    /// Where to listen. Other addresses than loopback need --allow-anonymous [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// The folder that everything is kept in [default: data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Where programs run: on this machine, or in a Nomad cluster, which Consul or --nomad-addr names
    /// [default: local]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<BackendKind>,
    /// A file with more languages, or with others in place of those that come with braindrill
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    languages: Option<PathBuf>,
    /// Programs at once [default: as many as processors; with Nomad 16]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    /// Most submissions that wait [default: 10000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_limit: Option<u64>,
    /// Most bytes of a request's body [default: 1048576]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    body_limit: Option<usize>,
    /// Seconds that running programs have to end when the daemon is told to [default: 10]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u64>,
    /// Listen on an address that others reach, although everybody may do everything
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_anonymous: bool,
    /// As root: the first of the uids that programs run as, one for each slot [default: 60000]
    #[arg(long, value_name = "UID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    first_uid: Option<u32>,
    /// Where this machine cannot have a sandbox, run programs without one: as plain processes of this
    /// user, who can do whatever this user can. On loopback only
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsafe_no_sandbox: bool,
    /// Whether each language is tried out, while nobody wants the machine, before it is said to be
    /// ready [default: true]
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    self_test: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    #[serde(flatten)]
    daemon: DaemonClusterArgs,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args)?;
    // Sources, inputs and expected outputs are nobody else's on this machine.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let mut lifecycle = Lifecycle::new()?;
    let figures = metrics::install()?;
    raise_open_files();
    let catalog = Catalog::load(config.languages.as_deref())?;
    let listener = TcpListener::bind(config.listen).with_context(|| {
        format!("cannot listen on {}; --listen names another address", config.listen)
    })?;
    let address = listener.local_addr()?;
    let options = StoreOptions { queue_limit: config.queue_limit };
    let store = Store::open(&config.data_dir, options).await?;

    let discovery = Discovery::new(&config, store.instance(), lifecycle.soft())?;
    let said = discovery.settings(&config.consul_settings);
    let surroundings = Surroundings { config: &config, store: &store, listening: address };
    let running = Place::open(surroundings, &catalog, &discovery, lifecycle.soft()).await?;
    let settings = Settings::default();
    if let Some(said) = said {
        let levers = Levers {
            store: store.clone(),
            catalog: catalog.clone(),
            in_flight: settings.max_in_flight.clone(),
            backend: running.backend(),
        };
        let patience = discovery.first_answer_by();
        let follower = Follower::begin(&config.consul_settings, said, patience, levers).await;
        lifecycle.spawn("settings", follower.follow(lifecycle.soft()));
    }
    let parts = Parts {
        store: store.clone(),
        backend: running.backend(),
        catalog: catalog.clone(),
        clock: Arc::new(SystemClock),
        settings,
        observer: Arc::new(metrics::EngineMetrics),
        soft: lifecycle.soft(),
        hard: lifecycle.hard(),
    };
    let (handle, dispatcher) = Dispatcher::start(parts).await?;
    lifecycle.spawn("dispatcher", async move {
        dispatcher.run().await.map_err(|error| format!("{:#}", anyhow::Error::new(error)))
    });

    let engine = Engine {
        handle,
        catalog: catalog.clone(),
        secret: store.request_secret().clone(),
        neighbours: discovery.neighbours(),
        draining: lifecycle.soft(),
    };
    let settings = FrontSettings {
        body_limit: config.body_limit,
        loopback_names_only: config.is_loopback(),
        metrics: Arc::new(move || figures.render()),
        observe: Arc::new(metrics::http_request),
    };
    let grace = Duration::from_secs(config.grace_seconds);
    let endpoint = api::endpoint(engine, settings);
    let server = api::serve(listener, endpoint, lifecycle.soft(), lifecycle.hard());
    lifecycle.spawn("HTTP server", async { server.await.map_err(|error| error.to_string()) });

    if config.self_test
        && let Place::Local(backend, runner) = &running
    {
        let file = self_test::file_in(&config.data_dir);
        let (runner, demand, soft) = (runner.clone(), backend.demand(), lifecycle.soft());
        let catalog = catalog.clone();
        lifecycle.spawn("self-tests", async move {
            self_test::check_all(&catalog, &runner, file, demand, &soft).await;
            // A task that ends is a reason to end the daemon; this one is merely done.
            soft.cancelled().await;
            Ok(())
        });
    }

    if !config.no_consul_register
        && let Some(url) = config.advertised(address, discovery.is_here())
    {
        discovery.register(store.instance(), &url)?;
    }
    announce(address, &config, &running, &catalog);
    let ended = lifecycle.run(grace).await;
    running.close().await;
    discovery.close().await;
    store.close().await;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// What a place is made from.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    config: &'a Config,
    store: &'a Store,
    listening: SocketAddr,
}

/// Where programs run, with what must be ended at the end.
enum Place {
    Local(Arc<LocalBackend>, Runner),
    Nomad(Arc<NomadBackend>),
    Absent(Arc<AbsentBackend>),
}

impl Place {
    async fn open(
        Surroundings { config, store, listening }: Surroundings<'_>,
        catalog: &Catalog,
        discovery: &Discovery,
        stopping: CancellationToken,
    ) -> anyhow::Result<Place> {
        match config.backend {
            BackendKind::Local => Place::local(config, store.instance(), catalog).await,
            BackendKind::Nomad => {
                let settings = nomad_settings(config, store, listening, discovery).await?;
                let backend = NomadBackend::connect(settings, stopping).await?;
                Ok(Place::Nomad(Arc::new(backend)))
            }
        }
    }

    async fn local(config: &Config, instance: &str, catalog: &Catalog) -> anyhow::Result<Place> {
        let executable = std::env::current_exe().context("cannot find the own executable")?;
        let sandbox = match config.start_sandbox(instance.to_owned(), executable).await {
            Ok(sandbox) => sandbox,
            Err(SandboxError::Floor(reason)) => {
                tracing::error!("programs cannot be run on this machine: {reason}");
                catalog.find_tool_chains();
                catalog.hold(&reason);
                return Ok(Place::Absent(Arc::new(AbsentBackend::new(reason))));
            }
            Err(error) => return Err(anyhow::Error::new(error).context("cannot start the sandbox")),
        };
        match sandbox.lifted() {
            Some(why) => tracing::warn!(
                "NO SANDBOX, lifted by --unsafe-no-sandbox: every program can read and change \
                 whatever this user can. Why there is none: {why}"
            ),
            None if config.unsafe_no_sandbox => tracing::warn!(
                "--unsafe-no-sandbox changes nothing: this machine can have the sandbox, and \
                 programs run in it. Leave the flag out"
            ),
            None => {}
        }
        for layer in sandbox.layers().into_iter().filter(|layer| !layer.active) {
            tracing::warn!(
                layer = layer.name,
                "a layer of the sandbox is missing: {}",
                layer.detail
            );
        }
        catalog.find_tool_chains();
        let runner = Runner::new(sandbox, config.data_dir.join("programs"))
            .context("cannot use the folder for compiled programs")?;
        let backend = LocalBackend::new(runner.clone(), config.local_slots() as usize)
            .context("cannot start threads for programs")?;
        Ok(Place::Local(Arc::new(backend), runner))
    }

    fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Place::Local(backend, _) => backend.clone(),
            Place::Nomad(backend) => backend.clone(),
            Place::Absent(backend) => backend.clone(),
        }
    }

    async fn close(&self) {
        match self {
            Place::Local(backend, _) => backend.shut_down().await,
            Place::Nomad(backend) => backend.shut_down().await,
            Place::Absent(_) => {}
        }
    }
}

async fn nomad_settings(
    config: &Config,
    store: &Store,
    listening: SocketAddr,
    discovery: &Discovery,
) -> anyhow::Result<NomadSettings> {
    let client = ClientSettings::from_env(|name| std::env::var(name).ok());
    let Addresses { servers, nodes, known } = discovery.nomad(config, &client.tls).await?;
    let (owned, instance) = (config.clone(), store.instance().to_owned());
    let secret = store.request_secret().clone();
    let job = discovery.following(known, move |known| {
        let is_here = Addresses::are_here(known);
        let base = owned.advertised(listening, is_here);
        let requests = base.map(|base| RequestUrls { base, secret: secret.clone() });
        if requests.is_none() {
            tracing::warn!(
                "requests of more than 16 KiB when compressed will be refused: nodes know no address \
                 to fetch them from. --advertise-url names it"
            );
        }
        cluster::job_settings(&owned, &instance, is_here, requests)
    })?;
    let capacity = config.slots.map_or(NOMAD_SLOTS, |slots| slots as usize);
    Ok(NomadSettings { client, servers, nodes, job, capacity })
}

/// As many open files as the machine allows: each connection is one, and the usual 1,024 are few.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Says on standard output where the daemon is and what it can do.
fn announce(address: SocketAddr, config: &Config, place: &Place, catalog: &Catalog) {
    let backend = place.backend();
    let languages = catalog.list();
    let (there, missing): (Vec<_>, Vec<_>) = languages
        .iter()
        .partition(|entry| matches!(entry.status, Status::Ready | Status::Checking));
    let names = |entries: &[&crate::language::LanguageEntry]| {
        let ids = entries.iter().map(|entry| entry.definition.id.as_str());
        ids.collect::<Vec<_>>().join(" ")
    };
    say(format_args!("braindrill {} listens on http://{address}", env!("CARGO_PKG_VERSION")));
    say(format_args!("  documentation  http://{address}/docs"));
    say(format_args!("  data           {}", config.data_dir.display()));
    say(format_args!("  backend        {}, {} at once", backend.name(), backend.capacity()));
    match place {
        Place::Local(_, runner) if runner.sandbox().lifted().is_some() => {
            say("  sandbox        NONE: programs can do whatever this user can");
        }
        Place::Absent(_) => say("  sandbox        missing: submissions wait until there is one"),
        _ => {}
    }
    say(format_args!("  languages      {}", names(&there)));
    if !missing.is_empty() {
        let why = "why: /v1/languages, or braindrill doctor";
        say(format_args!("  not available  {} ({why})", names(&missing)));
    }
    tracing::info!(%address, backend = backend.name(), slots = backend.capacity(), "ready");
}
