//! Many submissions at once on the real daemon: none is lost, none is wrong, nothing is left.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    mix::{self, Case},
    traces,
};

const SUBMISSIONS: usize = 1_000;
const CONNECTIONS: usize = 64;

/// How much more memory of its own than at its start a daemon may have when all is over.
const GROWTH_BYTES: u64 = 20 << 20;

/// One client: takes numbers until there are none left. Those with an even number send all they
/// take before they ask for any result, so that there is a queue; the others wait for each.
async fn client(app: &TestApp, client: usize, next: &AtomicUsize, marker: &str) -> Vec<String> {
    let mut sent: Vec<(Case, String)> = Vec::new();
    let mut ids = Vec::new();
    let share = if client.is_multiple_of(2) { SUBMISSIONS / CONNECTIONS } else { 1 };
    loop {
        while sent.len() < share {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= SUBMISSIONS {
                break;
            }
            let case = mix::case(number, marker);
            let id = app.submit_for_id(&case.request).await;
            if case.is_to_be_cancelled() {
                let cancelled = app.post(&format!("/v1/submissions/{id}/cancel")).await;
                assert_eq!(cancelled.status, 200, "{}", cancelled.text());
            }
            sent.push((case, id));
        }
        if sent.is_empty() {
            return ids;
        }
        for (case, id) in sent.drain(..) {
            case.check(&app.finished(&id).await);
            ids.push(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_submissions_at_once_all_end_right_and_leave_nothing() {
    let own_mounts = TestApp::with_own_mounts().await;
    let has_own_mounts = own_mounts.is_some();
    let mut app = match own_mounts {
        Some(app) => app,
        None => TestApp::start().await,
    };
    let marker = mix::marker(1);
    let (memory, mounts) = (traces::anonymous_bytes(app.pid()), traces::mounts(app.pid()));
    let descriptors = traces::descriptors(app.pid());
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let clients = (0..CONNECTIONS).map(|number| client(&app, number, &next, &marker));
    let seen: BTreeSet<String> = join_all(clients).await.into_iter().flatten().collect();
    println!("{SUBMISSIONS} submissions took {:?}", begin.elapsed());
    assert_eq!(seen.len(), SUBMISSIONS, "no two answers named the same submission");

    let listed = app.all().await;
    assert_eq!(listed.len(), SUBMISSIONS, "none is listed twice, and none that was not sent");
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    assert_eq!(listed.iter().map(id).collect::<BTreeSet<_>>(), seen);
    let counts = json!({ "queued": 0, "dispatching": 0, "running": 0, "finished": SUBMISSIONS });
    assert_eq!(app.get("/v1/stats").await.json()["submissions"], counts);

    traces::until_idle(app.pid(), &app.data_dir(), &marker);
    if has_own_mounts {
        let mut before = mounts;
        let mut left = traces::mounts(app.pid());
        // One of somebody else's that was there before may go, with its folder, in here too.
        left.retain(|mount| match before.iter().position(|known| known == mount) {
            Some(at) => {
                before.swap_remove(at);
                false
            }
            None => true,
        });
        assert!(left.is_empty(), "{left:?}");
    }
    app.disconnect();
    let pid = app.pid();
    traces::until_none("descriptors", || {
        let now = traces::descriptors(pid);
        // The pools of the database may have grown.
        if now <= descriptors + 16 { Vec::new() } else { vec![now] }
    });
    traces::until_none("memory", || {
        let now = traces::anonymous_bytes(pid);
        if now <= memory + GROWTH_BYTES { Vec::new() } else { vec![now >> 10, memory >> 10] }
    });
    println!("memory: {} KiB, then {} KiB", memory >> 10, traces::anonymous_bytes(pid) >> 10);
}

/// What `braindrill load --json` says.
fn measure(app: &TestApp, program: &str, seconds: u64) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
        .args(["load", "--json", "--program", program, "--duration", &format!("{seconds}s")])
        .args(["--url", &format!("http://{}", app.address())])
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (stdout, stderr) = (stdout.unwrap(), stderr.unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_command_measures_each_kind_of_program_without_an_error() {
    let app = TestApp::start().await;
    for program in ["instant", "loop", "cpu", "memory", "output"] {
        let report = measure(&app, program, 3);
        println!("{program}: {report}");
        assert_eq!(report["program"], program, "{report}");
        assert_eq!(report["failed"], 0, "{report}");
        let finished = report["finished"].as_u64().unwrap();
        assert!(finished > 0, "{report}");
        assert_eq!(report["verdicts"], json!({ "accepted": finished }), "{report}");
        let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99"), "{report}");
        assert!(latency("p99") <= Duration::from_secs(120).as_millis() as f64, "{report}");
    }
    traces::until_idle(app.pid(), &app.data_dir(), "no program sleeps");
}
