//! The files for operators, given to the programs that they are written for.

use std::{
    path::Path,
    process::{Command, Output},
};

use super::*;
use crate::support::{consul_agent::ConsulAgent, ports, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// A file of the repository.
fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

#[track_caller]
fn done(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Nomad's own command, as whoever has this token.
fn nomad(address: &str, token: &str, words: &[&str]) -> String {
    let mut command = Command::new("nomad");
    command.args(words).env("NOMAD_ADDR", address).env("NOMAD_TOKEN", token);
    done(command.output().unwrap())
}

/// A token with one of the policies in `nomad-jobs/`, made as the file says.
fn token(address: &str, management: &str, policy: &str) -> String {
    let rules = file(&format!("nomad-jobs/{policy}.hcl"));
    nomad(address, management, &["acl", "policy", "apply", policy, &rules]);
    let name = format!("-name={policy}");
    let created = nomad(
        address,
        management,
        &["acl", "token", "create", &name, &format!("-policy={policy}")],
    );
    let secret = created.lines().find_map(|line| line.strip_prefix("Secret ID")).unwrap();
    secret.trim_start_matches([' ', '=']).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_acls_the_full_policy_is_enough_and_the_dispatching_one_for_a_shared_job() {
    let Some((agent, management)) = Nomad::with_acls().await else { return };
    let address = agent.address();
    let flags = ["--backend", "nomad", "--nomad-addr", &address, "--no-consul"];
    let full = token(&address, &management, "acl-full");
    let dispatch = token(&address, &management, "acl-dispatch-only");

    let app = TestApp::with_variables(&[("NOMAD_TOKEN", &full)], &flags).await;
    assert_accepted(&app.run(&bash("echo 42")).await, "42\n");
    let id = app.submit_for_id(&bash("echo begun; sleep 60")).await;
    until_it_speaks(&app, &id).await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
    let children = async || {
        let jobs = nomad(&address, &management, &["job", "status"]);
        jobs.lines().filter(|line| line.contains("/dispatch-")).count()
    };
    until("no child is left", DEADLINE, async || children().await == 0).await;
    let workers = app.get("/v1/workers").await.json();
    assert_eq!(workers["items"][0]["kind"], "nomad", "{workers}");
    assert!(!app.log().contains("WARN"), "{}", app.log());

    // Which may not register the job, so that an operator does.
    let mut render = Command::new(PROGRAM);
    render.args(["jobs", "render", "--nomad-job", "judges", "--runner-path", PROGRAM]);
    let dir = tempfile::tempdir().unwrap();
    let job = dir.path().join("judges.nomad.hcl");
    std::fs::write(&job, done(render.output().unwrap())).unwrap();
    nomad(&address, &management, &["job", "run", job.to_str().unwrap()]);
    let shared = [&flags[..], &["--nomad-job", "judges"]].concat();
    let app = TestApp::with_variables(&[("NOMAD_TOKEN", &dispatch)], &shared).await;
    let submission = app.run(&bash("echo 42")).await;
    assert_accepted(&submission, "42\n");
    let child = submission["placement"]["job_id"].as_str().unwrap();
    assert!(child.starts_with("judges/dispatch-"), "{child}");
    let may_not = Command::new("nomad")
        .args(["job", "stop", "-detach", child])
        .env("NOMAD_ADDR", &address)
        .env("NOMAD_TOKEN", &dispatch)
        .output()
        .unwrap();
    assert!(!may_not.status.success(), "it may only dispatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn nomad_runs_the_daemon_itself_by_its_job_file() {
    let agent = Nomad::own(Default::default()).await;
    if agent.as_stand_in().is_some() {
        skip("nomad-jobs/service.nomad.hcl takes a real Nomad");
        return;
    }
    let address = agent.address();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let environment = dir.path().join("environment");
    std::fs::write(&environment, format!("NOMAD_ADDR={address}\nBRAINDRILL_SLOTS=3\n")).unwrap();
    let node = agent.nodes().await[0].name.clone();
    let [port] = ports::free();
    let variables = [
        format!("-var=node={node}"),
        format!("-var=executable={PROGRAM}"),
        format!("-var=data_dir={data}"),
        format!("-var=port={port}"),
        format!("-var=environment={}", environment.display()),
        "-var=arguments=[\"--no-consul\"]".to_owned(),
    ];
    let job = file("nomad-jobs/service.nomad.hcl");
    let mut words = vec!["job", "run", "-detach"];
    words.extend(variables.iter().map(String::as_str));
    words.push(&job);
    nomad(&address, "", &words);

    let url = format!("http://127.0.0.1:{port}");
    until("the daemon answers", DEADLINE, async || {
        reqwest::get(format!("{url}/healthz/ready")).await.is_ok_and(|it| it.status().is_success())
    })
    .await;
    let sent = reqwest::Client::new().post(format!("{url}/lang/bash")).body("echo $((6*7))");
    let answer = sent.send().await.unwrap();
    assert_eq!(answer.headers()["braindrill-verdict"], "accepted");
    assert_eq!(answer.text().await.unwrap(), "42\n");
    let metrics = reqwest::get(format!("{url}/v1/workers")).await.unwrap();
    assert!(metrics.status().is_success());

    nomad(&address, "", &["job", "stop", "-purge", "braindrill"]);
    until("the daemon has ended", DEADLINE, async || {
        reqwest::get(format!("{url}/healthz/live")).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consul_takes_the_policy_and_the_service_as_they_are_in_the_files() {
    const MASTER: &str = "11111111-2222-3333-4444-555555555555";
    let acl = json!({ "acl": {
        "enabled": true, "default_policy": "deny", "tokens": { "master": MASTER },
    }});
    let with_master = |settings: &mut braindrill::consul::ClientSettings| {
        settings.token = Some(MASTER.to_owned())
    };
    let Some(agent) = ConsulAgent::start_with(acl, with_master).await else { return };
    let consul = |words: &[&str]| {
        done(agent.command(words).env("CONSUL_HTTP_TOKEN", MASTER).output().unwrap())
    };
    let rules = format!("@{}", file("consul/acl-policy.hcl"));
    consul(&["acl", "policy", "create", "-name", "braindrill", "-rules", &rules]);
    let created = consul(&["acl", "token", "create", "-policy-name", "braindrill"]);
    let secret = created.lines().find_map(|line| line.strip_prefix("SecretID:")).unwrap().trim();
    consul(&["kv", "put", "braindrill/settings", r#"{"slots": 1}"#]);

    // With it the daemon lists itself, and reads its settings.
    let address = agent.settings().address;
    let flags = ["--consul-addr", &address];
    let app = TestApp::with_variables(&[("CONSUL_HTTP_TOKEN", secret)], &flags).await;
    let ids = async || {
        let found = agent.client().healthy_instances("braindrill", None, None).await.unwrap();
        found.value.into_iter().map(|instance| instance.id).collect::<Vec<_>>()
    };
    until("the daemon is listed", DEADLINE, async || ids().await.len() == 1).await;
    assert!(!app.log().contains("WARN") || !app.log().contains("Consul"), "{}", app.log());
    drop(app);

    consul(&["services", "register", &file("consul/service.hcl")]);
    let services = consul(&["catalog", "services", "-tags"]);
    assert!(services.lines().any(|line| line.starts_with("braindrill ")), "{services}");
    consul(&["services", "deregister", "-id=braindrill"]);
}

#[test]
fn docker_compose_understands_its_file() {
    let Ok(output) = Command::new("docker-compose")
        .args(["-f", &file("docker-compose.yaml"), "config"])
        .output()
    else {
        skip("there is no docker-compose to check docker-compose.yaml with");
        return;
    };
    let understood = done(output);
    for service in ["braindrill:", "consul:", "nomad:"] {
        assert!(understood.contains(service), "{understood}");
    }
}
