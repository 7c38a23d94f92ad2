//! `braindrill jobs` with a real Nomad, beside Nomad's own command.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use super::*;
use crate::support::{app::TestApp, skip};

const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// Runs `braindrill jobs` with these words, in a folder of its own.
struct Jobs {
    agent: Arc<Nomad>,
    dir: TempDir,
    /// Names no other test's job.
    name: String,
}

impl Jobs {
    async fn new() -> Jobs {
        let agent = Nomad::shared().await;
        let (dir, name) = (tempfile::tempdir().unwrap(), format!("judges-{:08x}", rand_u32()));
        Jobs { agent, dir, name }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg("jobs").args(words).args(["--nomad-addr", &self.agent.address()]);
        command.current_dir(self.dir.path()).output().unwrap()
    }

    /// The same, for the shared job of this name.
    fn run_named(&self, words: &[&str]) -> Output {
        self.run(&[words, &["--nomad-job", &self.name]].concat())
    }

    /// Runs Nomad's own command with this file.
    fn nomad(&self, words: &[&str], file: &[u8]) -> Output {
        let mut nomad = Command::new("nomad")
            .args(words)
            .arg("-")
            .env("NOMAD_ADDR", self.agent.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        nomad.stdin.take().unwrap().write_all(file).unwrap();
        nomad.wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said, to whomever.
fn text(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(both).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rendered_is_registered_by_nomads_own_command_and_known_as_up_to_date() {
    let jobs = Jobs::new().await;
    if jobs.agent.as_stand_in().is_some() {
        return skip("there is no `nomad` on PATH, whose own command this is about");
    }
    let missing = jobs.run_named(&["status"]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing));
    assert!(text(&missing).contains("is not registered"), "{}", text(&missing));

    for kind in ["run", "run-docker", "run-docker-fetch"] {
        let file = jobs.run_named(&["render", kind]);
        assert!(file.status.success(), "{}", text(&file));
        let valid = jobs.nomad(&["job", "validate"], &file.stdout);
        assert!(valid.status.success(), "{kind}: {}", text(&valid));
        // 1: it would change something. 255: it cannot be planned.
        let planned = jobs.nomad(&["job", "plan"], &file.stdout);
        assert_eq!(planned.status.code(), Some(1), "{kind}: {}", text(&planned));
    }
    let file = jobs.run_named(&["render"]);
    let registered = jobs.nomad(&["job", "run"], &file.stdout);
    assert!(registered.status.success(), "{}", text(&registered));

    let status = jobs.run_named(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    for words in ["is registered and up to date", "version   0", "0 pending, 0 running, 0 dead"] {
        assert!(text(&status).contains(words), "{}", text(&status));
    }
    assert!(text(&status).contains("nodes       1 of 1"), "{}", text(&status));
    assert!(text(&jobs.run_named(&["register"])).contains("is up to date"));

    let other = jobs.run_named(&["status", "--nomad-datacenters", "elsewhere"]);
    assert_eq!(other.status.code(), Some(3));
    assert!(text(&other).contains("differs") && text(&other).contains("none of 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn register_registers_what_is_missing_or_differs_and_its_companion() {
    let jobs = Jobs::new().await;
    let docker = ["--nomad-driver", "docker", "--nomad-image", "worker:7"];
    let register = || jobs.run_named(&[&["register"], &docker[..]].concat());
    let first = register();
    assert_eq!(first.status.code(), Some(0), "{}", text(&first));
    assert_eq!(stdout(&first), format!("{0} registered\n{0}-fetch registered\n", jobs.name));
    let again = stdout(&register());
    assert_eq!(again, format!("{0} is up to date\n{0}-fetch is up to date\n", jobs.name));
    let changed = jobs.run_named(&["register", "--nomad-driver", "docker"]);
    assert_eq!(stdout(&changed), stdout(&first), "with another image");

    let job = jobs.run_named(&["render", "run-docker", "--json"]);
    let job: serde_json::Value = serde_json::from_slice(&job.stdout).unwrap();
    assert_eq!(job["Job"]["ID"], jobs.name.as_str());
    let task = &job["Job"]["TaskGroups"][0]["Tasks"][0];
    assert_eq!(task["Config"]["network_mode"], "none");
    assert_eq!(task["Config"]["readonly_rootfs"], true);
    assert_eq!(task["Config"]["image"], "braindrill-worker:local");
    assert_eq!(task["RestartPolicy"]["Attempts"], 0);
    assert_eq!(job["Job"]["TaskGroups"][0]["ReschedulePolicy"]["Attempts"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_of_a_running_daemon_are_found_by_its_data_folder() {
    let jobs = Jobs::new().await;
    let address = jobs.agent.address();
    let app = TestApp::with(&["--backend", "nomad", "--no-consul", "--nomad-addr", &address]).await;
    let submission = app.run_source("bash", "echo 42").await;
    let parent = submission["placement"]["job_id"].as_str().unwrap().split('/').next().unwrap();
    let data = app.data_dir();
    let status = jobs.run(&["status", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    assert!(text(&status).starts_with(&format!("{parent}  is registered and up to date")));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_apart_from_what_is_not_as_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| {
        Command::new(PROGRAM).arg("jobs").args(words).current_dir(dir.path()).output().unwrap()
    };
    let away = run(&["status", "--nomad-addr", "http://127.0.0.1:1"]);
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away).contains("Nomad cannot be reached"), "{}", text(&away));
    assert_eq!(run(&["render", "nothing"]).status.code(), Some(2));
    let offline = run(&["render", "--nomad-addr", "http://127.0.0.1:1"]);
    assert!(offline.status.success() && text(&offline).contains("job \"braindrill-run\" {"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no data folder is made");
}
