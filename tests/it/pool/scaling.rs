//! Workers that the daemon has Nomad start, as its queue grows, and that go when there is nothing to do.

use std::{collections::BTreeSet, sync::Arc};

use braindrill::{
    backend::pool::{Bounds, Demand, PoolBackend, ScaleSettings},
    nomad::child_prefix,
    submission::SystemClock,
    worker::{WorkerClient, WorkerSecret},
};
use tokio::{sync::Barrier, task::JoinSet};

use super::*;
use crate::support::{
    consul_agent::ConsulAgent,
    nomad::Nomad,
    proxy::{Proxy, Way},
};

/// Nomad, Consul, and a job from which workers of two slots are dispatched.
struct Cluster {
    nomad: Nomad,
    consul: ConsulAgent,
    secret: tempfile::TempDir,
}

const JOB: &str = "leased-worker";

impl Cluster {
    async fn start() -> Option<Cluster> {
        Cluster::with(Nomad::own(Default::default()).await).await
    }

    async fn with(nomad: Nomad) -> Option<Cluster> {
        let consul = ConsulAgent::start().await?;
        let secret = tempfile::tempdir().unwrap();
        std::fs::write(secret.path().join("secret"), SECRET).unwrap();
        Some(Cluster { nomad, consul, secret })
    }

    /// As nomad-jobs/worker.nomad.hcl, on a port that the worker chooses, since the stand-in has none.
    async fn register(&self) {
        let secret = self.secret.path().join("secret");
        self.register_with(&secret.display().to_string()).await;
    }

    async fn register_with(&self, secret_file: &str) {
        let task = json!({
            "Name": "worker", "Driver": "raw_exec", "KillSignal": "SIGTERM",
            "Config": { "command": env!("CARGO_BIN_EXE_braindrill"), "args": ["worker"] },
            "Env": {
                "BRAINDRILL_WORKER_LISTEN": "127.0.0.1:0",
                "BRAINDRILL_WORKER_SECRET_FILE": secret_file,
                "BRAINDRILL_WORKER_LEASE_SECONDS": "${NOMAD_META_seconds}",
                "BRAINDRILL_WORKER_CONSUL_ADDR": self.consul_url(),
                "BRAINDRILL_WORKER_SLOTS": "2",
            },
            "Resources": { "CPU": 50, "MemoryMB": 64 },
        });
        let never = json!({ "Attempts": 0, "Mode": "fail" });
        let job = json!({
            "ID": JOB, "Name": JOB, "Type": "batch", "Datacenters": ["dc1"],
            "ParameterizedJob": { "Payload": "forbidden", "MetaOptional": ["seconds"] },
            "Meta": { "seconds": "3600" },
            "TaskGroups": [{
                "Name": "worker", "Count": 1, "Tasks": [task], "RestartPolicy": never,
                "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            }],
        });
        self.nomad.client().register(&job).await.unwrap();
    }

    fn consul_url(&self) -> String {
        format!("http://{}", self.consul.settings().address)
    }

    async fn daemon(&self, backend: &str, lease: &str, more: &[&str]) -> TestApp {
        self.daemon_by(&self.nomad.address(), backend, lease, more).await
    }

    async fn daemon_by(&self, nomad: &str, backend: &str, lease: &str, more: &[&str]) -> TestApp {
        let consul = self.consul_url();
        let flags = [
            ["--backend", backend],
            ["--consul-addr", &consul],
            ["--nomad-addr", nomad],
            ["--scale-job", JOB],
            ["--scale-max", "2"],
            ["--scale-lease-seconds", lease],
        ];
        let flags = [flags.as_flattened(), more].concat();
        TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &flags).await
    }

    /// The leases that were dispatched, those included that are over; and how many are not.
    async fn leases(&self) -> (BTreeSet<String>, usize) {
        let jobs = self.nomad.client().jobs(&child_prefix(JOB)).await.unwrap().value;
        let live = jobs.iter().filter(|stub| !stub.is_dead()).count();
        (jobs.into_iter().map(|stub| stub.id).collect(), live)
    }
}

async fn all_end(app: &TestApp, ids: &[String]) {
    for (number, id) in ids.iter().enumerate() {
        let submission = app.finished(id).await;
        assert_accepted(&submission, &format!("{number}\n"));
        assert_eq!(
            (&submission["attempt"], &submission["placement"]["kind"]),
            (&json!(1), &json!("pool"))
        );
    }
}

async fn submit(app: &TestApp, count: usize, seconds: f64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(app.submit_for_id(&bash(&format!("sleep {seconds}; echo {number}"))).await);
    }
    ids
}

