//! Where programs run: the one backend of a daemon, made from its settings.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{
        Backend,
        absent::AbsentBackend,
        auto::AutoBackend,
        local::LocalBackend,
        nomad::{NomadBackend, NomadSettings, RequestUrls},
        pool::PoolBackend,
    },
    cli::{
        cluster,
        discovery::{Addresses, Discovery},
        worker_secret,
    },
    config::{BackendKind, Config},
    language::Catalog,
    nomad::ClientSettings,
    runner::{Folders, Runner},
    sandbox::SandboxError,
    store::Store,
    worker::{WorkerClient, WorkerSecret},
};

/// Executions at once in a Nomad cluster unless configured: Nomad queues what does not fit.
const NOMAD_SLOTS: usize = 16;

/// What a place is made from.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Store,
    pub(super) listening: SocketAddr,
}

/// Where programs run, with what must be ended at the end.
pub(super) enum Place {
    Local(Arc<LocalBackend>, Runner),
    Nomad(Arc<NomadBackend>),
    Pool(Arc<PoolBackend>),
    Absent(Arc<AbsentBackend>),
    /// Those before it, in their order.
    Auto(Vec<Place>, Arc<AutoBackend>),
}

impl Place {
    pub(super) async fn open(
        Surroundings { config, store, listening }: Surroundings<'_>,
        catalog: &Catalog,
        discovery: &Discovery,
        stopping: CancellationToken,
    ) -> anyhow::Result<Place> {
        let surroundings = Surroundings { config, store, listening };
        match config.backend {
            BackendKind::Local => {
                // What it lacks nobody has.
                catalog.find_tool_chains();
                Place::local(config, store.instance(), catalog).await
            }
            BackendKind::Nomad => Place::nomad(surroundings, discovery, stopping).await,
            BackendKind::Pool => {
                let secret = worker_secret::find(config.worker_secret_file.as_deref())?;
                Place::pool(config, discovery, secret)
            }
            BackendKind::Auto => Place::auto(surroundings, catalog, discovery, stopping).await,
        }
    }

    /// Warm workers where there is a secret for them, else Nomad, else this machine.
    async fn auto(
        surroundings: Surroundings<'_>,
        catalog: &Catalog,
        discovery: &Discovery,
        stopping: CancellationToken,
    ) -> anyhow::Result<Place> {
        let Surroundings { config, store, .. } = surroundings;
        let mut parts = Vec::new();
        match worker_secret::find(config.worker_secret_file.as_deref()) {
            Ok(secret) => parts.push(Place::pool(config, discovery, secret)?),
            Err(reason) => tracing::info!(%reason, "doing without warm workers"),
        }
        parts.push(Place::nomad(surroundings, discovery, stopping).await?);
        parts.push(Place::local(config, store.instance(), catalog).await?);
        let backends = parts.iter().map(Place::backend).collect();
        Ok(Place::Auto(parts, Arc::new(AutoBackend::new(backends))))
    }

    async fn nomad(
        Surroundings { config, store, listening }: Surroundings<'_>,
        discovery: &Discovery,
        stopping: CancellationToken,
    ) -> anyhow::Result<Place> {
        let settings = nomad_settings(config, store, listening, discovery).await?;
        let backend = NomadBackend::connect(settings, stopping).await?;
        Ok(Place::Nomad(Arc::new(backend)))
    }

    fn pool(config: &Config, discovery: &Discovery, secret: WorkerSecret) -> anyhow::Result<Place> {
        let client = WorkerClient::new(secret).context("cannot make a client of workers")?;
        let members = discovery.workers(config, &client)?;
        let most = config.slots.map(|slots| slots as usize);
        Ok(Place::Pool(Arc::new(PoolBackend::new(client, members, most))))
    }

    async fn local(config: &Config, instance: &str, catalog: &Catalog) -> anyhow::Result<Place> {
        let executable = std::env::current_exe().context("cannot find the own executable")?;
        let sandbox = match config.start_sandbox(instance.to_owned(), executable).await {
            Ok(sandbox) => sandbox,
            Err(SandboxError::Floor(reason)) => {
                tracing::error!("programs cannot be run on this machine: {reason}");
                if config.backend == BackendKind::Local {
                    catalog.hold(&reason);
                }
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
                layer = layer.name.as_str(),
                "a layer of the sandbox is missing: {}",
                layer.detail
            );
        }
        let folder = |name| config.data_dir.join(name);
        let folders = Folders {
            programs: folder("programs"),
            caches: config.caches(),
            compiled: Some((folder("compiled"), config.compile_cache_bytes)),
        };
        let runner = Runner::new(sandbox, folders)
            .context("cannot use the folders for compiled programs")?;
        let backend = LocalBackend::new(runner.clone(), config.local_slots() as usize)
            .context("cannot start threads for programs")?;
        Ok(Place::Local(Arc::new(backend), runner))
    }

    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        match self {
            Place::Local(backend, _) => backend.clone(),
            Place::Nomad(backend) => backend.clone(),
            Place::Pool(backend) => backend.clone(),
            Place::Absent(backend) => backend.clone(),
            Place::Auto(_, backend) => backend.clone(),
        }
    }

    /// The warm workers, where they are among the places.
    pub(super) fn warm_workers(&self) -> Option<&PoolBackend> {
        match self {
            Place::Pool(backend) => Some(backend),
            Place::Auto(parts, _) => parts.iter().find_map(Place::warm_workers),
            Place::Local(..) | Place::Nomad(_) | Place::Absent(_) => None,
        }
    }

    /// The other places that attempts go to.
    pub(super) fn beside_warm_workers(&self) -> Vec<Arc<dyn Backend>> {
        let Place::Auto(parts, _) = self else { return Vec::new() };
        // This one cannot run anything, and has a slot to say so.
        let is_other = |part: &&Place| !matches!(part, Place::Pool(_) | Place::Absent(_));
        parts.iter().filter(is_other).map(Place::backend).collect()
    }

    /// What runs programs on this machine, where that is done.
    pub(super) fn runner(&self) -> Option<&Runner> {
        match self {
            Place::Local(_, runner) => Some(runner),
            Place::Auto(parts, _) => parts.iter().find_map(Place::runner),
            Place::Nomad(_) | Place::Pool(_) | Place::Absent(_) => None,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Place::Local(backend, _) => backend.shut_down().await,
            Place::Nomad(backend) => backend.shut_down().await,
            Place::Pool(backend) => backend.shut_down().await,
            Place::Absent(_) => {}
            Place::Auto(parts, _) => {
                for part in parts {
                    Box::pin(part.close()).await;
                }
            }
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
