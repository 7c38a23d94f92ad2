//! `braindrill run` on a terminal.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::app::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_told_the_state_and_what_is_waited_for() {
    let secret = [("BRAINDRILL_WORKER_SECRET", crate::support::worker::SECRET)];
    // Nobody listens there.
    let flags = ["--backend", "pool", "--no-consul", "--workers", "http://127.0.0.1:9"];
    let app = TestApp::with_variables(&secret, &flags).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.sh"), "echo said").unwrap();
    let program = env!("CARGO_BIN_EXE_braindrill");
    // What runs in it has a terminal of its own.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command"])
        .arg(format!("{program} run x.sh"))
        .arg("/dev/null")
        .current_dir(folder.path())
        .env("BRAINDRILL_SERVER", format!("http://{}", app.address()))
        .env("TERM", "xterm")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = terminal.stdout.take().unwrap();
    let all = Arc::new(Mutex::new(String::new()));
    let so_far = all.clone();
    let reading = std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = shown.read(&mut buffer) {
            so_far.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
    let begun = Instant::now();
    let says = async |words: &str| {
        while !all.lock().unwrap().contains(words) {
            let said = all.lock().unwrap().clone();
            assert!(begun.elapsed() < Duration::from_secs(60), "no {words} in {said:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    says("queued").await;
    says("queued: no warm worker is there").await;
    let id = app.only_submission().await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
    says("cancelled on request").await;
    assert_eq!(terminal.wait().unwrap().code(), Some(130));
    reading.join().unwrap();
}
