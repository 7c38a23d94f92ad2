//! Tries consul-rs 0.1.14 and rs-consul 0.15.0 against a real Consul, and prints for each claim of
//! the decision what was expected and what happened.

mod machinery;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use async_std::task;
use consul_rs::{
    agent::{AgentServiceCheck, AgentServiceRegistration},
    api::{CONSUL_CONFIG, Config, ConsulConfig, SERVICES_ADDRESS},
    watch::WatchService,
};
use machinery::{Agent, Between, Exchange, MASTER, within};

fn claim(what: &str, expected: &str, happened: &str) {
    println!("{what}\n  expected: {expected}\n  happened: {happened}\n");
}

fn main() {
    println!("consul-rs 0.1.14 and rs-consul 0.15.0 against {}\n", consul_version());
    registration();
    token();
    watch();
    rs_consul();
    sources();
}

fn client(address: &str, token: Option<&str>) -> ConsulConfig {
    let config = Config {
        address: Some(address.to_owned()),
        token: token.map(str::to_owned),
        ..Config::default()
    };
    ConsulConfig { config: Some(config), watch_services: None }
}

fn service(check: Option<AgentServiceCheck>) -> AgentServiceRegistration {
    AgentServiceRegistration {
        ID: Some("w1".to_owned()),
        Name: Some("w".to_owned()),
        Address: Some("127.0.0.1".to_owned()),
        Port: Some(7311),
        Check: check,
        ..AgentServiceRegistration::default()
    }
}

fn registration() {
    let agent = Agent::start(false);
    let between = Between::here_and(&agent.address);
    let check = AgentServiceCheck { TTL: Some("15s".to_owned()), ..AgentServiceCheck::default() };
    let status =
        task::block_on(client(&between.address, None).service_register(&service(Some(check))));
    claim(
        "1. consul-rs registers a service with a TTL check",
        "200, and the service is there",
        &format!(
            "{status:?}, and Consul said: {}",
            Exchange::body(&between.last().answered).trim()
        ),
    );
}

fn token() {
    let agent = Agent::start(true);
    let between = Between::here_and(&agent.address);
    let client = client(&between.address, Some(MASTER));
    let registered = task::block_on(client.service_register(&service(None)));
    let sent = between.last().sent;
    let register = format!(
        "{registered:?}; token in a header: {}, in the body: {}",
        Exchange::header(&sent, "X-Consul-Token").is_some(),
        Exchange::body(&sent).contains(MASTER)
    );
    claim(
        "2. consul-rs sends the ACL token when it registers",
        "200; in the header X-Consul-Token or Authorization",
        &register,
    );
    let path = "/v1/agent/service/deregister/w1";
    let request = client.new_request("PUT".parse().unwrap(), path);
    let mut request = task::block_on(request).unwrap();
    let headers = ["X-Consul-Token", "Authorization"];
    let in_header = headers.iter().any(|name| request.header(*name).is_some());
    let body = task::block_on(request.take_body().into_string()).unwrap();
    let gone = task::block_on(client.service_deregister("w1".to_owned()));
    claim(
        "3. consul-rs sends the ACL token with any other request",
        "in the header X-Consul-Token or Authorization",
        &format!(
            "token in a header: {in_header}; body: {}; deregistering gave {gone:?}: {}",
            body.replace(MASTER, "(the token)"),
            Exchange::body(&between.last().answered).trim()
        ),
    );
}

/// What the crate's watch has found.
fn found() -> Option<(u64, Vec<String>)> {
    let known = task::block_on(SERVICES_ADDRESS.read());
    known.get("w").map(|known| (known.index, known.address.clone()))
}

