//! Where Nomad and Consul are: from the settings, from the variables that their own commands read, and
//! for Nomad from Consul.
//!
//! ```text
//!  --nomad-addr, NOMAD_ADDR ──────────────> servers
//!  Consul: nomad (tag http) ──> task ─────> servers, when neither is given
//!          nomad-client (tag http) ─ task ─> nodes, whose logs are read from them
//!          braindrill-worker (tag http) ─ task ─> warm workers, unless --workers names them
//!          braindrill, braindrill-worker <── registration of daemons and workers
//! ```

mod service;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::Url;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::cluster;
use crate::{
    api::Neighbours,
    backend::pool::{Member, members_of, watch_addresses},
    config::{BackendKind, Config},
    consul::{self, Background, Instance, KeyState},
    dispatcher::PartStatus,
    nomad::{self, DEFAULT_ADDRESS, Servers},
    tls::TlsSettings,
    worker::WorkerClient,
};

pub(super) use self::service::Listing;

/// The tag of the services that answer HTTP: Nomad's servers register two others beside them.
const HTTP: &str = "http";

/// How long the start waits for Consul's first answer; without one, it goes on with what it has.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// What workers are called in Consul.
const WORKERS: &str = "braindrill-worker";

/// What the daemon knows of the cluster around it, kept up to date by tasks of its own.
#[derive(Debug)]
pub(super) struct Discovery {
    consul: Option<consul::Client>,
    background: Background,
    tasks: TaskTracker,
    stopping: CancellationToken,
    first_answer_by: Instant,
}

/// Where Nomad's servers and nodes are.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) servers: Servers,
    pub(super) nodes: watch::Receiver<Vec<Url>>,
    /// The servers that are known, from now on: to tell whether Nomad is on this machine.
    pub(super) known: watch::Receiver<Vec<Url>>,
}

impl Addresses {
    /// Whether Nomad is on this machine, as far as is known now.
    pub(super) fn are_here(known: &[Url]) -> bool {
        known.first().is_some_and(cluster::is_this_machine)
    }
}

impl Discovery {
    /// A client of Consul where there is to be one. Asks nothing yet. `seed` differs between daemons;
    /// `stopping` ends what goes on by itself.
    ///
    /// # Errors
    /// The settings of Consul make no sense.
    pub(super) fn new(
        config: &Config,
        seed: &str,
        stopping: CancellationToken,
    ) -> anyhow::Result<Discovery> {
        let tasks = TaskTracker::new();
        let background = Background::new(tasks.clone(), stopping.clone(), seed);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_named = config.consul_addr.is_some() || variable("CONSUL_HTTP_ADDR").is_some();
        // On one machine, nothing is asked for that nobody has spoken of.
        let wanted = !config.no_consul && (is_named || config.backend != BackendKind::Local);
        let consul = if wanted {
            let mut settings = consul::ClientSettings::from_env(variable)?;
            if let Some(address) = &config.consul_addr {
                settings.address.clone_from(address);
            }
            settings.datacenter.clone_from(&config.consul_datacenter);
            Some(consul::Client::new(&settings)?)
        } else {
            None
        };
        let first_answer_by = Instant::now() + FIRST_ANSWER;
        Ok(Discovery { consul, background, tasks, stopping, first_answer_by })
    }

    /// Where Nomad is: what was said explicitly wins, and the log says so.
    ///
    /// # Errors
    /// An address makes no sense.
    pub(super) async fn nomad(
        &self,
        config: &Config,
        tls: &TlsSettings,
    ) -> anyhow::Result<Addresses> {
        let variable = |name: &str| std::env::var(name).ok();
        let explicit = config.nomad_addr.clone().or_else(|| nomad::address_from_env(variable));
        let explicit = explicit.map(|text| nomad::addresses(&text)).transpose()?;
        let scheme = scheme(explicit.as_deref().and_then(<[Url]>::first), tls);
        let nodes = match &self.consul {
            Some(client) => {
                let name = format!("{}-client", config.nomad_service);
                self.urls(client, &name, scheme, Vec::new(), Keep::Nothing)
            }
            None => watch::Sender::default().subscribe(),
        };
        let default = || nomad::addresses(DEFAULT_ADDRESS).expect("it is an address");
        let fixed = |urls: Vec<Url>| (Servers::fixed(urls.clone()), watch::channel(urls).1);
        let (servers, known) = match (explicit, &self.consul) {
            (Some(urls), _) => {
                let servers = joined(&urls);
                tracing::info!(
                    nomad.servers = servers,
                    "asking Nomad where the settings say it is"
                );
                fixed(urls)
            }
            (None, Some(client)) => {
                // Until Consul knows better.
                let name = &config.nomad_service;
                let mut known = self.urls(client, name, scheme, default(), Keep::LastKnown);
                let told = tokio::time::timeout_at(self.first_answer_by, known.changed())
                    .await
                    .is_ok_and(|changed| changed.is_ok());
                let urls = known.borrow().clone();
                let servers = joined(&urls);
                if told {
                    tracing::info!(nomad.servers = servers, "asking Nomad where Consul says it is");
                } else {
                    tracing::info!(
                        nomad.servers = servers,
                        "Consul has not said where Nomad is: asking at the usual address until it does"
                    );
                }
                (Servers::watched(known.clone()), known)
            }
            (None, None) => fixed(default()),
        };
        Ok(Addresses { servers, nodes, known })
    }

