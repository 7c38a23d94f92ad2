//! What an operator can come across: a full disk, a database that is locked or damaged, a folder that
//! cannot be used, an address that is taken.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{app::TestApp, disk, mix, skip, traces};

/// Within this a daemon that cannot start has said so: a lock is waited for 5 s.
const SOON: Duration = Duration::from_secs(30);

fn serve(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braindrill"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What a daemon says that does not start: one line, without the words of a panic.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() && begin.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Does nothing to one that has ended.
    child.kill().unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert_eq!(stdout, "", "it never said that it listens");
    let said: Vec<_> = stderr.lines().filter(|line| line.starts_with("braindrill: ")).collect();
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
    said[0].to_owned()
}

#[track_caller]
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

/// The files of a database that has been used, in a folder of their own.
async fn used_data() -> (tempfile::TempDir, std::path::PathBuf) {
    let mut app = TestApp::start().await;
    for number in 0..20 {
        let case = mix::case(number % 5, "no program sleeps");
        case.check(&app.run(&case.request).await);
    }
    app.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(app.wait_for_exit().success());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let left = traces::entries(&app.data_dir());
    let wal = left.iter().find(|entry| entry.to_string_lossy().ends_with("-wal"));
    assert_eq!(wal, None, "a daemon that has ended leaves one file to be copied");
    for entry in traces::entries(&app.data_dir()).into_iter().filter(|entry| entry.is_file()) {
        fs::copy(&entry, data.join(entry.file_name().unwrap())).unwrap();
    }
    (folder, data)
}

#[tokio::test]
async fn a_compiled_program_runs_from_a_data_folder_with_any_kind_of_path() {
    let source = "#include <stdio.h>\nint main(void) { puts(\"on\"); }";
    for app in [TestApp::start().await, TestApp::behind_a_link().await] {
        let submission = app.run_source("c", source).await;
        assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], "on\n", "{submission}");
    }
}

#[tokio::test]
async fn what_is_kept_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let app = TestApp::start().await;
    let submission = app.run_source("c", "int main(void) { return 0; }").await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    let entries = traces::entries(&app.data_dir());
    assert!(entries.len() > 2, "{entries:?}");
    for path in entries.into_iter().chain([app.data_dir()]) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
    }
}

#[tokio::test]
async fn a_damaged_database_is_named_with_what_to_do() {
    let (_folder, data) = used_data().await;
    let file = data.join("braindrill.db");
    let whole = fs::read(&file).unwrap();
    let mut garbage = whole.clone();
    garbage[..100].fill(0xa5);
    // The first page after the header: the table of tables.
    let mut no_tables = whole.clone();
    no_tables[100..4096].fill(0xa5);
    for damaged in
        [&garbage, &no_tables, &whole[..whole.len() / 2].to_vec(), &whole[..5000].to_vec()]
    {
        fs::write(&file, damaged).unwrap();
        let message = refusal(&mut serve(&data));
        assert_says(&message, &["damaged", "backup", "-wal"]);
        assert_eq!(&fs::read(&file).unwrap(), damaged, "it is left as it is");
    }
    fs::write(&file, whole).unwrap();
    fs::remove_file(data.join("braindrill.lock")).unwrap();
    fs::create_dir(data.join("braindrill.lock")).unwrap();
    assert_says(&refusal(&mut serve(&data)), &["--data-dir", "directory"]);
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let (_folder, data) = used_data().await;
    let mut database = open(&data).await;
    sqlx::query("UPDATE _sqlx_migrations SET version = version + 90000000000000")
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
    assert_says(&refusal(&mut serve(&data)), &["newer braindrill", "--data-dir"]);
}