fn watch() {
    let mut agent = Agent::start(false);
    let between = Between::here_and(&agent.address);
    let watched =
        WatchService { service_name: "w".to_owned(), tag: None, passing_only: Some(true) };
    *task::block_on(CONSUL_CONFIG.write()) =
        ConsulConfig { watch_services: Some(vec![watched]), ..client(&between.address, None) };
    let watching = thread::spawn(|| task::block_on(ConsulConfig::watch_services()));
    let queries_in = |seconds| {
        let before = between.all().len();
        thread::sleep(Duration::from_secs(seconds));
        between.all().len() - before
    };
    claim(
        "4. consul-rs waits for a service that is not there yet",
        "one blocking query in 5 s, its wait",
        &format!("{} queries in 5 s", queries_in(5)),
    );

    let registration = r#"{"ID":"w1","Name":"w","Address":"127.0.0.1","Port":7311,"Check":{"CheckID":"w1","TTL":"600s"}}"#;
    agent.http("PUT", "/v1/agent/service/register", registration);
    agent.http("PUT", "/v1/agent/check/pass/w1", "");
    assert!(within(10, || found().is_some()), "the service was never found");
    let queries = queries_in(5);
    let index = found().map(|(index, _)| index);
    let answer = between.all().into_iter().rev().find(|each| !each.answered.is_empty());
    let answer = answer.unwrap_or_default();
    claim(
        "5. consul-rs takes the index to wait beyond from X-Consul-Index",
        "the header's value, and one query in 5 s while nothing changes",
        &format!(
            "it waits beyond {index:?} where the header says {:?}: {queries} queries in 5 s",
            Exchange::header(&answer.answered, "X-Consul-Index")
        ),
    );

    agent.http("PUT", "/v1/agent/service/deregister/w1", "");
    let gone = within(10, || {
        agent.http("GET", "/v1/health/service/w?passing", "").1.trim().ends_with("[]")
    });
    assert!(gone, "Consul itself knows that it is gone");
    let begun = Instant::now();
    let noticed = within(15, || found().is_none_or(|(_, addresses)| addresses.is_empty()));
    claim(
        "6. consul-rs notices that a service is gone",
        "at once, and no address left",
        &if noticed {
            format!("after {:?}", begun.elapsed())
        } else {
            format!("15 s later it still has {:?}", found().map(|(_, addresses)| addresses))
        },
    );

    agent.stop();
    let ended = within(15, || watching.is_finished());
    claim(
        "7. consul-rs goes on watching after an absence of Consul",
        "it tries again until Consul is back",
        &if ended {
            let why = watching.join().unwrap().unwrap_err().to_string();
            format!("the watch ended: {}", why.lines().next().unwrap_or_default())
        } else {
            "it goes on".to_owned()
        },
    );
}

fn rs_consul() {
    let agent = Agent::start(false);
    let config = rs_consul::Config {
        address: format!("http://{}", agent.address),
        token: None,
        ..rs_consul::Config::default()
    };
    let client = rs_consul::Consul::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let payload = rs_consul::RegisterEntityPayload {
        Node: "here".to_owned(),
        Address: "127.0.0.1".to_owned(),
        Service: Some(rs_consul::RegisterEntityService {
            ID: Some("w1".to_owned()),
            Service: "w".to_owned(),
            Tags: Vec::new(),
            TaggedAddresses: Default::default(),
            Meta: Default::default(),
            Port: Some(7311),
            Namespace: None,
        }),
        ID: None,
        Datacenter: None,
        TaggedAddresses: Default::default(),
        NodeMeta: Default::default(),
        Checks: Vec::new(),
        SkipNodeUpdate: Some(true),
    };
    let registered = runtime.block_on(client.register_entity(&payload));
    let begun = Instant::now();
    let there = || agent.http("GET", "/v1/health/service/w", "").1.contains("7311");
    let was_there = there();
    let removed = within(150, || !there());
    claim(
        "8. a service that rs-consul registers stays registered",
        "it is the agent's, so the agent keeps it and runs its check",
        &format!(
            "{registered:?}; it was there: {was_there}, and the node's agent had removed it{}",
            if removed { format!(" after {} s", begun.elapsed().as_secs()) } else { ": no".into() }
        ),
    );
    let request = rs_consul::ReadKeyRequest { key: "absent", ..Default::default() };
    claim(
        "9. rs-consul reads a key that is absent, and waits for it to come",
        "an answer with the index to wait beyond",
        &format!("{:?}", runtime.block_on(client.read_key(request)).map(|answer| answer.index)),
    );
}

/// What the crates can ask for at all, and what they bring.
fn sources() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for name in ["consul-rs", "rs-consul"] {
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let mut paths = BTreeSet::new();
        for entry in fs::read_dir(manifest.with_file_name("src")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                paths.extend(line.match_indices("/v1/").map(|(at, _)| {
                    let end = |c: char| !c.is_ascii_lowercase() && c != '/' && c != '1';
                    line[at..].split(end).next().unwrap_or_default().to_owned()
                }));
            }
        }
        claim(
            &format!("What {name} can ask for"),
            "/v1/agent/service/.., /v1/agent/check/.., /v1/health/service/.., /v1/kv/..",
            &paths.into_iter().collect::<Vec<_>>().join(" "),
        );
    }
    let brought = ["async-std", "curl-sys", "openssl-sys", "isahc", "surf"];
    let brought =
        brought.iter().filter(|name| packages.iter().any(|package| package["name"] == **name));
    claim(
        "What comes with consul-rs",
        "tokio and rustls, as we have them",
        &brought.copied().collect::<Vec<_>>().join(" "),
    );
}

fn consul_version() -> String {
    let output = Command::new("consul").arg("version").output().expect("consul is on PATH");
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}
