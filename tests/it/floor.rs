//! A machine that cannot have the floor of a jail: submissions wait, unless `--unsafe-no-sandbox`
//! says that programs are to run all the same.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    no_floor::{NoFloor, NoFloor::*},
    skip,
    traces::with_word,
};

const LIFTED: &str = "lifted by --unsafe-no-sandbox";

/// Words of what is to be done about a floor that is missing.
const REMEDY: &str = "run the daemon as an ordinary user who may make user namespaces";

/// A number that no other test sleeps for.
fn marker() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("8{}", RandomState::new().hash_one(std::process::id()) as u32)
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn verdict(submission: &Value) -> &str {
    submission["outcome"]["verdict"].as_str().unwrap()
}

fn stdout(submission: &Value) -> &str {
    submission["outcome"]["runs"][0]["stdout"]["data"].as_str().unwrap()
}

/// The names of what a job left, among the temporary files or the compiled programs.
fn left_over(app: &TestApp) -> Vec<String> {
    [app.temporary(), app.data_dir().join("programs")]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

async fn waits_and_runs_later(how: NoFloor) {
    let Some(app) = TestApp::without_floor(how, &[]).await else { return };
    let ready = app.get("/healthz/ready").await.json();
    assert_eq!(ready["status"], "degraded", "{ready}");
    let reason = ready["parts"]["backend"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(REMEDY), "{reason}");

    let python = app.get("/v1/languages/python").await.json();
    assert_eq!((&python["status"], &python["available"]), (&json!("unavailable"), &json!(false)));
    assert_eq!(python["reason"], reason);
    let worker = app.get("/v1/workers").await.json()["items"][0].clone();
    assert_eq!((&worker["healthy"], &worker["slots"]), (&json!(false), &json!(0)), "{worker}");
    let floor = json!([{ "name": "floor", "active": false, "detail": reason }]);
    assert_eq!(worker["layers"], floor);
    assert_ne!(worker["name"], reason);

    let request = json!({ "language": "python", "source": "print('late')" });
    let accepted = app.submit(&request).await;
    assert_eq!(accepted["waiting_for"], reason, "{accepted}");
    let id = accepted["id"].as_str().unwrap();
    // Once it was tried, that is on disk.
    let begin = Instant::now();
    let refused = |metrics: String| {
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix("braindrill_backend_refusals_total "));
        count.is_some_and(|count| count != "0")
    };
    while !refused(app.get("/metrics").await.text()) {
        assert!(begin.elapsed() < Duration::from_secs(30), "not tried");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waits = app.in_state(id, "queued").await;
    assert_eq!((&waits["waiting_for"], &waits["attempt"]), (&json!(reason), &json!(0)), "{waits}");

    let app = app.crash().start().await;
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
    let finished = app.finished(id).await;
    assert_eq!((stdout(&finished), &finished["attempt"]), ("late\n", &json!(1)), "{finished}");
}

#[tokio::test]
async fn an_ordinary_user_without_namespaces_takes_submissions_that_run_once_there_are_some() {
    waits_and_runs_later(UserNamespaces).await;
}

#[tokio::test]
async fn root_without_capabilities_takes_submissions_that_run_once_there_are_some() {
    waits_and_runs_later(Capabilities).await;
}

async fn runs_without_a_jail(how: NoFloor) {
    let Some(app) = TestApp::without_floor(how, &["--unsafe-no-sandbox"]).await else { return };
    assert!(app.log().contains("NO SANDBOX, lifted by --unsafe-no-sandbox"), "{}", app.log());
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
    let worker = app.get("/v1/workers").await.json()["items"][0].clone();
    let layers = worker["layers"].as_array().unwrap();
    let detail = |name: &str| {
        let layer = layers.iter().find(|layer| layer["name"] == name).unwrap();
        assert_eq!(layer["active"], false, "{layer}");
        layer["detail"].as_str().unwrap()
    };
    assert!(detail("floor").starts_with(LIFTED) && detail("floor").contains(REMEDY), "{worker}");
    for name in ["namespaces", "user_namespace", "uid", "root", "network", "seccomp"] {
        assert_eq!(detail(name), LIFTED);
    }

    let cgroup = layers.iter().find(|layer| layer["name"] == "cgroup").unwrap();
    assert!(how == Capabilities || cgroup["active"] == false, "{cgroup}");
    if how == Capabilities && cgroup["active"] == false {
        skip("this machine has no cgroups for root: counted over processes once more");
    }

    // Files are taken from where the program began, whatever it makes of that.
    for (source, why) in [
        (
            "import os, shutil; shutil.rmtree(os.getcwd()); os.symlink('/etc', os.getcwd())",
            "not there",
        ),
        ("import os; os.symlink('/etc/hostname', 'hostname')", "link"),
    ] {
        let request = json!({ "language": "python", "source": source, "collect": ["hostname"] });
        let submission = app.run(&request).await;
        let missed = submission["outcome"]["files"][0]["missed"].as_str().unwrap_or_default();
        assert!(missed.contains(why), "{submission}");
    }
    let hello = app.run_source("python", "print('hello')").await;
    assert_eq!((verdict(&hello), stdout(&hello)), ("accepted", "hello\n"), "{hello}");
    let source = "#include <stdio.h>\nint main(void) { puts(\"hello\"); }";
    for _ in 0..2 {
        let hello = app.run_source("c", source).await;
        assert_eq!((verdict(&hello), stdout(&hello)), ("accepted", "hello\n"), "{hello}");
        // What programs could change is not kept.
        assert_eq!(hello["outcome"]["compile"]["cached"], false, "{hello}");
    }
    let refused = app.run_source("c", "int main(void) { return x; }").await;
    assert_eq!(verdict(&refused), "compile_error", "{refused}");

    let limited = |source: &str, limits: Value| json!({ "language": "python", "source": source, "limits": limits });
    let spins = limited("while True: pass", json!({ "cpu_time_ms": 300 }));
    let spins = app.run(&spins).await;
    assert_eq!(verdict(&spins), "time_limit_exceeded", "{spins}");
    assert!(spins["outcome"]["reason"].as_str().unwrap().contains("CPU"), "{spins}");
    let sleeps = limited("import time; time.sleep(60)", json!({ "wall_time_ms": 300 }));
    assert_eq!(verdict(&app.run(&sleeps).await), "time_limit_exceeded");
    let grows = "a = []\nwhile True: a.append(bytearray(1 << 20))";
    let grows = app.run(&limited(grows, json!({ "memory_bytes": 64 << 20 }))).await;
    assert_eq!(verdict(&grows), "memory_limit_exceeded", "{grows}");
    let writes = limited("while True: print('x' * 1000)", json!({ "output_bytes": 1000 }));
    assert_eq!(verdict(&app.run(&writes).await), "output_limit_exceeded");

    // The session's end takes neither of these along: one left it, and its parent is gone.
    let marker = marker();
    let source = format!(
        "import os\nr, w = os.pipe()\n\
         if os.fork() == 0:\n    \
             os.setsid()\n    \
             if os.fork() == 0: os.execv('/usr/bin/sleep', ['sleep', '{marker}'])\n    \
             os._exit(0)\n\
         os.close(w); os.read(r, 1)\n\
         print('it sleeps')"
    );
    let left = app.run_source("python", &source).await;
    assert_eq!((verdict(&left), stdout(&left)), ("accepted", "it sleeps\n"), "{left}");
    assert_eq!(with_word(&marker), Vec::<i32>::new());

    // What it finds: folders of its own in place of a jail's, and nothing inherited.
    let source = "import os, pathlib\n\
                  assert os.getcwd() == os.environ['HOME'], os.environ\n\
                  pathlib.Path(os.environ['TMPDIR'], 'a').mkdir(mode=0)\n\
                  print(sorted(os.environ), sorted(os.listdir('/proc/self/fd'))[:3], os.getsid(0) == os.getpid())";
    let sees = app.run_source("python", source).await;
    let expected = "['HOME', 'LANG', 'PATH', 'TMPDIR', 'TZ'] ['0', '1', '2'] True\n";
    assert_eq!(stdout(&sees), expected, "{sees}");
    assert_eq!(left_over(&app), Vec::<String>::new());
}

#[tokio::test]
async fn an_ordinary_user_without_namespaces_runs_programs_where_that_is_asked_for() {
    runs_without_a_jail(UserNamespaces).await;
}

#[tokio::test]
async fn root_without_capabilities_runs_programs_where_that_is_asked_for() {
    runs_without_a_jail(Capabilities).await;
}

#[tokio::test]
async fn without_a_jail_too_nothing_outlives_a_daemon_that_is_killed() {
    let Some(app) = TestApp::without_floor(UserNamespaces, &["--unsafe-no-sandbox"]).await else {
        return;
    };
    let marker = marker();
    let source = format!("import os\nos.system('setsid sleep {marker} & exec sleep {marker}')");
    let id = app.submit_for_id(&json!({ "language": "python", "source": source })).await;
    until("both sleep", || with_word(&marker).len() >= 2).await;
    let temporary = app.temporary();
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
    let ended = app.crash();
    until("both are gone", || with_word(&marker).is_empty()).await;
    until("the folder is gone", || std::fs::read_dir(&temporary).unwrap().count() == 0).await;
    // A daemon that has a floor takes the rest over.
    let app = ended.start().await;
    assert!(app.log().contains("changes nothing"), "{}", app.log());
    app.in_state(&id, "running").await;
    app.post(&format!("/v1/submissions/{id}/cancel")).await;
}

#[tokio::test]
async fn where_there_is_a_floor_the_flag_does_not_take_the_jail_away() {
    let app = TestApp::with(&["--unsafe-no-sandbox"]).await;
    assert!(app.log().contains("--unsafe-no-sandbox changes nothing"), "{}", app.log());
    let ran = app.run_source("bash", "hostname; pwd").await;
    assert_eq!(stdout(&ran), "sandbox\n/box\n", "{ran}");
    let worker = app.get("/v1/workers").await.text();
    assert!(!worker.contains(LIFTED), "{worker}");
}

#[test]
fn no_sandbox_for_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_braindrill"))
        .args(["serve", "--listen", "0.0.0.0:0", "--allow-anonymous", "--unsafe-no-sandbox"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(message.contains("--unsafe-no-sandbox is for this machine alone"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn doctor_says_what_is_missing_and_what_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let doctor = |args: &[&str]| {
        let mut command = UserNamespaces.command()?;
        command.arg(env!("CARGO_BIN_EXE_braindrill")).arg("doctor").args(args);
        Some(command.current_dir(dir.path()).output().unwrap())
    };
    let Some(output) = doctor(&[]) else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && text.contains(REMEDY), "{text}");
    let output = doctor(&["--unsafe-no-sandbox"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(LIFTED), "{text}");
}
