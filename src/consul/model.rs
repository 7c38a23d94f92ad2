//! What Consul answers and is told, as far as we need it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize};

use super::go_duration;

/// One healthy instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Unique on its node only.
    pub id: String,
    /// The service's name.
    pub service: String,
    /// The name of the node whose agent registered it.
    pub node: String,
    /// The address of that node.
    pub node_address: String,
    /// Where it serves: its own address, or its node's when it registered none.
    pub address: String,
    /// 0 when it registered none.
    pub port: u16,
    /// In no order that means anything.
    pub tags: Vec<String>,
    /// What it says about itself.
    pub meta: BTreeMap<String, String>,
}

impl Instance {
    /// `HOST:PORT` as it stands in a URL.
    pub fn authority(&self) -> String {
        if self.address.contains(':') {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

/// An entry of `/v1/health/service/:name`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthEntry {
    node: HealthNode,
    service: Registered,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthNode {
    node: String,
    address: String,
}

impl From<HealthEntry> for Instance {
    fn from(entry: HealthEntry) -> Self {
        let HealthEntry { node, service } = entry;
        let address =
            if service.address.is_empty() { node.address.clone() } else { service.address };
        Instance {
            id: service.id,
            service: service.name,
            node: node.node,
            node_address: node.address,
            address,
            port: service.port,
            tags: service.tags,
            meta: service.meta,
        }
    }
}

/// A service as an agent has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// Unique on the agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service's name.
    #[serde(rename = "Service")]
    pub name: String,
    /// Empty when it is the agent's.
    #[serde(rename = "Address", default, deserialize_with = "null_is_empty")]
    pub address: String,
    /// 0 when it has none.
    #[serde(rename = "Port", default)]
    pub port: u16,
    /// In no order that means anything.
    #[serde(rename = "Tags", default, deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// What it says about itself.
    #[serde(rename = "Meta", default, deserialize_with = "null_is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// Go writes null for what is empty, now and then.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A service to be registered with an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDefinition {
    /// Unique on the agent: registering the same again changes it.
    pub id: String,
    /// By which it is found.
    pub name: String,
    /// Where it serves. Empty means the agent's address.
    pub address: String,
    /// Where it serves.
    pub port: u16,
    /// By which it is chosen.
    pub tags: Vec<String>,
    /// What it says about itself: at most 64 pairs, keys up to 128 characters of A-Z, a-z, 0-9, `_`
    /// and `-`, values up to 512.
    pub meta: BTreeMap<String, String>,
    /// How Consul knows that it is well.
    pub check: Check,
}

/// How Consul knows that a service is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Who looks.
    pub kind: CheckKind,
    /// How long it may be critical before Consul forgets the service: one minute at least, and
    /// Consul looks every 30 s. It is for daemons that ended without saying so.
    pub deregister_after: Duration,
}

/// Who looks whether a service is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// Consul asks this URL, and any 2xx will do. Critical until it was asked first, which is at a
    /// random time within the interval.
    Http {
        /// Asked with GET, by the agent.
        url: String,
        /// How often.
        interval: Duration,
        /// How long an answer may take.
        timeout: Duration,
    },
    /// The service says so itself, with [`super::Client::pass_check`]. Critical until it first did.
    Ttl {
        /// Critical when it did not say so for this time.
        ttl: Duration,
    },
}

impl ServiceDefinition {
    /// The check's id. Explicit, since the default changed its form between versions.
    pub fn check_id(&self) -> String {
        format!("service:{}", self.id)
    }

    /// Whether that is what the agent has. An agent that was started again from a file of its own
    /// may have an old one.
    pub(super) fn is(&self, registered: &Registered) -> bool {
        let sorted = |tags: &[String]| {
            let mut tags = tags.to_vec();
            tags.sort();
            tags
        };
        self.id == registered.id
            && self.name == registered.name
            && self.address == registered.address
            && self.port == registered.port
            && self.meta == registered.meta
            && sorted(&self.tags) == sorted(&registered.tags)
    }

