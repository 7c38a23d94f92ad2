//! The commands for people: `run`, `submissions`, `show`, `cancel`, `languages`, `workers`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::app::TestApp;

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// Somebody at a prompt, in a folder of their own.
struct Prompt {
    folder: TempDir,
    server: String,
}

impl Prompt {
    fn at(app: &TestApp) -> Prompt {
        let server = format!("http://{}", app.address());
        Prompt { folder: tempfile::tempdir().unwrap(), server }
    }

    /// One without a daemon.
    fn alone() -> Prompt {
        // Nobody listens there.
        Prompt { folder: tempfile::tempdir().unwrap(), server: "http://127.0.0.1:1".to_owned() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(words)
            .current_dir(self.folder.path())
            .env("BRAINDRILL_SERVER", &self.server)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn say(&self, words: &[&str]) -> Said {
        Said::of(self.command(words).output().unwrap())
    }

    fn pipe(&self, input: &str, words: &[&str]) -> Said {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    }
}

/// What a command answered.
#[derive(Debug, PartialEq)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said {
            code: output.status.code().expect("it ended by itself"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

const ECHO: &str = "import sys\nprint('out', *sys.argv[1:])\nprint('err', file=sys.stderr)\n\
                    print(sys.stdin.read(), end='')\nsys.exit(3)\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_as_if_it_were_a_command() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("echo.py", ECHO);
    prompt.file("in.txt", "from a file\n");
    let expected = |input: &str| Said {
        code: 3,
        stdout: format!("out one two words\n{input}"),
        stderr: "err\n".to_owned(),
    };
    let args = ["--", "one", "two words"];
    for local in [&[][..], &["--local"]] {
        let with = |words: &[&'static str]| [&["run"], local, words, &args].concat();
        assert_eq!(prompt.say(&with(&["echo.py"])), expected(""));
        assert_eq!(prompt.say(&with(&["--stdin", "in.txt", "echo.py"])), expected("from a file\n"));
        assert_eq!(
            prompt.pipe("piped\n", &with(&["--stdin", "-", "echo.py"])),
            expected("piped\n")
        );
        let from_stdin =
            prompt.pipe("print(6 * 7)", &[&["run"], local, &["-l", "python", "-"]].concat());
        assert_eq!(from_stdin, Said { code: 0, stdout: "42\n".to_owned(), stderr: String::new() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_has_its_exit_code_and_says_why() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("signal.sh", "kill -SEGV $$");
    prompt.file("compile.c", "int main(void) { return 0 }");
    prompt.file("time.py", "while True: pass");
    prompt.file("memory.py", "kept = bytearray(200_000_000); kept[:] = b'x' * 200_000_000");
    prompt.file("output.sh", "yes");
    prompt.file("twice.py", "print(int(input()) * 2)");
    prompt.file("one.in", "2\n");
    prompt.file("right.out", "4\n");
    prompt.file("wrong.out", "5\n");
    for (words, code, reason) in [
        (&["signal.sh"][..], 139, "runtime_error: "),
        (&["compile.c"], 121, "compile_error: the compiler exited with code 1"),
        (&["--cpu-time-ms", "300", "time.py"], 124, "of 300 ms"),
        (&["--memory-bytes", "67108864", "memory.py"], 123, "of 67108864 bytes"),
        (&["output.sh"], 122, "output_limit_exceeded: "),
        (&["--test", "one.in:wrong.out", "twice.py"], 120, "wrong_answer: test one.in: "),
    ] {
        for local in [&[][..], &["--local"]] {
            let words = [&["run", "-l", language(words)], local, words].concat();
            let said = prompt.say(&words);
            assert_eq!(said.code, code, "{words:?}: {:.300}", said.stderr);
            let last = said.stderr.lines().last().unwrap_or_default();
            assert!(last.starts_with("braindrill: ") && last.contains(reason), "{last}");
        }
    }
    let right = prompt.say(&["run", "--test", "one.in:right.out", "twice.py"]);
    assert_eq!((right.code, right.stderr.as_str()), (0, ""));
    assert_eq!(right.stdout, "accepted  one.in  the output is right\n");
    // A compiler's words are not the program's.
    let compile = prompt.say(&["run", "compile.c"]);
    assert!(compile.stdout.is_empty() && compile.stderr.contains("compile.c:1:"), "{compile:?}");
}

fn language(words: &[&str]) -> &'static str {
    match words.last().and_then(|name| name.rsplit('.').next()) {
        Some("sh") => "bash",
        Some("c") => "c",
        _ => "python",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_while_the_program_runs_and_ctrl_c_ends_it() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("long.sh", "echo begun; sleep 100");
    for local in [&[][..], &["--local"]] {
        let words = [&["run", "-l", "bash"], local, &["long.sh"]].concat();
        let mut child = prompt.command(&words).spawn().unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        assert_eq!(first, "begun\n");
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        assert_eq!(exit_code(&mut child), 130);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "braindrill: cancelled: cancelled on request\n");
    }
    let all = app.all().await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["verdict"], "cancelled", "{all:?}");
}

fn exit_code(child: &mut Child) -> i32 {
    ended(child).code().expect("it ended by itself")
}

fn ended(child: &mut Child) -> ExitStatus {
    for _ in 0..1200 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_restart_of_its_daemon() {
    let app = TestApp::start().await;
    // The next one must be where the first was.
    let address = app.address().to_owned();
    let prompt = Prompt::at(&app);
    prompt.file("slow.sh", "echo begun; sleep 2; echo ended");
    let mut child = prompt.command(&["run", "-l", "bash", "slow.sh"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let _app = app.crash().with(&["--listen", &address]).start().await;
    assert_eq!(exit_code(&mut child), 0);
    let (mut rest, mut said) = (String::new(), String::new());
    stdout.read_to_string(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    // It ran again from the beginning, and that was said.
    assert_eq!(rest, "begun\nended\n");
    assert!(said.contains("run again from the beginning"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_submission_with_and_without_a_daemon() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("echo.py", ECHO);
    let mut kinds = Vec::new();
    for local in [&[][..], &["--local"]] {
        let said = prompt.say(&[&["run", "--json"], local, &["echo.py"]].concat());
        assert_eq!((said.code, said.stderr.as_str()), (3, ""));
        let submission = said.json();
        assert_eq!(submission["outcome"]["verdict"], "runtime_error", "{submission}");
        assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], "out\n");
        assert_eq!(submission["request"]["entrypoint"], "echo.py");
        let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        kinds.push((fields(&submission), fields(&submission["outcome"]["runs"][0])));
    }
    assert_eq!(kinds[0], kinds[1], "the same shape");
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_are_listed_shown_and_cancelled() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("a.py", "print('\\x1b[31mred')");
    prompt.file("b.sh", "exit 4");
    assert_eq!(prompt.say(&["run", "a.py"]).code, 0);
    assert_eq!(prompt.say(&["run", "-l", "bash", "b.sh"]).code, 4);

    let listed = prompt.say(&["submissions"]);
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{listed:?}");
    assert!(lines[0].starts_with("ID ") && lines[1].contains("runtime_error"), "{listed:?}");
    let one = prompt.say(&["submissions", "--language", "python", "--json"]).json();
    assert_eq!(one["verdict"], "accepted");
    assert!(prompt.say(&["submissions", "--verdict", "cancelled"]).stdout.lines().count() == 1);
    assert_eq!(prompt.say(&["submissions", "-n", "1"]).stdout.lines().count(), 2);
    let wrong = prompt.say(&["submissions", "--state", "sleeping"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("state"), "{wrong:?}");

    let id = one["id"].as_str().unwrap();
    let shown = prompt.say(&["show", id]).stdout;
    assert!(shown.contains("verdict      accepted") && shown.contains("[31mred"), "{shown}");
    assert!(!shown.contains('\x1b'), "nothing of a program reaches the terminal: {shown}");
    assert_eq!(
        prompt.say(&["show", "--json", id]).json()["request"]["source"],
        "print('\\x1b[31mred')"
    );
    let ended = prompt.say(&["cancel", id]);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (1, "braindrill: the submission is finished already\n")
    );
    let none = prompt.say(&["show", "../stats"]);
    assert_eq!(none.stderr, "braindrill: `../stats` is no id of a submission\n");

    prompt.file("long.sh", "sleep 100");
    let mut child = prompt.command(&["run", "-l", "bash", "long.sh"]).spawn().unwrap();
    let running = loop {
        let said = prompt.say(&["submissions", "--state", "running", "--json"]);
        if !said.stdout.is_empty() {
            break said.json()["id"].as_str().unwrap().to_owned();
        }
    };
    assert_eq!(prompt.say(&["cancel", &running]).stdout, format!("{running} is cancelled\n"));
    assert_eq!(exit_code(&mut child), 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn languages_and_workers_are_listed() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    let languages = prompt.say(&["languages"]).stdout;
    assert!(languages.starts_with("ID ") && languages.contains("\npython "), "{languages}");
    let workers = prompt.say(&["workers"]).stdout;
    assert!(workers.starts_with("KIND ") && workers.contains("\nlocal "), "{workers}");
    assert_eq!(prompt.say(&["workers", "--json"]).json()["kind"], "local");
}

#[test]
fn what_cannot_be_run_is_said_and_is_a_code_of_its_own() {
    let prompt = Prompt::alone();
    prompt.file("a.py", "print(1)");
    prompt.file("a.unknown", "");
    std::fs::write(prompt.folder.path().join("bytes.py"), b"\xff").unwrap();
    for (words, why) in [
        (&["a.py"][..], "no braindrill daemon answers at http://127.0.0.1:1"),
        (&["--local", "missing.py"], "cannot read missing.py"),
        (&["--local", "bytes.py"], "bytes.py is not UTF-8"),
        (&["--local", "a.unknown"], "no language has files that end in .unknown"),
        (&["--local", "-"], "name the language with --language"),
        (&["--local", "--test", "a.py", "a.py"], "name the input and the output"),
        (&["--local", "--cpu-time-ms", "0", "a.py"], "limits.cpu_time_ms"),
        (&["--local", "--language", "cobol", "a.py"], "language"),
    ] {
        let said = prompt.say(&[&["run"], words].concat());
        assert_eq!((said.code, said.stdout.as_str()), (125, ""), "{said:?}");
        assert!(said.stderr.starts_with("braindrill: ") && said.stderr.contains(why), "{said:?}");
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    }
}

#[test]
fn shells_and_manuals_get_what_they_want() {
    let prompt = Prompt::alone();
    for shell in ["bash", "zsh", "fish"] {
        let script = prompt.say(&["completions", shell]);
        assert!(script.code == 0 && script.stdout.contains("braindrill"), "{shell}");
    }
    assert!(prompt.say(&["man"]).stdout.contains(".TH braindrill 1"));
    assert_eq!(prompt.say(&["man", "--dir", "."]).code, 0);
    let page = std::fs::read_to_string(prompt.folder.path().join("braindrill-run.1")).unwrap();
    assert!(page.contains("124"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_heeded_whenever_it_comes() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("flood.sh", "yes | head -c 900000; sleep 100");
    let temporary = prompt.folder.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    for (delay, signal) in [(0, Signal::SIGINT), (15, Signal::SIGTERM), (400, Signal::SIGINT)] {
        for local in [&[][..], &["--local"], &["--json"], &["--json", "--local"]] {
            let words = [&["run", "-l", "bash"], local, &["flood.sh"]].concat();
            // Nobody reads what it writes.
            let mut child = prompt.command(&words).env("TMPDIR", &temporary).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(delay));
            let pid = Pid::from_raw(child.id() as i32);
            kill(pid, signal).unwrap();
            // The first may come before there is anybody to heed it; it then ends the process itself. Where it
            // cancels, the end waits for a reader, but not for ever; a second signal waits for nothing.
            if delay < 400 {
                std::thread::sleep(Duration::from_millis(300));
                let _ = kill(pid, signal);
            }
            let code = ended(&mut child).code();
            assert!(code == Some(130) || code.is_none(), "{words:?}: {code:?}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?} stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_more_has_the_program_ended_and_who_reads_slowly_misses_nothing() {
    let app = TestApp::start().await;
    let prompt = Prompt::at(&app);
    prompt.file("lines.sh", "while echo line; do sleep 0.05; done");
    prompt.file("flood.sh", "yes 'a line' | head -c 900000");
    for local in [&[][..], &["--local"]] {
        let words = [&["run", "-l", "bash"], local, &["lines.sh"]].concat();
        let mut child = prompt.command(&words).spawn().unwrap();
        let mut first = [0; 5];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        assert_eq!((&first, exit_code(&mut child)), (b"line\n", 130));

        let limits = ["--wall-time-ms", "3000", "flood.sh"];
        let words = [&["run", "-l", "bash"], local, &limits].concat();
        let mut child = prompt.command(&words).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        std::thread::sleep(Duration::from_secs(5));
        let mut all = Vec::new();
        stdout.read_to_end(&mut all).unwrap();
        assert_eq!((all.len(), exit_code(&mut child)), (900_000, 0));
    }
}
