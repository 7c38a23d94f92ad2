//! When Nomad is away, or not as it was left.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_removed_or_changed_is_registered_again() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let client = stage.agent.client();

    let job = stage.job();
    let runs = async |backend: &NomadBackend| {
        let mut execution = backend.start(request("print(6*7)")).await.unwrap();
        assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
        backend.release(&execution.placement).await.unwrap();
    };

    client.purge(&job.name).await.unwrap();
    runs(&stage.backend).await;
    let address = format!("{}/v1/job/{}", stage.agent.address(), job.name);
    let stopped = reqwest::Client::new().delete(address).send().await.unwrap();
    assert!(stopped.status().is_success());
    runs(&stage.backend).await;

    let version = async || client.job(&job.name).await.unwrap().unwrap().version;
    let before = version().await;
    stage.successor().await;
    assert_eq!(version().await, before);
    // As when Consul says where Nomad is after the daemon has begun.
    let (wanted, watched) = tokio::sync::watch::channel(job.clone());
    let settings = NomadSettings { job: watched, ..stage.settings.clone() };
    let backend = NomadBackend::connect(settings, CancellationToken::new()).await.unwrap();
    wanted.send_modify(|job| job.datacenters.push("dc2".to_owned()));
    runs(&backend).await;
    assert_eq!(version().await, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_nomad_cannot_be_reached() {
    let script = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events; \
                  touch $DIR/ended";
    let Some(stage) = Stage::new(script).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let (proxy, backend) = stage.behind_a_proxy().await;
    let mut execution = backend.start(request("print(6*7)")).await.unwrap();
    until_exists(&stage.path("began")).await;

    proxy.set(Way::Cut);
    let refused = backend.start(request("print(6*7)")).await.unwrap_err();
    assert!(!matches!(refused, StartError::Refused(_)), "{refused:?}");
    assert!(backend.release(&execution.placement).await.is_err());
    let child = stage.agent.client().job(&job_id(&execution.placement)).await.unwrap();
    assert!(child.is_some_and(|child| !child.stop), "a request has passed the way that is cut");
    std::fs::write(stage.path("go"), "").unwrap();
    until_exists(&stage.path("ended")).await;
    proxy.set(Way::Open);

    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_nomad_collected_before_they_were_read_lose_the_attempt() {
    let script = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events";
    let stage = Stage::stand_in(script).await;
    stage.lay_out("events", &events(b"42\n"));
    let (proxy, backend) = stage.behind_a_proxy().await;
    let mut execution = backend.start(request("print(6*7)")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let (client, job_id) = (stage.agent.client(), job_id(&execution.placement));

    proxy.set(Way::Cut);
    std::fs::write(stage.path("go"), "").unwrap();
    let mut allocation = None;
    until("it has ended", async || {
        let all = client.allocations(&job_id, None).await.unwrap().value;
        allocation = all.into_iter().find(|each| each.client_status == "complete");
        allocation.is_some()
    })
    .await;
    stage.switches().keep_allocations(0);
    let id = allocation.unwrap().id;
    until("its log is gone", async || client.stdout(&id, "runner", 0).await.is_err()).await;
    proxy.set(Way::Open);

    let updates = collect(&mut execution).await;
    assert!(!lost(&updates).is_empty());
    assert_eq!(events_of(&updates), [], "nothing is made up");
    backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_read_from_the_node_that_is_known_to_answer_and_else_through_a_server() {
    let script = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events";
    let agent = Nomad::stand_in(Options { apart: true, ..Options::default() }).await;
    let stage = Stage::on(Arc::new(agent), script, |_| {}).await;
    stage.lay_out("events", &events(b"42\n"));
    let through_server = || {
        let asked = stage.switches().asked();
        asked.iter().filter(|asked| asked.starts_with("GET /v1/client/fs/")).count()
    };
    let node = stage.agent.nodes().await[0].address.parse::<reqwest::Url>().unwrap();
    let (nodes, watched) = tokio::sync::watch::channel(vec![node]);
    let settings = NomadSettings { nodes: watched, ..stage.settings.clone() };
    let backend = NomadBackend::connect(settings, CancellationToken::new()).await.unwrap();
    for (known, expected) in [(true, false), (false, true)] {
        if !known {
            nodes.send_replace(vec!["http://127.0.0.1:1".parse().unwrap()]);
        }
        let mut execution = backend.start(request("print(6*7)")).await.unwrap();
        // Long enough for its log to be followed too.
        until_exists(&stage.path("began")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::fs::write(stage.path("go"), "").unwrap();
        assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
        assert_eq!(through_server() > 0, expected, "{} asked", through_server());
        backend.release(&execution.placement).await.unwrap();
        std::fs::remove_file(stage.path("go")).unwrap();
        std::fs::remove_file(stage.path("began")).unwrap();
    }
}

pub(super) fn settings_at(address: String) -> NomadSettings {
    NomadSettings {
        servers: servers(&address),
        client: ClientSettings::default(),
        job: tokio::sync::watch::channel(JobSettings::own(
            "00000000",
            "/usr/local/bin/braindrill".into(),
        ))
        .1,
        nodes: tokio::sync::watch::Sender::default().subscribe(),
        capacity: 1,
    }
}

#[tokio::test]
async fn without_nomad_the_backend_is_there_and_every_attempt_waits() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let backend =
        NomadBackend::connect(settings_at(closed), CancellationToken::new()).await.unwrap();

    let refused = backend.start(request("print(6*7)")).await.unwrap_err();

    assert!(matches!(&refused, StartError::Unavailable(why) if why.contains("be reached")));
    assert!(backend.recover(request("print(6*7)"), None).await.is_err());
    assert!(backend.workers().await.is_err());
}

#[tokio::test]
async fn a_request_that_no_dispatch_can_carry_is_refused() {
    let address = "http://127.0.0.1:1".to_owned();
    let backend =
        NomadBackend::connect(settings_at(address), CancellationToken::new()).await.unwrap();
    let mut digest = blake3::Hasher::new().update(b"noise").finalize_xof();
    let mut noise = vec![0; MAX_PAYLOAD_BYTES];
    digest.fill(&mut noise);
    let noise: String = noise.iter().map(|byte| format!("{byte:02x}")).collect();

    let refused = backend.start(request(&noise)).await.unwrap_err();

    assert!(matches!(&refused, StartError::Refused(why) if why.contains("16384")), "{refused}");
}
