//! `braindrill serve`: the daemon. The only place that wires the parts together.
//!
//! ```text
//!  listener ──> api ──> dispatcher ──> backend ──> sandbox, Nomad or warm workers
//!                 └────────┴──> store
//! ```

mod place;
mod scaling;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serde::Serialize;

use self::place::{Place, Surroundings};
use super::{
    cluster_args::{ClusterArgs, DaemonClusterArgs, PoolArgs},
    discovery::{Discovery, Listing},
    live_settings::{Follower, Levers},
    say, upkeep,
};
use crate::{
    api::{self, Engine, FrontSettings},
    config::{BackendKind, Config},
    connections,
    dispatcher::{Dispatcher, Parts, Settings},
    language::{Catalog, Status},
    lifecycle::Lifecycle,
    metrics,
    store::{Store, StoreOptions},
    submission::SystemClock,
};

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
    /// Where programs run: on this machine; in a Nomad cluster, which Consul or --nomad-addr names; or on
    /// warm workers, which Consul or --workers names; `auto`: each attempt on a warm worker, else in Nomad,
    /// else here, as can be now [default: local]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<BackendKind>,
    /// A file with more languages, or with others in place of those that come with braindrill
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    languages: Option<PathBuf>,
    /// Programs at once [default: as many as processors; with Nomad 16; with warm workers as many as their
    /// slots]
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
    /// As root: the first of the uids that programs run as: one for each slot, and two more for each,
    /// up to 64, for interpreters that wait [default: 60000]
    #[arg(long, value_name = "UID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    first_uid: Option<u32>,
    /// Where what tool chains need made once is kept, such as Go's compiled standard library [default:
    /// caches in the data folder]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_dir: Option<PathBuf>,
    /// Bytes of memory for interpreters that are started before there is a program for them; 0 for none
    /// [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    prepared_bytes: Option<u64>,
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
    /// Most bytes of compiled programs that are kept, so that the same source of the same owner is not
    /// compiled again; 0 keeps none [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    compile_cache_bytes: Option<u64>,
    #[command(flatten)]
    #[serde(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    #[serde(flatten)]
    daemon: DaemonClusterArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pool: PoolArgs,
}

/// Runs the subcommand.
///
/// # Errors
/// The daemon could not start, or did not end well.
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

    scaling::begin(&config, &store, (&running, &handle), &discovery, &mut lifecycle).await?;
    let engine = Engine {
        handle,
        catalog: catalog.clone(),
        secret: store.request_secret().clone(),
        neighbours: discovery.neighbours(),
        // The other half is for everything else.
        followers: Arc::new(tokio::sync::Semaphore::new((connections::most() / 2).max(1))),
        draining: lifecycle.soft(),
    };
    let sandbox = running.runner().map(|runner| runner.sandbox().clone());
    let (counted, soft) = (figures.clone(), lifecycle.soft());
    lifecycle.spawn("metrics", async move {
        metrics::keep_up(counted, soft).await;
        Ok(())
    });
    let render = move || {
        sandbox.iter().for_each(|sandbox| metrics::handed_over(sandbox.handed_over()));
        figures.render()
    };
    let settings = FrontSettings {
        body_limit: config.body_limit,
        loopback_names_only: config.is_loopback(),
        metrics: Arc::new(render),
        observe: Arc::new(metrics::http_request),
    };
    let grace = Duration::from_secs(config.grace_seconds);
    let endpoint = api::endpoint(engine, settings);
    let server = connections::serve(
        listener,
        endpoint,
        connections::Patience::default(),
        lifecycle.soft(),
        lifecycle.hard(),
    );
    lifecycle.spawn("HTTP server", async { server.await.map_err(|error| error.to_string()) });

    if let Some(runner) = running.runner() {
        upkeep::watch_room(&mut lifecycle, runner.clone());
    }
    if config.self_test
        && let Place::Local(backend, runner) = &running
    {
        let (runner, demand) = (runner.clone(), backend.demand());
        let folder = config.data_dir.clone();
        upkeep::self_tests(&mut lifecycle, catalog.clone(), runner, demand, folder);
    }

    if !config.no_consul_register
        && let Some(url) = config.advertised(address, discovery.is_here())
    {
        discovery.list(&Listing::of_daemon(store.instance(), url))?;
    }
    announce(address, &config, &running, &catalog);
    let ended = lifecycle.run(grace).await;
    running.close().await;
    discovery.close().await;
    store.close().await;
    ended?;
    Ok(ExitCode::SUCCESS)
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
