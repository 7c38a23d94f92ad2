//! A real worker as a child process, for one test.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::Ipv4Addr,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// What the tests' daemons and workers share.
pub(crate) const SECRET: &str = "a-secret-of-the-tests";

/// How long it may take to end once it is told to and has nothing to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker on a port of its own. Killed when dropped.
#[derive(Debug)]
pub(crate) struct TestWorker {
    child: Child,
    address: String,
    id: String,
    dir: TempDir,
}

impl TestWorker {
    /// One that Consul is not told of, with so many slots.
    pub(crate) fn start(slots: usize) -> TestWorker {
        TestWorker::with(slots, &["--no-consul"])
    }

    /// With these flags.
    pub(crate) fn with(slots: usize, flags: &[&str]) -> TestWorker {
        TestWorker::as_by(Command::new(PROGRAM), slots, flags)
    }

    /// One on this address of another network, by a command that runs there what its words say.
    pub(crate) fn away(mut command: Command, address: Ipv4Addr, slots: usize) -> TestWorker {
        command.arg(PROGRAM);
        TestWorker::listening_on(&address.to_string(), command, slots, &["--no-consul"])
    }

    /// Started by a command that becomes the worker.
    pub(crate) fn as_by(command: Command, slots: usize, flags: &[&str]) -> TestWorker {
        TestWorker::listening_on("127.0.0.1", command, slots, flags)
    }

    fn listening_on(
        address: &str,
        mut command: Command,
        slots: usize,
        flags: &[&str],
    ) -> TestWorker {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        writeln!(std::fs::File::create(&secret).unwrap(), "{SECRET}").unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut child = command
            .args(["worker", "--listen", &format!("{address}:0"), "--slots", &slots.to_string()])
            .arg("--worker-secret-file")
            .arg(&secret)
            .args(flags)
            .env("TMPDIR", dir.path())
            // Else each test would have the machine busy with it.
            .env("BRAINDRILL_WORKER_SELF_TEST", "false")
            .env_remove("NOMAD_TASK_DIR")
            .env_remove("CONSUL_HTTP_ADDR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap();
        let (id, address) = line
            .trim_end()
            .strip_prefix("braindrill worker ")
            .and_then(|rest| rest.split_once(" listens on http://"))
            .unwrap_or_else(|| panic!("it does not listen: {line}{}", log()));
        let (id, address) = (id.to_owned(), address.to_owned());
        // Reads on, so that the worker never waits for its reader.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(drop));
        TestWorker { child, address, id, dir }
    }

    /// As daemons are told of it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its id, as it names itself.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has among the temporary files.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "log" && name != "secret").collect()
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        // One that is stopped ends too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
