//! Files of the work directory that come back.

use serde_json::{Value, json};

use crate::support::{
    answer::Answer,
    app::TestApp,
    nomad::Nomad,
    worker::{SECRET, TestWorker},
};

/// Bytes that are no text, and more than one event carries.
const LARGE: usize = 200_000;

const PROGRAM: &str = "\
import os, sys
os.mkdir('plots')
open('plots/b.png', 'wb').write(bytes(range(256)) * 782)
open('plots/a.txt', 'w').write('hällo')
open('empty', 'w').close()
os.symlink('/etc/passwd', 'link')
os.symlink('plots', 'folder')
os.mkfifo('fifo')
open('large', 'w').truncate(5 << 20)
print('done')
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
";

fn request() -> Value {
    json!({
        "language": "python", "source": PROGRAM,
        "collect": ["plots/", "empty", "missing", "link", "folder/a.txt", "fifo", "large", "main.py"],
    })
}

async fn file(app: &TestApp, submission: &Value, path: &str) -> Answer {
    let id = submission["id"].as_str().unwrap();
    let request = app.request(reqwest::Method::GET, &format!("/v1/submissions/{id}/files"));
    app.send(request.query(&[("path", path)])).await
}

async fn assert_collected(app: &TestApp, submission: &Value) {
    let files = submission["outcome"]["files"].as_array().unwrap();
    let listed: Vec<_> = files
        .iter()
        .map(|file| {
            let missed = file["missed"].as_str().unwrap_or_default();
            (file["path"].as_str().unwrap(), file["bytes"].as_u64().unwrap(), missed)
        })
        .collect();
    let link = "is a link, or behind one, and none is followed";
    let left = (4 << 20) - 200_198;
    let large = format!("is larger than the {left} bytes that are left of 4194304");
    assert_eq!(
        listed,
        [
            ("plots/a.txt", 6, ""),
            ("plots/b.png", 200_192, ""),
            ("empty", 0, ""),
            ("missing", 0, "is not there"),
            ("link", 0, link),
            ("folder/a.txt", 0, link),
            ("fifo", 0, "is neither a file nor a folder"),
            ("large", 5 << 20, &large),
            ("main.py", PROGRAM.len() as u64, ""),
        ],
        "{submission}"
    );
    let whole: Vec<u8> = (0..=255).cycle().take(256 * 782).collect();
    assert!(whole.len() > LARGE);
    for (path, content) in [
        ("plots/b.png", &whole[..]),
        ("plots/a.txt", "hällo".as_bytes()),
        ("empty", b""),
        ("main.py", PROGRAM.as_bytes()),
    ] {
        let answer = file(app, submission, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert_eq!(answer.header("content-length"), content.len().to_string());
        assert!(answer.body == content, "{path}");
    }
    for path in ["missing", "link", "large", "plots", "plots/", "", "../main.py"] {
        file(app, submission, path).await.problem(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_back_from_this_machine_and_outlive_the_daemon() {
    let app = TestApp::start().await;
    let first = app.run(&request()).await;
    assert_collected(&app, &first).await;
    // By an interpreter that waited for it, too.
    let second = app.run(&request()).await;
    assert_collected(&app, &second).await;

    let app = app.crash_and_restart().await;
    assert_collected(&app, &second).await;
    let again = format!("/v1/submissions/{}/rerun?wait=60", second["id"].as_str().unwrap());
    assert_collected(&app, &app.post(&again).await.json()).await;
    let id = second["id"].as_str().unwrap();
    assert_eq!(app.delete(&format!("/v1/submissions/{id}")).await.status, 204);
    file(&app, &second, "empty").await.problem(404);
    // Whoever asks for none is told of none.
    let without = app.run_source("python", "print(1)").await;
    assert_eq!(without["outcome"].get("files"), None, "{without}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_back_from_workers_and_from_nodes_of_nomad() {
    let worker = TestWorker::start(1);
    let variables = [("BRAINDRILL_WORKER_SECRET", SECRET)];
    let flags = ["--backend", "pool", "--no-consul", "--workers", &worker.url()];
    let app = TestApp::with_variables(&variables, &flags).await;
    assert_collected(&app, &app.run(&request()).await).await;

    let nomad = Nomad::shared().await;
    let address = nomad.address();
    let app = TestApp::with(&["--backend", "nomad", "--nomad-addr", &address, "--no-consul"]).await;
    assert_collected(&app, &app.run(&request()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_a_program_ends_its_files_are_taken() {
    let app = TestApp::start().await;
    let run = async |source: &str, verdict: &str| {
        let request = json!({
            "language": "bash", "source": format!("echo here > file; {source}"),
            "collect": ["file"], "limits": { "wall_time_ms": 1500 },
        });
        let submission = app.run(&request).await;
        assert_eq!(submission["outcome"]["verdict"], verdict, "{submission}");
        assert_eq!(file(&app, &submission, "file").await.text(), "here\n");
    };
    run("exit 3", "runtime_error").await;
    run("kill -9 $$", "runtime_error").await;
    run("sleep 10", "time_limit_exceeded").await;
    run("yes", "output_limit_exceeded").await;

    // Nothing was run where it could not be compiled.
    let broken = json!({ "language": "c", "source": "x", "collect": ["file"] });
    let submission = app.run(&broken).await;
    assert_eq!(submission["outcome"]["verdict"], "compile_error");
    assert_eq!(submission["outcome"].get("files"), None);
    let compiled = json!({
        "language": "c",
        "source": "#include <stdio.h>\nint main(void) { fputs(\"c\", fopen(\"file\", \"w\")); return 0; }",
        "collect": ["file"],
    });
    assert_eq!(file(&app, &app.run(&compiled).await, "file").await.text(), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_before_anything_runs() {
    let app = TestApp::start().await;
    for (collect, field) in [
        (json!(["../x"]), "collect[0]"),
        (json!(["a", "/etc/passwd"]), "collect[1]"),
        (json!([""]), "collect[0]"),
        (json!(["a//b"]), "collect[0]"),
        (json!(["a\u{0}"]), "collect[0]"),
        (json!(vec!["x"; 17]), "collect"),
        (json!("x"), "collect"),
    ] {
        let request = json!({ "language": "bash", "source": "true", "collect": collect });
        let problem = app.post_json("/v1/submissions", &request).await.problem(422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let request = json!({
        "language": "bash", "source": "true", "collect": ["x"], "tests": [{ "stdin": "1" }],
    });
    let problem = app.post_json("/v1/submissions", &request).await.problem(422);
    assert_eq!(problem["errors"][0]["field"], "collect", "{problem}");
    assert!(app.all().await.is_empty());

    // One that still runs has none yet.
    let running = json!({ "language": "bash", "source": "sleep 20", "collect": ["x"] });
    let id = app.submit_for_id(&running).await;
    app.get(&format!("/v1/submissions/{id}/files?path=x")).await.problem(404);
    app.get(&format!("/v1/submissions/{id}/files")).await.problem(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_saves_files_where_it_is_told() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plot.py"), PROGRAM).unwrap();
    for local in [&[][..], &["--local"]] {
        let collect = ["--collect", "plots", "--collect", "missing", "--into", "taken"];
        let words = [&["run"][..], local, &collect, &["plot.py", "--", "3"]].concat();
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_braindrill"))
            .args(&words)
            .current_dir(folder.path())
            .env("BRAINDRILL_SERVER", format!("http://{}", app.address()))
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(ran.status.code(), Some(3), "{words:?}: {}", text(&ran.stderr));
        assert_eq!(text(&ran.stdout), "done\n");
        assert_eq!(text(&ran.stderr), "braindrill: missing is not there\n");
        let taken = folder.path().join("taken");
        assert_eq!(std::fs::read(taken.join("plots/a.txt")).unwrap(), "hällo".as_bytes());
        assert_eq!(std::fs::read(taken.join("plots/b.png")).unwrap().len(), 256 * 782);
        assert!(!taken.join("missing").exists());
        std::fs::remove_dir_all(taken).unwrap();
    }
}
