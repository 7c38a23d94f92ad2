//! Where logs are read from: the node that has them where it is known to answer, else any server, which
//! asks the node in turn.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use reqwest::Url;
use tokio::sync::watch;

use super::{job::TASK, reader::is_absent};
use crate::nomad::{Allocation, Client, LogStream, NomadError};

/// What is read of an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// Its log from this byte on.
    Log {
        offset: u64,
        /// Whether to go on with what is written later.
        follow: bool,
    },
    /// A file in its folder.
    File(&'static str),
}

/// Finds the agent to read an allocation's files from.
#[derive(Debug)]
pub(super) struct Nodes {
    client: Client,
    /// The agents that Consul says are well. Empty without Consul.
    healthy: watch::Receiver<Vec<Url>>,
    /// Where each node's agent is, by the node's id: `host:port`.
    addresses: Mutex<HashMap<String, String>>,
}

impl Nodes {
    pub(super) fn new(client: Client, healthy: watch::Receiver<Vec<Url>>) -> Nodes {
        Nodes { client, healthy, addresses: Mutex::default() }
    }

    /// Reads files of this allocation: from its node first, and where that cannot be reached, through
    /// a server.
    ///
    /// # Errors
    /// What the server answered.
    pub(super) async fn read(
        &self,
        allocation: &Allocation,
        wanted: Wanted,
    ) -> Result<LogStream, NomadError> {
        if let Some(node) = self.node_of(allocation).await {
            match open(&node, &allocation.id, wanted).await {
                Ok(stream) => return Ok(stream),
                // It is the one who knows.
                Err(error) if is_absent(&error) => return Err(error),
                // Whatever it is that keeps us from it, a server may be let in.
                Err(_) => {}
            }
        }
        open(&self.client, &allocation.id, wanted).await
    }

    /// A client of the allocation's node, where Consul says that it is well.
    async fn node_of(&self, allocation: &Allocation) -> Option<Client> {
        if self.healthy.borrow().is_empty() {
            return None;
        }
        let address = self.address_of(&allocation.node_id).await?;
        let healthy = self.healthy.borrow();
        let url = healthy.iter().find(|url| authority(url).as_deref() == Some(&*address))?;
        Some(self.client.at(url.clone()))
    }

    async fn address_of(&self, node_id: &str) -> Option<String> {
        let known = || self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = known().get(node_id) {
            return Some(address.clone());
        }
        // Takes node:read; without it, servers do.
        let node = self.client.node(node_id).await.ok()??;
        known().insert(node_id.to_owned(), node.http_addr.clone());
        Some(node.http_addr)
    }
}

async fn open(agent: &Client, id: &str, wanted: Wanted) -> Result<LogStream, NomadError> {
    match wanted {
        Wanted::Log { offset, follow: false } => agent.stdout(id, TASK, offset).await,
        Wanted::Log { offset, follow: true } => agent.follow_stdout(id, TASK, offset).await,
        Wanted::File(path) => agent.file(id, path).await,
    }
}

/// Host and port, as a node names its own.
fn authority(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}