    /// What is made of a list, from now on: made anew whenever the list changes, and kept where that
    /// fails.
    ///
    /// # Errors
    /// It cannot be made of the list as it is now.
    pub(super) fn following<T: PartialEq + Send + Sync + 'static>(
        &self,
        mut list: watch::Receiver<Vec<Url>>,
        make: impl Fn(&[Url]) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<watch::Receiver<T>> {
        let (sender, made) = watch::channel(make(&list.borrow_and_update())?);
        self.tasks.spawn(self.stopping.clone().run_until_cancelled_owned(async move {
            while list.changed().await.is_ok() {
                let Ok(next) = make(&list.borrow_and_update()) else { continue };
                sender.send_if_modified(|last| {
                    let is_news = *last != next;
                    *last = next;
                    is_news
                });
            }
        }));
        Ok(made)
    }

    /// The URLs of a service's healthy instances, from now on.
    fn urls(
        &self,
        client: &consul::Client,
        service: &str,
        scheme: &'static str,
        first: Vec<Url>,
        keep: Keep,
    ) -> watch::Receiver<Vec<Url>> {
        let mut instances =
            consul::watch_service(client.clone(), service, Some(HTTP), &self.background);
        let (sender, receiver) = watch::channel(first);
        let (stopping, service) = (self.stopping.clone(), service.to_owned());
        self.tasks.spawn(stopping.run_until_cancelled_owned(async move {
            while instances.changed().await.is_ok() {
                let known = instances.borrow_and_update().clone().unwrap_or_default();
                let urls = urls_of(&known, scheme);
                if urls.is_empty() && keep == Keep::LastKnown {
                    tracing::warn!(
                        consul.service = service,
                        "Consul knows no healthy instance: what was known before is asked"
                    );
                    continue;
                }
                sender.send_replace(urls);
            }
        }));
        receiver
    }

    /// Whether Consul is on this machine, so that it reaches what only this machine does.
    pub(super) fn is_here(&self) -> bool {
        self.consul.as_ref().is_some_and(|client| cluster::is_this_machine(client.address()))
    }

    /// The warm workers, from now on: where the settings say, else as Consul says.
    ///
    /// # Errors
    /// An address makes no sense, or there is nobody to ask for them.
    pub(super) fn workers(
        &self,
        config: &Config,
        client: &WorkerClient,
    ) -> anyhow::Result<watch::Receiver<Vec<Member>>> {
        let (sender, members) = watch::channel(Vec::new());
        let stopping = self.stopping.clone();
        if let Some(text) = &config.workers {
            let urls = nomad::addresses(text).context("--workers has an address that is none")?;
            let watching = watch_addresses(client.clone(), urls, sender);
            self.tasks.spawn(stopping.run_until_cancelled_owned(watching));
            return Ok(members);
        }
        let consul = self.consul.clone().context(
            "without Consul nobody says where warm workers are: --workers names them by their URLs",
        )?;
        let mut instances = consul::watch_service(consul, WORKERS, Some(HTTP), &self.background);
        self.tasks.spawn(stopping.run_until_cancelled_owned(async move {
            while instances.changed().await.is_ok() {
                let known = instances.borrow_and_update().clone().unwrap_or_default();
                sender.send_replace(members_of(&known));
            }
        }));
        Ok(members)
    }

    /// Has Consul list a daemon or a worker while it runs.
    ///
    /// # Errors
    /// Its URL has no host or port.
    pub(super) fn list(&self, listing: &Listing) -> anyhow::Result<()> {
        let Some(client) = &self.consul else { return Ok(()) };
        let service = listing.definition()?;
        consul::keep_registered(client.clone(), service, &self.background);
        Ok(())
    }

