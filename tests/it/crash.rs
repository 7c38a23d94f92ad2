//! The real daemon, killed and stopped at random instants under load: what it accepted ends once
//! and right, and nothing of it stays behind.

mod ledger;

use std::time::Duration;

use futures_util::future::join_all;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use self::ledger::Ledger;
use crate::support::{app::TestApp, mix, traces};

/// Numbers that look random and are the same in each run of the tests: xorshift, Marsaglia 2003.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Loads the daemon with clients until this many of their submissions are accepted, and a random
/// while longer; then sends the signal. Returns when the last client has noticed.
async fn strike(app: &TestApp, ledger: &Ledger, random: &mut Random, signal: Signal) {
    let (accepted, while_longer) = (random.below(70) as usize, random.below(150));
    let until = ledger.accepted() + accepted;
    let clients = ledger.clients(app, 16);
    let killer = async {
        ledger.until_accepted(until).await;
        // The instant is what is random; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(while_longer)).await;
        app.signal(signal);
    };
    tokio::join!(clients, killer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_outlives_any_number_of_kills_and_ends_once() {
    let marker = mix::marker(2);
    let (mut random, ledger) = (Random(20_260_101), Ledger::new(&marker));
    let mut app = TestApp::start().await;
    let instance = traces::instance_of(app.pid());
    for round in 0..8 {
        ledger.settle(&app).await;
        strike(&app, &ledger, &mut random, Signal::SIGKILL).await;
        let ended = app.crash();
        // Every other time the next daemon comes while the last one's programs may still be there.
        if round % 2 == 0 {
            traces::until_gone(&instance, &marker);
        }
        app = ended.start().await;
        assert_eq!(traces::instance_of(app.pid()), instance);
    }
    println!("{} were accepted", ledger.accepted());
    ledger.check_all(&app).await;
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
    drop(app);
    traces::until_gone(&instance, &marker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_told_to_end_under_load_ends_in_time_and_the_next_goes_on() {
    let marker = mix::marker(3);
    let (mut random, ledger) = (Random(77), Ledger::new(&marker));
    let mut app = TestApp::with(&["--grace-seconds", "2"]).await;
    let instance = traces::instance_of(app.pid());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
        ledger.settle(&app).await;
        strike(&app, &ledger, &mut random, signal).await;
        assert!(app.wait_for_exit().success(), "{}", app.log());
        traces::until_gone(&instance, &marker);
        let programs = traces::entries(&app.data_dir().join("programs"));
        assert!(programs.is_empty(), "{programs:?}");
        app = app.crash().start().await;
    }
    ledger.check_all(&app).await;
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_launchers_and_helpers_cost_time_and_never_a_verdict() {
    let marker = mix::marker(4);
    let (mut random, ledger) = (Random(4_711), Ledger::new(&marker));
    let app = TestApp::start().await;
    let instance = traces::instance_of(app.pid());
    let finished = async || {
        let stats = app.get("/v1/stats").await.json();
        stats["submissions"]["finished"].as_u64().unwrap()
    };
    // Whether a submission waits or runs that has lost two attempts: a third would end it.
    let one_was_hit_twice = async || {
        for state in ["queued", "dispatching", "running"] {
            let open = app.get(&format!("/v1/submissions?limit=100&state={state}")).await.json();
            let begun = u64::from(state != "queued");
            let lost = |item: &serde_json::Value| item["attempt"].as_u64().unwrap_or(0) - begun;
            if open["items"].as_array().unwrap().iter().any(|item| lost(item) >= 2) {
                return true;
            }
        }
        false
    };
    let vandal = async {
        for round in 0..24 {
            let goal = finished().await + 4;
            while finished().await < goal || one_was_hit_twice().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let launcher = traces::launcher_of(app.pid());
            let mut helpers = traces::helpers(&instance, launcher);
            let victims = match round % 3 {
                // What runs goes on.
                0 => launcher.into_iter().collect(),
                1 if helpers.is_empty() => Vec::new(),
                1 => vec![helpers.swap_remove(random.below(helpers.len() as u64) as usize)],
                _ => launcher.into_iter().chain(helpers).collect(),
            };
            for victim in victims {
                // It may have ended by itself.
                let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
            }
        }
        ledger.stop();
    };
    tokio::join!(ledger.clients(&app, 8), vandal);
    ledger.check_all(&app).await;
    // The next job of each slot clears up after a helper that could not.
    let job = json!({ "language": "bash", "source": "sleep 0.5; echo on" });
    let after = join_all((0..8).map(|_| app.run(&job))).await;
    assert!(after.iter().all(|after| after["outcome"]["verdict"] == "accepted"), "{after:?}");
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
}
