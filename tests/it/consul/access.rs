//! Who asks, where, and what is said when that does not do.

use braindrill::{
    consul::{Client, ClientSettings, ConsulError, Problem, watch_key},
    error_chain::error_chain,
    tls::TlsSettings,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

use super::{Backstage, enter, poll};
use crate::support::consul_agent::ConsulAgent;

const MASTER: &str = "11111111-2222-3333-4444-555555555555";
const UNKNOWN: &str = "00000000-1111-2222-3333-444444444444";

fn refusal<T: std::fmt::Debug>(result: Result<T, ConsulError>) -> (Problem, String) {
    let error = result.unwrap_err();
    (error.problem().expect("Consul answered"), error_chain(&error))
}

#[tokio::test]
async fn the_token_decides_what_is_allowed() {
    let acl = json!({ "acl": {
        "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER },
    }});
    let with_master = |settings: &mut ClientSettings| settings.token = Some(MASTER.to_owned());
    let Some(agent) = ConsulAgent::start_with(acl, with_master).await else { return };
    let client = |token: Option<&str>| {
        let token = token.map(str::to_owned);
        Client::new(&ClientSettings { token, ..agent.settings() }).unwrap()
    };
    let (good, unknown, none) = (agent.client(), client(Some(UNKNOWN)), client(None));
    good.put_key("braindrill/settings", "{}").await.unwrap();
    enter(&good, "one", "http").await;

    let (problem, reason) = refusal(unknown.get_key("braindrill/settings", None).await);
    assert_eq!(
        (problem, reason.as_str()),
        (Problem::Forbidden, "Consul answered 403: ACL not found")
    );
    for denied in [
        refusal(unknown.healthy_instances("braindrill-worker", None, None).await),
        refusal(unknown.put_key("braindrill/settings", "").await),
        refusal(none.get_key("braindrill/settings", None).await),
        refusal(none.deregister("one").await),
    ] {
        assert_eq!(denied.0, Problem::Forbidden, "{}", denied.1);
    }
    // Consul filters lists instead of refusing them.
    let filtered = none.healthy_instances("braindrill-worker", None, None).await.unwrap();
    assert_eq!(filtered.value, []);
    assert_eq!(
        good.healthy_instances("braindrill-worker", None, None).await.unwrap().value.len(),
        1
    );

    // A watch says what is wrong with it.
    let stage = Backstage::new();
    let _key = watch_key(unknown, "braindrill/settings", &stage.background);
    let troubles = async || stage.background.troubles();
    let troubles = poll("in trouble", troubles, |troubles| !troubles.is_empty()).await;
    let why = "Consul does not allow it with the daemon's token";
    assert_eq!(troubles, [format!("key braindrill/settings: {why}")]);
    stage.end().await;
    assert_eq!(stage.background.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn another_datacenter_is_asked_for_by_its_name() {
    let Some(agent) = ConsulAgent::start_with(json!({ "datacenter": "here" }), |_| {}).await else {
        return;
    };
    let client = |datacenter: &str| {
        let datacenter = Some(datacenter.to_owned());
        Client::new(&ClientSettings { datacenter, ..agent.settings() }).unwrap()
    };
    let about = agent.client().agent().await.unwrap();
    assert_eq!((about.datacenter.as_str(), about.server), ("here", true));
    client("here").put_key("a/b c", "value").await.unwrap();
    let read = agent.client().get_key("a/b c", None).await.unwrap().value;
    assert_eq!(read.as_deref(), Some(&b"value"[..]));
    let (problem, reason) = refusal(client("there").get_key("a/b c", None).await);
    assert_eq!(problem, Problem::DatacenterAway);
    assert_eq!(reason, "Consul answered 500: No path to datacenter");
    // A service is registered with the agent, whatever datacenter is asked for others.
    enter(&client("there"), "one", "http").await;
    assert!(agent.client().registered("one").await.unwrap().is_some());
}

#[tokio::test]
async fn a_consul_that_is_not_there_is_said_to_be_out_of_reach() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = ClientSettings { address: free.to_string(), ..ClientSettings::default() };
    let error = Client::new(&settings).unwrap().agent().await.unwrap_err();
    assert!(matches!(error, ConsulError::Unreachable(_)), "{error:?}");
    let reason = error_chain(&error);
    assert!(reason.starts_with("Consul cannot be reached: "), "{reason}");
    assert!(reason.contains(&free.to_string()) && reason.contains("refused"), "{reason}");
}

/// A certificate for this name, signed by another or by itself.
fn certificate(
    name: &str,
    by: Option<&(rcgen::Certificate, KeyPair)>,
) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some((authority, authority_key)) => params.signed_by(&key, authority, authority_key),
        None => {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params.self_signed(&key)
        }
    };
    (certificate.unwrap(), key)
}

#[tokio::test]
async fn consul_is_asked_over_mutual_tls_by_a_name_that_is_no_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let authority = certificate("an authority", None);
    std::fs::write(file("ca.pem"), authority.0.pem()).unwrap();
    for name in ["server.dc1.consul", "client.dc1.consul"] {
        let (certificate, key) = certificate(name, Some(&authority));
        std::fs::write(file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(file(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
    let config = json!({
        "verify_incoming_https": true,
        "ca_file": file("ca.pem"),
        "cert_file": file("server.dc1.consul.pem"),
        "key_file": file("server.dc1.consul-key.pem"),
    });
    let trusting = TlsSettings {
        ca_cert: Some(file("ca.pem")),
        server_name: Some("server.dc1.consul".to_owned()),
        ..TlsSettings::default()
    };
    let proving = TlsSettings {
        client_cert: Some(file("client.dc1.consul.pem")),
        client_key: Some(file("client.dc1.consul-key.pem")),
        ..trusting.clone()
    };
    let by_tls = |settings: &mut ClientSettings| (settings.ssl, settings.tls) = (true, proving);
    let Some(agent) = ConsulAgent::start_with(config, by_tls).await else { return };
    assert_eq!(agent.client().agent().await.unwrap().datacenter, "dc1");
    enter(&agent.client(), "one", "http").await;

    let with = |tls: TlsSettings| Client::new(&ClientSettings { tls, ..agent.settings() }).unwrap();
    let nameless = TlsSettings { server_name: None, ..agent.settings().tls };
    for tls in [trusting, nameless, TlsSettings::default()] {
        let refused = with(tls.clone()).agent().await.unwrap_err();
        assert!(refused.problem().is_none(), "{tls:?}: {}", error_chain(&refused));
    }
}
