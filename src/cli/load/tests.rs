//! Load tests against a small server that answers as a daemon does.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use poem::{
    EndpointExt, Response, Route, Server, get, handler,
    http::StatusCode,
    listener::{Acceptor, Listener, TcpListener},
    post,
    web::{Data, Json, Path},
};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use super::*;

/// A daemon's HTTP interface without a daemon behind it.
struct FakeDaemon {
    url: String,
    state: Arc<Behaviour>,
    _server: JoinSet<()>,
}

/// What the fake daemon does.
struct Behaviour {
    received: AtomicU64,
    /// How long a program "runs".
    run_time: Duration,
    /// Programs at once; no permits means that none ever ends.
    slots: Semaphore,
    answer: fn(u64) -> Response,
}

fn answer(status: StatusCode, body: &Value) -> Response {
    Response::builder().status(status).content_type("application/json").body(body.to_string())
}

fn finished(n: u64, verdict: &str) -> Response {
    let body =
        json!({ "id": n.to_string(), "state": "finished", "outcome": { "verdict": verdict } });
    answer(StatusCode::CREATED, &body)
}

#[handler]
async fn submit(state: Data<&Arc<Behaviour>>, body: Json<Value>) -> Response {
    assert!(body["source"].is_string() && body["language"] == "python", "{body:?}");
    let n = state.received.fetch_add(1, Ordering::SeqCst);
    let _slot = state.slots.acquire().await.expect("never closed");
    tokio::time::sleep(state.run_time).await;
    (state.answer)(n)
}

#[handler]
fn read(Path(id): Path<u64>) -> Response {
    finished(id, "accepted")
}

#[handler]
fn live() {}

impl FakeDaemon {
    async fn start(slots: usize, run_time: Duration, answer: fn(u64) -> Response) -> Self {
        // Already installed when another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let received = AtomicU64::new(0);
        let state =
            Arc::new(Behaviour { received, run_time, slots: Semaphore::new(slots), answer });
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
        let address = acceptor.local_addr().remove(0);
        let url = format!("http://{}", address.as_socket_addr().unwrap());
        let routes = Route::new()
            .at("/v1/submissions", post(submit))
            .at("/v1/submissions/:id", get(read))
            .at("/healthz/live", get(live))
            .data(state.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            Server::new_with_acceptor(acceptor).run(routes).await.unwrap();
        });
        FakeDaemon { url, state, _server: server }
    }

    async fn load(&self, options: &str) -> Report {
        self.load_until(options, pending()).await
    }

    async fn load_until(&self, options: &str, interrupt: impl Future<Output = ()>) -> Report {
        let args = parse(&format!("--url {} {options}", self.url)).unwrap();
        let measured = measure(&args, interrupt, |_, _| ());
        let deadline = Duration::from_secs(30);
        args.report(tokio::time::timeout(deadline, measured).await.expect("ends").unwrap())
    }
}

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    load: Args,
}

fn parse(options: &str) -> Result<Args, clap::Error> {
    let words = std::iter::once("load").chain(options.split_whitespace());
    Command::try_parse_from(words).map(|command| command.load)
}

#[tokio::test]
async fn a_closed_loop_sends_exactly_the_count_and_counts_verdicts_and_errors_by_kind() {
    let daemon = FakeDaemon::start(8, Duration::ZERO, |n| match n % 4 {
        0 | 1 => finished(n, "accepted"),
        2 => finished(n, "runtime_error"),
        _ => answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "type": "urn:x:queue-full" })),
    })
    .await;
    let report = daemon.load("--count 200 --connections 8").await;
    assert_eq!(daemon.state.received.load(Ordering::SeqCst), 200);
    assert_eq!((report.finished, report.failed), (150, 50));
    assert_eq!(report.verdicts["accepted"], 100);
    assert_eq!(report.verdicts["runtime_error"], 50);
    assert_eq!(report.errors["503 urn:x:queue-full"], 50);
    assert_eq!((report.interrupted, report.unsent), (0, 0));
    assert!(report.throughput_per_second > 0.0);
}

#[tokio::test]
async fn a_submission_that_is_not_finished_at_first_is_asked_for_again() {
    let daemon = FakeDaemon::start(1, Duration::ZERO, |n| {
        answer(StatusCode::CREATED, &json!({ "id": n.to_string(), "state": "running" }))
    })
    .await;
    let report = daemon.load("--count 3").await;
    assert_eq!(report.verdicts["accepted"], 3);
}

