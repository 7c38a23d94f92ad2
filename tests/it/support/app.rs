//! The real daemon as a child process, for one test.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{
    answer::{Answer, read},
    app_data::Data,
    disk::Disk,
    no_floor::NoFloor,
    skip,
};

/// The daemon.
const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// How long the daemon may take to listen, and to end: both are well below a second on a free
/// machine, and the machine is seldom free.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon on a port of its own. Ended, with all that it runs, when dropped.
#[derive(Debug)]
pub(crate) struct TestApp {
    child: Child,
    address: String,
    data: Data,
    args: Vec<String>,
    /// In its environment, and in that of whoever follows it.
    variables: Vec<(String, String)>,
    client: reqwest::Client,
}

/// A daemon that has ended, of which the data are left.
#[derive(Debug)]
pub(crate) struct Ended {
    data: Data,
    args: Vec<String>,
    variables: Vec<(String, String)>,
}

impl TestApp {
    /// A daemon with the local backend and no settings of its own.
    pub(crate) async fn start() -> TestApp {
        TestApp::with(&[]).await
    }

    /// A daemon with more flags.
    pub(crate) async fn with(args: &[&str]) -> TestApp {
        TestApp::launch(Data::new(), owned_words(args)).ready().await
    }

    /// A daemon with more flags, and with these variables in its environment.
    pub(crate) async fn with_variables(variables: &[(&str, &str)], args: &[&str]) -> TestApp {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let variables = variables.iter().map(owned).collect();
        Ended { data: Data::new(), args: owned_words(args), variables }.start().await
    }