/// Opens the database as another program would.
async fn open(data: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("braindrill.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn execute(database: &mut SqliteConnection, sql: &'static str) {
    sqlx::query(sql).execute(database).await.unwrap();
}

#[tokio::test]
async fn a_database_that_another_program_holds_is_not_waited_for_without_end() {
    let (_folder, data) = used_data().await;
    let mut other = open(&data).await;
    execute(&mut other, "BEGIN EXCLUSIVE").await;
    assert_says(&refusal(&mut serve(&data)), &["locked by another program", "try again"]);
    execute(&mut other, "ROLLBACK").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_another_program_holds_the_database_clients_are_told_and_nothing_is_lost() {
    let app = TestApp::start().await;
    let sleep = json!({ "language": "bash", "source": "sleep 1; echo slept" });
    let before = app.submit_for_id(&sleep).await;
    app.in_state(&before, "running").await;
    let mut other = open(&app.data_dir()).await;
    execute(&mut other, "BEGIN EXCLUSIVE").await;
    let refused = app.post_json("/v1/submissions", &sleep).await;
    let problem = refused.problem(503);
    assert_says(problem["detail"].as_str().unwrap(), &["locked"]);
    assert!(!refused.header("retry-after").is_empty());
    app.get("/healthz/ready").await.problem(503);
    let read = app.get(&format!("/v1/submissions/{before}")).await.json();
    assert_eq!(read["state"], "running", "what is there can be read: {read}");
    execute(&mut other, "ROLLBACK").await;
    other.close().await.unwrap();
    let submission = app.finished(&before).await;
    assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    assert_eq!(submission["outcome"]["runs"][0]["stdout"]["data"], "slept\n");
    assert_eq!(submission["attempt"], 1, "its result was kept: {submission}");
    assert_eq!(app.get("/healthz/ready").await.json()["status"], "ready");
    app.run(&sleep).await;
    assert_eq!(app.all().await.len(), 2, "what was refused is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_is_new_and_loses_nothing_of_what_is_there() {
    let Some(app) = TestApp::on_disk(100 << 20, &[]).await else { return };
    let sleep = json!({ "language": "bash", "source": "sleep 1; echo slept" });
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(app.submit_for_id(&sleep).await);
    }
    let filler = app.data_dir().join("filler");
    // Text that does not compress to nothing.
    let noise = (0..8_000u32).map(|n| format!("#{}\n", blake3::hash(&n.to_le_bytes())));
    let large = json!({ "language": "bash", "source": noise.collect::<String>() });
    // What SQLite has set aside lets a few more in.
    let mut accepted = 0;
    let refused = loop {
        disk::fill(&filler);
        let answer = app.post_json("/v1/submissions", &large).await;
        if answer.status != 201 {
            break answer;
        }
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
        accepted += 1;
        assert!(accepted < 20, "half a megabyte each, and the disk is full");
    };
    let problem = refused.problem(503);
    assert_says(problem["detail"].as_str().unwrap(), &["disk is full"]);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(app.get("/healthz/live").await.status, 200);
    for id in &ids {
        assert_eq!(app.get(&format!("/v1/submissions/{id}")).await.status, 200);
    }
    fs::remove_file(&filler).unwrap();
    for id in &ids {
        let submission = app.finished(id).await;
        assert_eq!(submission["outcome"]["verdict"], "accepted", "{submission}");
    }
    assert_eq!(app.all().await.len(), ids.len(), "what was refused is not there");
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for data in [file.join("data"), file.clone(), Path::new("/proc/braindrill").to_owned()] {
        let message = refusal(&mut serve(&data));
        assert_says(&message, &["data directory", data.to_str().unwrap(), "--data-dir"]);
    }
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Root may write anywhere; nobody may not.
    let mut command = serve(&folder.path().join("data"));
    command.uid(65534).gid(65534);
    if command.output().is_err() {
        skip("the executable is in a folder that only root may enter");
        return;
    }
    assert_says(&refusal(&mut command), &["Permission denied", "writable", "--data-dir"]);
}

#[tokio::test]
async fn a_second_daemon_and_a_taken_address_are_refused_at_once() {
    let app = TestApp::start().await;
    let message = refusal(&mut serve(&app.data_dir()));
    assert_says(&message, &["in use", &app.pid().to_string(), "--data-dir"]);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_braindrill"));
    command.args(["serve", "--listen", app.address(), "--data-dir"]).arg(folder.path());
    assert_says(&refusal(&mut command), &["cannot listen on", app.address(), "--listen"]);
    let case = mix::case(0, "no program sleeps");
    case.check(&app.run(&case.request).await);
}
