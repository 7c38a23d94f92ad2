//! Connections that are not used as connections are meant to be.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::StatusCode;

use super::{PATH, bash, is_well};
use crate::support::{app::TestApp, mix, traces};

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_nothing_or_next_to_nothing_keep_nobody_out() {
    let app = TestApp::start().await;
    let descriptors = traces::descriptors(app.pid());
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n"
    );
    let mut connections: Vec<TcpStream> = (0..500)
        .map(|number| {
            let mut stream = TcpStream::connect(app.address()).unwrap();
            // Nothing at all, half a head, a head alone, a head with a byte of its body.
            let begin = match number % 4 {
                0 => "",
                1 => &head[..40],
                2 => &head[..],
                _ => &format!("{head}{{"),
            };
            stream.write_all(begin.as_bytes()).unwrap();
            stream
        })
        .collect();
    for round in 0..5 {
        for stream in connections.iter_mut().skip(3).step_by(4) {
            stream.write_all(b" ").unwrap();
        }
        let case = mix::case(round, "no program sleeps");
        case.check(&app.run(&case.request).await);
    }
    drop(connections);
    traces::until_none("connections", || {
        let now = traces::descriptors(app.pid());
        if now <= descriptors + 16 { Vec::new() } else { vec![now] }
    });
    is_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_that_never_end_take_bounded_memory_and_keep_no_small_one_out() {
    let app = TestApp::start().await;
    let descriptors = traces::descriptors(app.pid());
    let before = traces::anonymous_bytes(app.pid());
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 1048576\r\n\r\n"
    );
    let most_of_it = vec![b' '; (1 << 20) - 1];
    let mut connections = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(app.address()).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // A refused one may be closed meanwhile.
        let _ = stream.write_all(&most_of_it);
        connections.push(stream);
    }
    is_well(&app).await;
    let taken = traces::anonymous_bytes(app.pid()).saturating_sub(before);
    // Of 600 MiB. What comes in is kept in buffers that double.
    assert!(taken < 400 << 20, "{} KiB for bodies that have not come in", taken >> 10);
    // Who still sends when the connection is closed may see only that, and on a slow machine those
    // that were let in have been told by now that they took too long.
    let mut answers = connections.iter_mut().rev().map(read_head);
    let refused = answers.find(|answer| answer.starts_with("HTTP/1.1 503 "));
    let answer = refused.expect("one of so many has read its answer").to_lowercase();
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    drop(connections);
    traces::until_none("connections", || {
        let now = traces::descriptors(app.pid());
        if now <= descriptors + 16 { Vec::new() } else { vec![now] }
    });
    // There is room for large ones again.
    app.submit(&bash(&format!("#{}", "x".repeat(500 << 10)))).await;
    is_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_the_daemon_the_files_that_its_work_needs() {
    let app = TestApp::with_open_files(256).await;
    let connect = |count| (0..count).map(|_| TcpStream::connect(app.address()).unwrap());
    let mut connections: Vec<TcpStream> = connect(100).collect();
    let cases: Vec<_> = (0..14).map(|number| mix::case(number, "no program sleeps")).collect();
    let mut ids = Vec::new();
    for case in &cases {
        ids.push(app.submit_for_id(&case.request).await);
    }
    // Together more than there are files for, and no more than the kernel's queue holds beside.
    connections.extend(connect(140));
    // Nobody else gets in now, so what comes of them is read in the log.
    traces::until_none("submissions", || {
        let ended = app.log().matches("submission finished").count();
        (ended..cases.len()).collect()
    });
    assert!(traces::descriptors(app.pid()) < 256, "{}", traces::descriptors(app.pid()));
    drop(connections);
    for (case, id) in cases.iter().zip(&ids) {
        case.check(&app.finished(id).await);
    }
    is_well(&app).await;
}

/// Sends bytes, and reads the head of what comes back; empty when the connection is closed.
fn raw(app: &TestApp, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(app.address()).unwrap();
    // The other side may close before it has read all.
    let _ = stream.write_all(bytes);
    read_head(&mut stream)
}

fn read_head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn bytes_that_are_not_http_are_answered_as_such_or_not_at_all() {
    let app = TestApp::start().await;
    for (status, bytes) in [
        (404, &b"GET /v1/submissions/%ff%fe HTTP/1.1\r\nhost: localhost\r\n\r\n"[..]),
        (404, b"GET /v1/submissions/%00 HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (404, b"GET /v1/languages/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (404, b"GET /docs/../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (400, b"GET /v1/submissions/\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        (400, b"GET\0 / HTTP/1.1\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n"),
        (400, b"POST /v1/submissions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n"),
        (
            400,
            b"POST /v1/submissions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\
              \r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        ),
    ] {
        let answer = raw(&app, bytes);
        let first = answer.lines().next().unwrap_or_default();
        let right = first.starts_with(&format!("HTTP/1.1 {status} "));
        // The library closes on some of what it cannot read.
        assert!(right || answer.is_empty() && status == 400, "{first:?} for {bytes:?}");
    }
    let many: String = (0..2_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let long = "x".repeat(1 << 20);
    for request in [
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        format!(
            "GET /v1/submissions?cursor={} HTTP/1.1\r\nhost: localhost\r\n\r\n",
            &long[..60_000]
        ),
    ] {
        let answer = raw(&app, request.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    is_well(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_wait_and_leave_take_nothing_with_them() {
    let app = TestApp::start().await;
    let marker = mix::marker(6);
    let descriptors = traces::descriptors(app.pid());
    let id = app.submit_for_id(&bash(&format!("sleep {marker}"))).await;
    let queued = app.submit_for_id(&bash("echo next")).await;
    let body = bash("echo waited for").to_string();
    let connections: Vec<TcpStream> = (0..300)
        .map(|number| {
            let request = match number % 3 {
                0 => format!("GET {PATH}/{id}?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n"),
                1 => format!("GET {PATH}/{queued}?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n"),
                _ => format!(
                    "POST {PATH}?wait=60 HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
                     application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
            };
            let mut stream = TcpStream::connect(app.address()).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    app.in_state(&id, "running").await;
    drop(connections);
    // What they sent was accepted or not; what was is run although nobody waits.
    traces::until_none("connections", || {
        let now = traces::descriptors(app.pid());
        if now <= descriptors + 24 { Vec::new() } else { vec![now] }
    });
    assert_eq!(app.post(&format!("{PATH}/{id}/cancel")).await.status, StatusCode::OK);
    for submission in app.all().await {
        let submission = app.finished(submission["id"].as_str().unwrap()).await;
        let expected = if submission["id"] == *id { "cancelled" } else { "accepted" };
        assert_eq!(submission["outcome"]["verdict"], expected, "{submission}");
    }
    traces::until_idle(app.pid(), &app.data_dir(), &marker);
}
