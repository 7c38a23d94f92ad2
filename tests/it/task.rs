//! `braindrill runner` as the task of an allocation, with what Nomad would give it.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use braindrill::{
    protocol::{Event, EventKind, ExecutionResult, VERSION, payload},
    submission::{Limits, Report, Verdict},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    no_floor::NoFloor,
    traces::{busy_cgroups, cgroups, sandbox_processes, until_none},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// The folders of an allocation.
struct Task {
    dir: TempDir,
    /// Names its cgroups, so it is no other test's.
    allocation: String,
}

impl Task {
    fn new() -> Task {
        static NUMBER: AtomicU32 = AtomicU32::new(128);
        let number = (std::process::id() << 8) | NUMBER.fetch_add(1, Ordering::Relaxed);
        let allocation = format!("{number:08x}-a807-193f-aea6-3fa5be23f11e");
        let task = Task { dir: tempfile::tempdir().unwrap(), allocation };
        for folder in ["local", "alloc", "alloc/data"] {
            std::fs::create_dir(task.path(folder)).unwrap();
        }
        task
    }

    /// With this as its request, in bash.
    fn with(source: &str) -> Task {
        let request = json!({
            "v": VERSION,
            "submission": "01890a5d-ac96-774b-bcce-b302099a8057",
            "attempt": 1,
            "request": {
                "language": "bash", "source": source, "entrypoint": "main.sh",
                "limits": Limits::DEFAULT, "priority": 50,
            },
            "language": {
                "id": "bash", "name": "Bash", "extension": "sh", "source_file": "main.sh",
                "tools": { "bash": ["/bin/bash"] },
                "version": { "command": ["{tool:bash}", "--version"] },
                "run": { "command": ["{tool:bash}", "{entrypoint}"] },
            },
        });
        let request = payload::encode(&serde_json::from_value(request).unwrap());
        let task = Task::new();
        std::fs::write(task.request(), request).unwrap();
        task
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn request(&self) -> PathBuf {
        self.path("local/request")
    }

    /// Stands in the runner's environment, and in no other test's.
    fn secret(&self) -> String {
        format!("secret-of-{}", self.dir.path().file_name().unwrap().display())
    }

    /// Its name in cgroups.
    fn instance(&self) -> &str {
        &self.allocation[..8]
    }

    /// Makes a runner of the command.
    fn prepare(&self, mut command: Command, flags: &[&str]) -> Command {
        command
            .arg("runner")
            .args(flags)
            .env("NOMAD_TASK_DIR", self.path("local"))
            .env("NOMAD_ALLOC_DIR", self.path("alloc"))
            .env("NOMAD_ALLOC_ID", &self.allocation)
            .env("NOMAD_TOKEN", self.secret())
            .env("CONSUL_HTTP_TOKEN", self.secret())
            .stdin(Stdio::null());
        command
    }

    /// Runs it by a command that becomes the runner.
    fn run(&self, command: Command, flags: &[&str]) -> Output {
        self.prepare(command, flags).output().unwrap()
    }

    /// Waits until its program has written something.
    fn until_it_speaks(&self) {
        let copy = self.path("alloc/data/events.jsonl");
        let begun = Instant::now();
        while !std::fs::read_to_string(&copy).is_ok_and(|text| text.contains("stdout")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not begin");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn events(output: &Output) -> Vec<Event> {
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn report(output: &Output) -> Report {
    match events(output).pop().map(|event| event.kind) {
        Some(EventKind::Finished { result: ExecutionResult::Report(report) }) => report,
        other => panic!("{other:?}: {}", said(output)),
    }
}

fn stdout(output: &Output) -> String {
    let data = events(output).into_iter().filter_map(|event| match event.kind {
        EventKind::Stdout { data, .. } => Some(data.to_vec()),
        _ => None,
    });
    String::from_utf8(data.flatten().collect()).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Prints its environment, and that of every process that it can see.
const TELL: &str = "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' \
                    | grep -a -E '^(NOMAD|CONSUL)_'; true";

#[test]
fn nothing_of_nomads_environment_reaches_the_program() {
    let task = Task::with(TELL);
    let output = task.run(Command::new(PROGRAM), &[]);
    assert_eq!(report(&output).verdict, Verdict::Accepted, "{}", said(&output));
    let told = stdout(&output);
    assert!(told.contains("HOME=/box"), "{told}");
    assert!(!told.contains("NOMAD_") && !told.contains(&task.secret()), "{told}");
    assert!(
        task.request().exists(),
        "no jail shows it, and a restart of the client may read it again"
    );
}

fn outer_jail(how: NoFloor) {
    let task = Task::with(&format!("{TELL}; echo done"));
    let Some(mut command) = how.command() else { return };
    command.arg(PROGRAM).env("TMPDIR", task.path("local"));
    let output = task.run(command, &["--outer-jail"]);
    assert_eq!(report(&output).verdict, Verdict::Accepted, "{}", said(&output));
    let (told, log) = (stdout(&output), said(&output));
    assert!(told.contains("LANG=C.UTF-8") && told.ends_with("done\n"), "{told}");
    // Others of this machine's processes are seen too, which are no part of the container.
    let secret = task.secret();
    assert_eq!(told.lines().find(|line| line.contains(&secret)), None);
    assert!(!task.request().exists(), "the program could have read it");
    for layer in ["namespaces", "seccomp", "network"] {
        assert!(log.contains(layer), "{log}");
    }
    assert!(log.contains("no jail of our own inside of the outer one"), "{log}");
}

#[test]
fn inside_of_an_outer_jail_an_ordinary_user_runs_without_one_and_says_what_is_missing() {
    outer_jail(NoFloor::UserNamespaces);
}

#[test]
fn inside_of_an_outer_jail_root_without_capabilities_runs_without_one_and_says_what_is_missing() {
    outer_jail(NoFloor::Capabilities);
}

#[test]
fn without_the_flag_a_missing_floor_is_a_fault_and_no_program_runs() {
    let task = Task::with("echo ran");
    let Some(mut command) = NoFloor::UserNamespaces.command() else { return };
    command.arg(PROGRAM).env("TMPDIR", task.path("local"));
    let output = task.run(command, &[]);
    let last = events(&output).pop().unwrap().kind;
    let EventKind::Finished { result: ExecutionResult::Fault(_) } = last else {
        panic!("{last:?}");
    };
    assert_eq!(stdout(&output), "");
}

#[test]
fn an_attempt_that_is_over_ends_the_runner_without_a_word_to_the_daemon() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/internal/requests/a/1/token", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let task = Task::new();
    let mut command = Command::new(PROGRAM);
    command.env("NOMAD_META_braindrill_request_url", &url);
    let output = task.run(command, &[]);
    answering.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(output.stdout, b"", "no event, so that it is no verdict");
    assert_eq!(
        said(&output),
        "braindrill: the attempt is over: the daemon has no request for it any more\n"
    );
    assert_eq!(std::fs::read_dir(task.path("alloc/data")).unwrap().count(), 0);
}

#[test]
fn a_runner_calls_the_daemon_when_its_last_word_is_on_stdout() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/internal/requests/a/1/token", listener.local_addr().unwrap());
    let task = Task::with("echo ran");
    let copy = task.path("alloc/data/events.jsonl");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        let said = std::fs::read_to_string(copy).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), said)
    });
    let mut command = Command::new(PROGRAM);
    command.env("NOMAD_META_braindrill_request_url", &url);
    let output = task.run(command, &[]);
    let (asked, said) = answering.join().unwrap();
    assert!(asked.starts_with("POST /internal/requests/a/1/token HTTP/1.1"), "{asked}");
    assert_eq!(said.as_bytes(), output.stdout, "all is there when it calls");
    assert_eq!((report(&output).verdict, stdout(&output).as_str()), (Verdict::Accepted, "ran\n"));
}

