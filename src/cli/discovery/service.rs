//! How a daemon or a worker stands in Consul's list of services.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use reqwest::Url;

use super::{HTTP, WORKERS};
use crate::consul::{Check, CheckKind, ServiceDefinition};

/// What Consul lists.
#[derive(Debug)]
pub(in crate::cli) struct Listing {
    id: String,
    name: &'static str,
    url: Url,
    meta: BTreeMap<String, String>,
    /// How often Consul looks whether it is well.
    check_every: Duration,
    /// When Consul forgets one that ended without a word; a minute at the least (1.8).
    forget_after: Duration,
}

impl Listing {
    /// A daemon of this installation, as others reach it.
    pub(in crate::cli) fn of_daemon(instance: &str, url: Url) -> Listing {
        Listing {
            id: format!("braindrill-{instance}"),
            name: "braindrill",
            url,
            meta: BTreeMap::from([
                ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
                ("instance".to_owned(), instance.to_owned()),
            ]),
            check_every: Duration::from_secs(10),
            forget_after: Duration::from_secs(600),
        }
    }

    /// A worker, as daemons reach it. Looked at more often: until Consul has noticed that one is gone,
    /// each attempt that goes there is tried in vain.
    pub(in crate::cli) fn of_worker(id: &str, url: Url, meta: BTreeMap<String, String>) -> Listing {
        Listing {
            id: format!("{WORKERS}-{id}"),
            name: WORKERS,
            url,
            meta,
            check_every: Duration::from_secs(2),
            forget_after: Duration::from_secs(60),
        }
    }

    pub(super) fn definition(&self) -> anyhow::Result<ServiceDefinition> {
        let host = self.url.host_str().context("the advertised URL has no host")?;
        let port = self.url.port_or_known_default().context("the advertised URL has no port")?;
        let base = self.url.as_str().trim_end_matches('/');
        Ok(ServiceDefinition {
            id: self.id.clone(),
            name: self.name.to_owned(),
            address: host.trim_matches(['[', ']']).to_owned(),
            port,
            tags: vec![HTTP.to_owned()],
            meta: self.meta.clone(),
            check: Check {
                kind: CheckKind::Http {
                    url: format!("{base}/healthz/live"),
                    interval: self.check_every,
                    timeout: (self.check_every / 2).max(Duration::from_secs(2)),
                },
                deregister_after: self.forget_after,
            },
        })
    }
}