    pub(super) fn body(&self) -> impl Serialize + '_ {
        let mut check = CheckBody {
            check_id: self.check_id(),
            deregister_critical_service_after: go_duration(self.check.deregister_after),
            ..CheckBody::default()
        };
        match &self.check.kind {
            CheckKind::Http { url, interval, timeout } => {
                check.http = Some(url);
                check.interval = Some(go_duration(*interval));
                check.timeout = Some(go_duration(*timeout));
            }
            CheckKind::Ttl { ttl } => check.ttl = Some(go_duration(*ttl)),
        }
        ServiceBody {
            id: &self.id,
            name: &self.name,
            address: &self.address,
            port: self.port,
            tags: &self.tags,
            meta: &self.meta,
            check,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceBody<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: &'a str,
    port: u16,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    check: CheckBody<'a>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "PascalCase")]
struct CheckBody<'a> {
    #[serde(rename = "CheckID")]
    check_id: String,
    deregister_critical_service_after: String,
    #[serde(rename = "HTTP", skip_serializing_if = "Option::is_none")]
    http: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

/// Which agent it is that we ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Agent {
    /// Of Consul.
    pub version: String,
    /// Where it is.
    pub datacenter: String,
    /// The name of its node.
    pub node_name: String,
    /// Whether it is one of the servers.
    pub server: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentSelf {
    pub(super) config: Agent,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instances(text: &str) -> Vec<Instance> {
        let entries: Vec<HealthEntry> = serde_json::from_str(text).unwrap();
        entries.into_iter().map(Instance::from).collect()
    }

    #[test]
    fn a_recorded_answer_is_read() {
        let found = instances(include_str!("../../tests/data/consul-1.8.7/health-nomad-http.json"));
        let [server] = &found[..] else { panic!("{found:?}") };
        assert_eq!(server.service, "nomad");
        assert_eq!(server.id, "_nomad-server-k5zjlaqx5qv3sz7oksmrxafcd6wv45fp");
        assert_eq!(server.authority(), "127.0.0.1:4646");
        assert_eq!(server.tags, ["http"]);
        assert_eq!(server.meta["external-source"], "nomad");
        // This one has null for its meta.
        let found = instances(include_str!("../../tests/data/consul-1.8.7/health-ttl.json"));
        assert_eq!(found[0].meta, BTreeMap::new());
    }

    #[test]
    fn a_service_without_an_address_is_at_its_node() {
        let entry = |address: &str, node: &str| {
            let entry = json!([{
                "Node": { "Node": "one", "Address": node },
                "Service": { "ID": "a", "Service": "a", "Address": address, "Port": 80, "Tags": null },
            }]);
            instances(&entry.to_string()).remove(0)
        };
        assert_eq!(entry("", "10.0.0.1").authority(), "10.0.0.1:80");
        assert_eq!(entry("10.0.0.2", "10.0.0.1").authority(), "10.0.0.2:80");
        assert_eq!(entry("10.0.0.2", "10.0.0.1").node_address, "10.0.0.1");
        assert_eq!(entry("", "fd00::1").authority(), "[fd00::1]:80");
    }

    #[test]
    fn the_agent_says_which_it_is() {
        let text = include_str!("../../tests/data/consul-1.8.7/agent-self.json");
        let AgentSelf { config } = serde_json::from_str(text).unwrap();
        assert_eq!((config.version.as_str(), config.datacenter.as_str()), ("1.8.7", "dc1"));
        assert!(config.server);
    }

    #[test]
    fn a_definition_is_known_again_whatever_the_order_of_its_tags() {
        let definition = ServiceDefinition {
            id: "a-1".to_owned(),
            name: "a".to_owned(),
            address: String::new(),
            port: 80,
            tags: vec!["x".to_owned(), "y".to_owned()],
            meta: BTreeMap::new(),
            check: Check {
                kind: CheckKind::Ttl { ttl: Duration::from_secs(15) },
                deregister_after: Duration::from_secs(60),
            },
        };
        let has = |change: serde_json::Value| {
            let mut service = json!({
                "ID": "a-1", "Service": "a", "Address": "", "Port": 80, "Tags": ["y", "x"], "Meta": null,
            });
            service.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            definition.is(&serde_json::from_value(service).unwrap())
        };
        assert!(has(json!({})));
        for other in
            [json!({ "Port": 81 }), json!({ "Tags": ["x"] }), json!({ "Meta": { "a": "b" } })]
        {
            assert!(!has(other.clone()), "{other}");
        }
        assert_eq!(
            serde_json::to_value(definition.body()).unwrap(),
            json!({
                "ID": "a-1", "Name": "a", "Address": "", "Port": 80, "Tags": ["x", "y"], "Meta": {},
                "Check": {
                    "CheckID": "service:a-1",
                    "DeregisterCriticalServiceAfter": "60000ms",
                    "TTL": "15000ms",
                },
            })
        );
    }
}