    /// The settings that Consul holds, from now on; none without Consul.
    pub(super) fn settings(&self, key: &str) -> Option<watch::Receiver<KeyState>> {
        let client = self.consul.clone()?;
        Some(consul::watch_key(client, key, &self.background))
    }

    /// Until when the start waits for what Consul says.
    pub(super) fn first_answer_by(&self) -> Instant {
        self.first_answer_by
    }

    /// How Consul is, where it is asked: what it said last holds while it is away.
    pub(super) fn neighbours(&self) -> Neighbours {
        let known = self.consul.as_ref().map(|_| self.background.clone());
        Arc::new(move || {
            let consul = known.iter().map(|background| match background.troubles() {
                troubles if troubles.is_empty() => ("consul", PartStatus::Ok),
                troubles => ("consul", PartStatus::Degraded(sentence(&troubles))),
            });
            consul.collect()
        })
    }

    /// Waits until the daemon is taken out of Consul, which begins when it is told to stop; a few seconds
    /// at the most.
    pub(super) async fn close(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What an empty answer of Consul makes of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// An empty list: something else is asked then.
    Nothing,
    /// What it was: a Consul that has just been started again has not heard of its services yet, and
    /// to ask where nobody is costs less than not to ask.
    LastKnown,
}

/// How agents that Consul names are asked: it says host and port alone. An address that was given says
/// how, since all agents of a cluster do it alike; else settings of TLS do.
fn scheme(explicit: Option<&Url>, tls: &TlsSettings) -> &'static str {
    let is_secure = match explicit {
        Some(url) => url.scheme() == "https",
        None => *tls != TlsSettings::default(),
    };
    if is_secure { "https" } else { "http" }
}

/// The first of what does not work; the others mostly have the same cause.
fn sentence(troubles: &[String]) -> String {
    let first = &troubles[0];
    match troubles.len() - 1 {
        0 => first.clone(),
        others => format!("{first} (and {others} more)"),
    }
}

fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
}

fn urls_of(instances: &[Instance], scheme: &str) -> Vec<Url> {
    let parse = |each: &Instance| Url::parse(&format!("{scheme}://{}", each.authority())).ok();
    let mut urls: Vec<_> =
        instances.iter().filter(|each| each.port != 0).filter_map(parse).collect();
    urls.sort();
    urls.dedup();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_nodes_as_safely_as_to_the_servers() {
        let url = |text: &str| Url::parse(text).unwrap();
        let own = TlsSettings { ca_cert: Some("ca.pem".into()), ..TlsSettings::default() };
        let plain = TlsSettings::default();
        assert_eq!(scheme(Some(&url("https://nomad.example:4646")), &plain), "https");
        assert_eq!(scheme(Some(&url("http://127.0.0.1:4646")), &own), "http");
        assert_eq!(scheme(None, &own), "https");
        assert_eq!(scheme(None, &plain), "http");
    }

    #[tokio::test]
    async fn whether_nomad_is_here_follows_what_is_known() {
        let config = Config { no_consul: true, ..Config::default() };
        let discovery = Discovery::new(&config, "", CancellationToken::new()).unwrap();
        let url = |text: &str| vec![Url::parse(text).unwrap()];
        let (servers, known) = watch::channel(url(DEFAULT_ADDRESS));
        let mut is_here =
            discovery.following(known, |known| Ok(Addresses::are_here(known))).unwrap();
        assert!(*is_here.borrow_and_update(), "where it is asked until Consul says where it is");
        servers.send_replace(url("http://10.0.0.1:4646"));
        is_here.changed().await.unwrap();
        assert!(!*is_here.borrow());
        discovery.close().await;
    }

    #[test]
    fn each_agent_is_asked_once_and_only_where_it_says_where() {
        let instance = |address: &str, port| Instance {
            id: format!("{address}{port}"),
            service: "nomad".to_owned(),
            node: "n".to_owned(),
            node_address: address.to_owned(),
            address: address.to_owned(),
            port,
            tags: Vec::new(),
            meta: Default::default(),
        };
        let all = [
            instance("10.0.0.2", 4646),
            instance("10.0.0.1", 4646),
            instance("10.0.0.2", 4646),
            instance("10.0.0.3", 0),
            instance("fd00::1", 4646),
        ];
        let urls: Vec<_> = urls_of(&all, "https").iter().map(Url::to_string).collect();
        let expected =
            ["https://10.0.0.1:4646/", "https://10.0.0.2:4646/", "https://[fd00::1]:4646/"];
        assert_eq!(urls, expected);
    }
}