/// The case of an agent that was killed and begins the tasks of its allocations anew.
#[test]
fn a_second_runner_in_an_allocation_leaves_the_first_alone_and_says_nothing() {
    let task = Task::with("echo begun; sleep 2; echo ended");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| task.run(Command::new(PROGRAM), &[]));
        task.until_it_speaks();
        let second = task.run(Command::new(PROGRAM), &[]);
        (first.join().unwrap(), second)
    });
    assert_eq!(report(&first).verdict, Verdict::Accepted, "{}", report(&first).reason);
    assert_eq!(stdout(&first), "begun\nended\n");
    assert!(second.stdout.is_empty() && !second.status.success(), "{second:?}");
    assert!(said(&second).contains("a runner was in this allocation before"), "{}", said(&second));
}

/// Nomad when its patience ends, and the kernel when memory does, give nobody time to clear up; and no
/// other runner is of the same allocation.
#[test]
fn the_cgroups_of_a_killed_runner_go_with_the_next_runner() {
    let killed = Task::with("echo begun; sleep 60");
    let mut command = killed.prepare(Command::new(PROGRAM), &[]);
    let mut runner = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    killed.until_it_speaks();
    let had_cgroups = !busy_cgroups(killed.instance()).is_empty();
    let pid = Pid::from_raw(runner.id() as i32);
    // All at once: nobody is to see another one's end.
    kill(pid, Signal::SIGSTOP).unwrap();
    for process in sandbox_processes(killed.instance()) {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
    kill(pid, Signal::SIGKILL).unwrap();
    runner.wait().unwrap();
    until_none("its processes", || sandbox_processes(killed.instance()));
    until_none("its program", || busy_cgroups(killed.instance()));

    let next = Task::with("echo done");
    let output = next.run(Command::new(PROGRAM), &[]);

    assert_eq!(report(&output).verdict, Verdict::Accepted, "{}", said(&output));
    let left = cgroups(killed.instance());
    assert!(left.is_empty(), "{left:?}");
    until_none("cgroups of the next", || cgroups(next.instance()));
    if !had_cgroups {
        crate::support::skip("this machine gives no cgroups, so none could be left");
    }
}

#[test]
fn runners_that_begin_and_end_all_the_time_never_take_a_cgroup_from_each_other() {
    let one_after_another = || {
        for _ in 0..12 {
            let task = Task::with("echo done");
            let output = task.run(Command::new(PROGRAM), &[]);
            assert_eq!(report(&output).verdict, Verdict::Accepted, "{}", said(&output));
            assert!(!said(&output).contains("layer"), "{}", said(&output));
            until_none("its cgroups", || cgroups(task.instance()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(one_after_another);
        }
    });
}