#[tokio::test]
async fn an_open_loop_counts_latency_from_when_a_submission_was_due() {
    let run_time = Duration::from_millis(20);
    let daemon = FakeDaemon::start(1, run_time, |n| finished(n, "accepted")).await;
    let report = daemon.load("--count 10 --rate 1000 --connections 1").await;
    // All ten are due within 9 ms, and the last ends after 200 ms at the earliest.
    let latency = report.latency_ms.unwrap();
    assert!(latency.max >= 190.0, "{latency:?}");
    assert!(latency.p50 >= 90.0, "{latency:?}");

    let report = daemon.load("--count 10 --connections 1").await;
    let closed = report.latency_ms.unwrap();
    assert!(closed.p50 < latency.p50, "{closed:?} {latency:?}");
}

#[tokio::test]
async fn an_open_loop_that_cannot_keep_up_tells_what_it_never_sent() {
    let run_time = Duration::from_millis(20);
    let daemon = FakeDaemon::start(1, run_time, |n| finished(n, "accepted")).await;
    let report = daemon.load("--duration 100ms --rate 1000 --connections 1").await;
    let sent = daemon.state.received.load(Ordering::SeqCst);
    assert!(sent <= 6, "{sent}");
    assert_eq!(report.finished, sent);
    assert_eq!(report.unsent, 100 - sent);
}

#[tokio::test]
async fn an_interrupt_ends_the_test_with_what_was_measured() {
    let daemon = FakeDaemon::start(0, Duration::ZERO, |n| finished(n, "accepted")).await;
    daemon.state.slots.add_permits(1);
    let state = daemon.state.clone();
    let interrupt = async move {
        while state.received.load(Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
    };
    let report = daemon.load_until("--duration 1m --connections 1", interrupt).await;
    assert!(report.finished >= 19, "{report:?}");
    assert!(report.interrupted <= 1, "{report:?}");
    assert!(report.elapsed_ms < 60_000.0, "{report:?}");
}

#[tokio::test]
async fn a_submission_that_never_ends_is_given_up_in_an_interrupt() {
    let daemon = FakeDaemon::start(0, Duration::ZERO, |n| finished(n, "accepted")).await;
    let state = daemon.state.clone();
    let interrupt = async move {
        while state.received.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    let report = daemon.load_until("--duration 1m --connections 2", interrupt).await;
    assert_eq!((report.finished, report.failed, report.interrupted), (0, 0, 2));
    assert_eq!(report.latency_ms, None);
}

#[tokio::test]
async fn an_address_where_nothing_answers_is_told_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Port 1 (tcpmux) is never assigned to a listener that asks for port 0.
    let args = parse("--url http://127.0.0.1:1 --count 5").unwrap();
    let error = measure(&args, pending(), |_, _| ()).await.unwrap_err().to_string();
    assert!(error.contains("no braindrill daemon answers at http://127.0.0.1:1"), "{error}");
    assert!(error.contains("cannot connect"), "{error}");
}

#[test]
fn the_report_is_told_in_lines_and_in_json() {
    let args = parse("--rate 50 --count 4").unwrap();
    let mut tally = Tally::new();
    for millis in [10, 20, 30] {
        let sent = client::Sent::Finished("accepted".to_owned());
        tally.record(sent, Duration::from_millis(millis));
    }
    tally.record(client::Sent::Failed("503 queue-full".to_owned()), Duration::ZERO);
    let elapsed = Duration::from_millis(1_500);
    let report = args.report(Measured { tally, elapsed, interrupted: 1, unsent: 2 });

    let expected = "\
instant (python) to http://127.0.0.1:8080, 50 a second, 1000 connections, seed 1
submissions  3 finished, 1 failed, 1 interrupted, 2 due but never sent: all connections were busy
throughput   2.0 a second over 1.5 s
latency      p50 20.0 ms, p90 30.0 ms, p99 30.0 ms, max 30.0 ms
verdicts            3  accepted
errors              1  503 queue-full
";
    assert_eq!(report.to_string(), expected);
    let json: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["throughput_per_second"], 2.0);
    assert_eq!(json["errors"]["503 queue-full"], 1);
    assert_eq!(json["rate"], 50.0);
}

#[test]
fn options_out_of_their_bounds_are_refused() {
    for options in [
        "--rate 0",
        "--rate -1",
        "--rate NaN",
        "--rate inf",
        "--connections 0",
        "--connections 10001",
        "--count 0",
        "--duration 0",
        "--duration -5s",
        "--duration 5h",
        "--duration NaN",
        "--duration 100000s",
    ] {
        assert!(parse(options).is_err(), "{options}");
    }
    assert_eq!(parse("--duration 1.5s").unwrap().duration, Some(Duration::from_millis(1_500)));
    assert_eq!(parse("--duration 2m").unwrap().duration, Some(Duration::from_secs(120)));
    assert_eq!(parse("--duration 7").unwrap().duration, Some(Duration::from_secs(7)));
}