    /// A daemon that sees no mounts but its own, whatever other tests or a Nomad agent mount
    /// meanwhile; `None`, and the test's look at mounts counts as skipped, when there cannot be one.
    pub(crate) async fn with_own_mounts() -> Option<TestApp> {
        let is_possible = Command::new("unshare").args(["--mount", "true"]).output();
        if !is_possible.is_ok_and(|output| output.status.success()) {
            skip("cannot have mounts of its own: needs root");
            return None;
        }
        // Cut off from the machine's, but shared with the mount namespaces below: a jail that did
        // not keep its mounts to itself would show.
        let cut = "mount --make-rprivate /; mount --make-rshared /; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", cut, "sh", PROGRAM]);
        Some(TestApp::launch_as(command, Data::new(), Vec::new()).ready().await)
    }

    /// A daemon that cannot have the floor of a jail; `None` when it cannot be kept from it here. Its
    /// folder for temporary files is [`TestApp::temporary`].
    pub(crate) async fn without_floor(how: NoFloor, args: &[&str]) -> Option<TestApp> {
        let mut command = how.command()?;
        let data = Data::new();
        std::fs::create_dir(data.temporary()).unwrap();
        command.arg(PROGRAM).env("TMPDIR", data.temporary());
        Some(TestApp::launch_as(command, data, owned_words(args)).ready().await)
    }

    /// A daemon whose data folder is an absolute link to where it is.
    pub(crate) async fn behind_a_link() -> TestApp {
        let data = Data::new();
        let place = data.folder.path().join("elsewhere");
        std::fs::create_dir(&place).unwrap();
        std::os::unix::fs::symlink(place, data.dir()).unwrap();
        TestApp::launch(data, Vec::new()).ready().await
    }

    /// A daemon that may have so many files open.
    pub(crate) async fn with_open_files(most: u32) -> TestApp {
        let limit = format!("ulimit -n {most}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-ec", &limit, "sh", PROGRAM]);
        TestApp::launch_as(command, Data::new(), Vec::new()).ready().await
    }

    /// A daemon whose data folder is a disk of so many bytes; `None` when there cannot be one.
    pub(crate) async fn on_disk(bytes: u64, args: &[&str]) -> Option<TestApp> {
        let mut data = Data::new();
        std::fs::create_dir(data.dir()).unwrap();
        data.disk = Some(Disk::mount(&data.dir(), bytes)?);
        Some(TestApp::launch(data, owned_words(args)).ready().await)
    }

    fn launch(data: Data, args: Vec<String>) -> TestApp {
        TestApp::launch_as(Command::new(PROGRAM), data, args)
    }

    /// Starts it by a command that becomes the daemon.
    fn launch_as(mut command: Command, data: Data, args: Vec<String>) -> TestApp {
        // Needed once a process, and whichever test comes first does it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let log = std::fs::File::options().append(true).create(true).open(data.log()).unwrap();
        let names_address = args.iter().any(|arg| arg == "--listen");
        let any_port = if names_address { &[][..] } else { &["--listen", "127.0.0.1:0"] };
        let mut child = command
            // The folder by a path that means nothing elsewhere, as `make run` gives it.
            .args(["serve", "--data-dir", "data"])
            .args(any_port)
            .args(&args)
            .current_dir(data.folder.path())
            .env_remove("RUST_LOG")
            .env_remove("NOMAD_ADDR")
            .env_remove("CONSUL_HTTP_ADDR")
            // Else each test would have the machine busy with it.
            .env("BRAINDRILL_SELF_TEST", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads on, so that the daemon never waits for its reader.
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| {
                let _ = sender.send(line);
            })
        });
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!("the daemon did not listen:\n{}", std::fs::read_to_string(data.log()).unwrap())
        });
        let (_, address) = line.split_once("listens on http://").unwrap();
        let (address, client) = (address.to_owned(), reqwest::Client::new());
        TestApp { address, client, child, data, args, variables: Vec::new() }
    }

    /// The same, once it has said that it takes submissions.
    async fn ready(self) -> TestApp {
        assert_eq!(self.get("/healthz/ready").await.status, StatusCode::OK);
        self
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data.dir()
    }

    /// The folder for temporary files of a daemon without a floor.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.data.temporary()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.log()).unwrap()
    }

    /// Kills it as a power failure would, and starts another on the same data.
    pub(crate) async fn crash_and_restart(self) -> TestApp {
        self.crash().start().await
    }

    /// Kills it as a power failure would. Does nothing more to one that has ended.
    pub(crate) fn crash(mut self) -> Ended {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let next = Data::new();
        let data = std::mem::replace(&mut self.data, next);
        let args = std::mem::take(&mut self.args);
        Ended { data, args, variables: std::mem::take(&mut self.variables) }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Closes the connections that are kept for the next requests.
    pub(crate) fn disconnect(&mut self) {
        self.client = reqwest::Client::new();
    }

    /// A request that is not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        read(request).await.unwrap()
    }

    /// The answer to a request, if there is a whole one.
    pub(crate) async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        read(request).await.ok()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A POST without a body.
    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.send(self.request(Method::POST, path)).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Accepts a submission; the answer is that of the 201.
    pub(crate) async fn submit(&self, request: &Value) -> Value {
        let answer = self.post_json("/v1/submissions", request).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    }

    /// The id of an accepted submission.
    pub(crate) async fn submit_for_id(&self, request: &Value) -> String {
        self.submit(request).await["id"].as_str().unwrap().to_owned()
    }

    /// The submission once it is finished.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        let deadline = Instant::now() + PATIENCE * 5;
        loop {
            let answer = self.get(&format!("/v1/submissions/{id}?wait=60")).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let submission = answer.json();
            if submission["state"] == "finished" {
                return submission;
            }
            assert!(Instant::now() < deadline, "not finished: {submission}");
        }
    }

    /// Accepts a submission and waits for its end.
    pub(crate) async fn run(&self, request: &Value) -> Value {
        let id = self.submit_for_id(request).await;
        self.finished(&id).await
    }

    /// Runs a program without more.
    pub(crate) async fn run_source(&self, language: &str, source: &str) -> Value {
        self.run(&json!({ "language": language, "source": source })).await
    }

    /// Waits until there is a submission, and returns its id.
    pub(crate) async fn only_submission(&self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let list = self.get("/v1/submissions").await.json();
            if let Some(id) = list["items"][0]["id"].as_str() {
                return id.to_owned();
            }
            assert!(Instant::now() < deadline, "no submission");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All submissions, newest first, page by page.
    pub(crate) async fn all(&self) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/v1/submissions?limit=100{cursor}")).await.json();
            all.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Waits until a submission is in this state.
    pub(crate) async fn in_state(&self, id: &str, state: &str) -> Value {
        self.in_a_state(id, &[state]).await
    }

    /// Waits until a submission is in one of these states.
    pub(crate) async fn in_a_state(&self, id: &str, states: &[&str]) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let submission = self.get(&format!("/v1/submissions/{id}")).await.json();
            if states.iter().any(|state| submission["state"] == *state) {
                return submission;
            }
            assert!(Instant::now() < deadline, "not {states:?}: {submission}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Ended {
    /// The same with more flags.
    pub(crate) fn with(mut self, args: &[&str]) -> Ended {
        self.args.extend(owned_words(args));
        self
    }

    /// Starts another daemon on the same data, with the same flags.
    pub(crate) async fn start(self) -> TestApp {
        self.start_in_trouble().ready().await
    }

    /// The same, where submissions may not be taken.
    pub(crate) fn start_in_trouble(self) -> TestApp {
        let mut command = Command::new(PROGRAM);
        command.envs(self.variables.clone());
        let mut app = TestApp::launch_as(command, self.data, self.args);
        app.variables = self.variables;
        app
    }
}

fn owned_words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Drop for TestApp {
    /// Lets it end by itself, so that it leaves no cgroup behind; the second signal tells it not to
    /// wait for what runs.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let _ = kill(self.pid(), Signal::SIGTERM);
        let _ = kill(self.pid(), Signal::SIGINT);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
