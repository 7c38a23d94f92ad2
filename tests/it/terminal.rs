//! `braindrill run` on a terminal.

use std::{
    io::{Read as _, Write as _},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::support::app::TestApp;

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// A shell command on a terminal of its own.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
    begun: Instant,
}

impl Terminal {
    /// Begins it, in a folder.
    fn begin(app: &TestApp, folder: &TempDir, command: &str) -> Terminal {
        let mut child = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", command, "/dev/null"])
            .current_dir(folder.path())
            .env("BRAINDRILL_SERVER", format!("http://{}", app.address()))
            .env("TERM", "xterm")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let so_far = shown.clone();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                so_far.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Terminal { child, keys, shown, reading, begun: Instant::now() }
    }

    /// Waits until this is shown.
    async fn shows(&self, words: &str) {
        while !self.shown.lock().unwrap().contains(words) {
            let shown = self.shown.lock().unwrap().clone();
            assert!(self.begun.elapsed() < Duration::from_secs(60), "no {words} in {shown:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Its exit code, and all that it has shown.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.reading.join().unwrap();
        let shown = self.shown.lock().unwrap().clone();
        (code, shown)
    }
}

fn folder(name: &str, source: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), source).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_told_the_state_and_what_is_waited_for() {
    let secret = [("BRAINDRILL_WORKER_SECRET", crate::support::worker::SECRET)];
    // Nobody listens there.
    let flags = ["--backend", "pool", "--no-consul", "--workers", "http://127.0.0.1:9"];
    let app = TestApp::with_variables(&secret, &flags).await;
    let folder = folder("x.sh", "echo said");
    let terminal = Terminal::begin(&app, &folder, &format!("{PROGRAM} run x.sh"));
    terminal.shows("queued").await;
    terminal.shows("queued: no warm worker is there").await;
    let id = app.only_submission().await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
    terminal.shows("cancelled on request").await;
    assert_eq!(terminal.end().0, Some(130));
}

/// Asks, tells the size of its terminal whenever that changes, and waits.
const ASKS: &str = "\
import os, signal, sys
print('Hello,', input('name? '))
def tell(*_):
    print('size', *os.get_terminal_size(), flush=True)
signal.signal(signal.SIGWINCH, tell)
tell()
sys.exit(int(input('code? ')))
";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_a_terminal_has_our_keys_and_the_size_of_ours() {
    let app = TestApp::start().await;
    let folder = folder("asks.py", ASKS);
    for place in ["", "--local"] {
        let run = format!(
            "stty rows 30 cols 100; {PROGRAM} run --tty {place} asks.py; code=$?; stty -a; exit $code"
        );
        let mut terminal = Terminal::begin(&app, &folder, &run);
        terminal.shows("name? ").await;
        terminal.types("W\u{f6}rld\r");
        terminal.shows("W\u{f6}rld\r\nHello, W\u{f6}rld\r\n").await;
        terminal.shows("size 100 30\r\n").await;
        terminal.shows("code? ").await;
        terminal.types("7\r");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(7), "{place} {shown}");
        let after = shown.split("code? 7").nth(1).unwrap();
        assert!(after.contains(" icanon") && after.contains(" echo "), "{place} {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_the_programs_and_a_tilde_with_a_dot_ends_it() {
    let app = TestApp::start().await;
    let source = "trap 'echo caught' INT; echo up; while :; do sleep 0.1; done";
    let folder = folder("x.sh", source);
    for place in ["", "--local"] {
        let run = format!("{PROGRAM} run --tty {place} x.sh; code=$?; stty -a; exit $code");
        let mut terminal = Terminal::begin(&app, &folder, &run);
        terminal.shows("up\r\n").await;
        terminal.types("\u{3}");
        terminal.shows("caught\r\n").await;
        terminal.types("\r~.");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{place} {shown}");
        assert!(shown.contains("cancelled") && shown.contains(" icanon"), "{place} {shown}");
    }
}

fn piped(app: &TestApp, folder: &TempDir, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .current_dir(folder.path())
        .env("BRAINDRILL_SERVER", format!("http://{}", app.address()))
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_piped_in_goes_to_the_program_behind_its_input_to_the_end() {
    let app = TestApp::start().await;
    let folder = folder("sum.py", "import sys\nprint(sum(map(int, sys.stdin)))");
    std::fs::write(folder.path().join("first"), "1\n").unwrap();
    for args in [
        &["run", "-i", "--stdin", "first", "sum.py"][..],
        &["run", "-i", "--local", "--stdin", "first", "sum.py"],
    ] {
        let ran = piped(&app, &folder, args, "20\n21\n");
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "42\n", "{args:?} {stderr}");
        assert_eq!(ran.status.code(), Some(0), "{args:?} {stderr}");
    }
    std::fs::write(folder.path().join("cat.sh"), "cat").unwrap();
    for place in ["--server", "--local"] {
        let server = format!("http://{}", app.address());
        let words = if place == "--server" { vec![place, &server] } else { vec![place] };
        let ran = piped(&app, &folder, &[&["run", "-t", "cat.sh"], &words[..]].concat(), "no end");
        assert_eq!(ran.status.code(), Some(0), "{place} {ran:?}");
        let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(shown.contains("no end"), "{place} {shown:?}");
    }
    for (args, why) in [
        (&["run", "-i", "--language", "python", "-"][..], "for the program while it runs"),
        (&["run", "-t", "--stdin", "-", "sum.py"], "for the program while it runs"),
        (&["run", "-t", "--test", "a:b", "sum.py"], "cannot be used with"),
    ] {
        let ran = piped(&app, &folder, args, "");
        let stderr = String::from_utf8_lossy(&ran.stderr);
        assert!(!ran.status.success() && stderr.contains(why), "{args:?} {stderr}");
    }
}
