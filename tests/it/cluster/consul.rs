//! Nomad found through Consul, and the daemon found there.

use nix::sys::signal::Signal;

use super::*;
use crate::support::{consul_agent::ConsulAgent, nomad::Options};

/// Has the stand-in listed as a real Nomad lists itself.
async fn list(consul: &ConsulAgent, nomad: &Nomad) {
    let (host, port) = nomad
        .host_and_port()
        .rsplit_once(':')
        .map(|(host, port)| (host.to_owned(), port.parse::<u16>().unwrap()))
        .unwrap();
    for name in ["nomad", "nomad-client"] {
        let service = json!({
            "ID": format!("_{name}"), "Name": name, "Tags": ["http"], "Address": host, "Port": port,
        });
        let url = format!("http://{}/v1/agent/service/register", consul.settings().address);
        let answer = reqwest::Client::new().put(url).json(&service).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nomad_is_found_through_consul_whose_absence_nobody_notices() {
    let Some(mut consul) = ConsulAgent::start().await else { return };
    let address = consul.settings().address;
    let options = Options { consul: Some(address.clone()), ..Options::default() };
    let nomad = Nomad::own(options).await;
    if nomad.as_stand_in().is_some() {
        list(&consul, &nomad).await;
    }
    let client = consul.client();
    let is_listed = async |service: &str, tag: Option<&str>| {
        let found = client.healthy_instances(service, tag, None).await;
        found.is_ok_and(|found| !found.value.is_empty())
    };
    for service in ["nomad", "nomad-client"] {
        let what = format!("{service} is listed");
        until(&what, DEADLINE, async || is_listed(service, Some("http")).await).await;
    }
    let url = format!("http://{address}");
    let mut app = TestApp::with(&["--backend", "nomad", "--consul-addr", &url]).await;
    job_of(&app).await;
    until("the daemon is listed", DEADLINE, async || is_listed("braindrill", None).await).await;

    let across = app.submit_for_id(&bash("echo begin; sleep 4; echo end")).await;
    until_it_speaks(&app, &across).await;
    consul.stop();
    assert_accepted(&app.run(&bash("echo without it")).await, "without it\n");
    let submission = app.finished(&across).await;
    assert_accepted(&submission, "begin\nend\n");
    assert_eq!(submission["attempt"], 1, "{submission}");

    // It knows nothing now, and is told again.
    consul.start_again().await;
    until("it is listed again", DEADLINE, async || is_listed("braindrill", None).await).await;
    assert_accepted(&app.run(&bash("echo with it")).await, "with it\n");
    app.signal(Signal::SIGTERM);
    assert!(app.wait_for_exit().success(), "{}", app.log());
    assert!(!is_listed("braindrill", None).await);
}