/// The most leases at once, looked at until the future is done; but one that is taken back at once, and so
/// is in no two looks, is none.
async fn most_while<T>(cluster: &Cluster, work: impl Future<Output = T>) -> (usize, T) {
    let (mut most, mut last, mut work) = (0, 0, std::pin::pin!(work));
    loop {
        tokio::select! {
            done = &mut work => return (most, done),
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                let now = cluster.leases().await.1;
                (most, last) = (most.max(now.min(last)), now);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_workers_has_them_come_within_the_bound_and_they_go_when_it_is_empty() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let app = cluster.daemon("pool", "15", &[]).await;
    assert_eq!(cluster.leases().await.0.len(), 0, "nothing to do, nobody there");
    // Of 2 s each: far more than one worker of two slots does in time.
    let ids = submit(&app, 24, 2.0).await;
    let (most, ()) = most_while(&cluster, all_end(&app, &ids)).await;
    assert_eq!(most, 2, "{}", app.log());
    until("the leases have run out", async || cluster.leases().await.1 == 0).await;
    let before = cluster.leases().await.0;
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("braindrill_leased_workers{state=\"wanted\"}"), "{metrics}");
    for told in ["dispatching leases of workers", "a leased worker is there"] {
        assert!(app.log().contains(told), "{}", app.log());
    }
    // And they come again.
    assert_accepted(&app.run(&bash("echo again")).await, "again\n");
    assert!(cluster.leases().await.0.len() > before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_crash_nor_a_second_daemon_makes_more_workers_than_may_be() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let app = cluster.daemon("pool", "60", &[]).await;
    let other = cluster.daemon("pool", "60", &[]).await;
    let (ids, others) = tokio::join!(submit(&app, 20, 2.0), submit(&other, 20, 2.0));
    let work = async {
        until("leases are dispatched", async || cluster.leases().await.1 > 0).await;
        let app = app.crash_and_restart().await;
        for id in ids {
            let submission = app.finished(&id).await;
            assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
        }
        for id in others {
            assert_eq!(other.finished(&id).await["outcome"]["verdict"], "accepted");
        }
    };
    let (most, ()) = most_while(&cluster, work).await;
    assert_eq!(most, 2);
    assert_eq!(cluster.leases().await.0.len(), 2, "nor one after the other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_why_no_worker_comes_and_goes_on_when_one_does() {
    let Some(cluster) = Cluster::start().await else { return };
    let app = cluster.daemon("pool", "60", &[]).await;
    let ids = submit(&app, 1, 0.0).await;
    let waits_for = async |words: &str| {
        until(words, async || {
            let submission = app.get(&format!("/v1/submissions/{}", ids[0])).await.json();
            submission["waiting_for"].as_str().is_some_and(|reason| reason.contains(words))
        })
        .await;
    };
    waits_for("the job to dispatch from is not registered with Nomad").await;
    // Its workers end as soon as they begin.
    cluster.register_with("/nonexistent/secret").await;
    waits_for("those that are dispatched end before they are there").await;
    let tried = cluster.leases().await.0.len();
    assert!(tried <= 3, "{tried} leases, later and later");
    cluster.nomad.kill().await;
    waits_for("Nomad cannot be reached").await;
    cluster.nomad.restart().await;
    cluster.register().await;
    all_end(&app, &ids).await;
    let said = app.log().matches("workers cannot be dispatched").count();
    assert!(said <= 4, "once for each reason:\n{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_loses_nothing_and_is_followed_by_another_while_there_is_work() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let app = cluster.daemon("pool", "12", &[]).await;
    let begun = Instant::now();
    let mut ended = 0;
    while begun.elapsed() < Duration::from_secs(40) {
        let ids = submit(&app, 2, 0.5).await;
        all_end(&app, &ids).await;
        ended += ids.len();
    }
    let (leases, _) = cluster.leases().await;
    assert!(leases.len() >= 3, "{leases:?}");
    assert!(ended > 30, "{ended}: they went on meanwhile");
    assert!(app.log().contains("leases end while there is work"), "{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_attempts_go_elsewhere_too_workers_come_when_that_is_not_enough() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let app = cluster.daemon("auto", "60", &["--slots", "1"]).await;
    let few = submit(&app, 4, 0.1).await;
    for id in few {
        assert_eq!(app.finished(&id).await["outcome"]["verdict"], "accepted");
    }
    assert_eq!(cluster.leases().await.0.len(), 0, "one slot here and one in Nomad are enough");
    let mut kinds = BTreeSet::new();
    for id in submit(&app, 16, 3.0).await {
        let submission = app.finished(&id).await;
        assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
        kinds.insert(submission["placement"]["kind"].as_str().unwrap().to_owned());
    }
    assert!(kinds.contains("pool"), "{kinds:?}: {}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_whose_answer_is_lost_counts_all_the_same() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let proxy = Proxy::to(cluster.nomad.host_and_port()).await;
    proxy.set(Way::LosesAnswersToDispatches);
    let app = cluster.daemon_by(&proxy.address(), "pool", "60", &["--scale-min", "1"]).await;
    until("one is dispatched", async || cluster.leases().await.1 == 1).await;
    until("the loss is noticed", async || app.log().contains("workers cannot be dispatched")).await;
    assert_accepted(&app.run(&bash("echo here")).await, "here\n");
    proxy.set(Way::Open);
    until("it knows of its worker", async || app.log().contains("a leased worker is there")).await;
    assert_eq!(cluster.leases().await.0.len(), 1, "{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nomad_forgot_to_schedule_is_scheduled() {
    let Some(cluster) = Cluster::with(Nomad::stand_in(Default::default()).await).await else {
        return;
    };
    cluster.register().await;
    cluster.nomad.as_stand_in().unwrap().lose_next_evaluation();
    let app = cluster.daemon("pool", "60", &[]).await;
    assert_accepted(&app.run(&bash("echo here")).await, "here\n");
    assert_eq!(cluster.leases().await.0.len(), 1, "{}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_begin_at_once_have_no_more_workers_than_may_be() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let minimum = ["--scale-min", "2"];
    let daemon = || cluster.daemon("pool", "60", &minimum);
    let begun = async {
        let daemons = tokio::join!(daemon(), daemon(), daemon(), daemon());
        let daemons = [daemons.0, daemons.1, daemons.2, daemons.3];
        for app in &daemons {
            until("both are there for each", async || {
                let workers = app.get("/v1/workers").await.json();
                workers["items"].as_array().unwrap().len() == 2
            })
            .await;
        }
        // For long enough to be looked at.
        assert_accepted(&daemons[3].run(&bash("sleep 3; echo here")).await, "here\n");
        daemons
    };
    let (most, _daemons) = most_while(&cluster, begun).await;
    assert_eq!((most, cluster.leases().await.1), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_dispatch_at_the_same_instant_the_later_ones_take_theirs_back() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.register().await;
    let client = WorkerClient::new(WorkerSecret::new(SECRET).unwrap()).unwrap();
    let members = tokio::sync::watch::channel(Vec::new()).1;
    let pool = PoolBackend::new(client, members, None);
    let (together, mut scalers) = (Arc::new(Barrier::new(6)), JoinSet::new());
    for number in 0..6 {
        let settings = ScaleSettings {
            job: JOB.to_owned(),
            bounds: Bounds { min: 2, max: 2 },
            lease: Duration::from_secs(60),
            instance: number.to_string(),
        };
        let scaler = pool.scaler(cluster.nomad.client(), settings, SystemClock);
        let together = together.clone();
        // One look each: all see that nobody is there before any has dispatched.
        let asking = Box::new(move || {
            let together = together.clone();
            Box::pin(async move {
                together.wait().await;
                Some(Demand::default())
            }) as futures_util::future::BoxFuture<'static, _>
        });
        let looked = Arc::new(tokio::sync::Notify::new());
        let told = looked.clone();
        scalers.spawn(async move {
            tokio::select! {
                () = scaler.run(asking, move |_| told.notify_one()) => {}
                () = looked.notified() => {}
                () = tokio::time::sleep(DEADLINE) => panic!("no look came to its end"),
            }
        });
    }
    while let Some(ended) = scalers.join_next().await {
        ended.unwrap();
    }
    let (all, _) = cluster.leases().await;
    assert_eq!(all.len(), 2, "{all:?}");
    pool.shut_down().await;
}
