//! Compiled programs that are kept, through the real daemon and its sandbox.

mod runner;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    disk,
    worker::{SECRET, TestWorker},
};

/// A C program that the compiler warns of, and what it prints.
fn c(said: &str) -> Value {
    let source = format!(
        "#include <stdio.h>\n#warning look here\nint main(void) {{ puts(\"{said}\"); return 0; }}"
    );
    json!({ "language": "c", "source": source })
}

#[track_caller]
fn assert_says(submission: &Value, said: &str, cached: bool) {
    let outcome = &submission["outcome"];
    assert_eq!(outcome["verdict"], "accepted", "{submission}");
    assert_eq!(outcome["runs"][0]["stdout"]["data"], format!("{said}\n"), "{submission}");
    assert_eq!(outcome["compile"]["cached"], cached, "{submission}");
}

/// The files in a cache.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_equal_submissions_is_not_compiled_and_says_the_same_of_it() {
    let app = TestApp::start().await;
    let first = app.run(&c("one")).await;
    assert_says(&first, "one", false);
    let second = app.run(&c("one")).await;
    assert_says(&second, "one", true);
    let mut compile = second["outcome"]["compile"].clone();
    compile["cached"] = json!(false);
    assert_eq!(compile, first["outcome"]["compile"], "diagnostics and figures are those of then");
    assert!(compile["stderr"]["data"].as_str().unwrap().contains("look here"), "{compile}");

    // Another source, other arguments, another language: each is compiled.
    assert_says(&app.run(&c("two")).await, "two", false);
    let mut other = c("one");
    other["compile_args"] = json!(["-O0"]);
    assert_says(&app.run(&other).await, "one", false);
    other["compile_args"] = json!(["-O0", "-g"]);
    assert_says(&app.run(&other).await, "one", false);
    other["compile_args"] = json!(["-O0"]);
    assert_says(&app.run(&other).await, "one", true);
    // What a run alone is given changes nothing of the compile.
    let mut other = c("one");
    other["env"] =
        json!({ "A": "1", "PATH": "/nowhere", "CPATH": "/box", "GCC_EXEC_PREFIX": "/box" });
    other["stdin"] = json!("x");
    other["args"] = json!(["x"]);
    other["limits"] = json!({ "memory_bytes": 64 << 20 });
    assert_says(&app.run(&other).await, "one", true);

    let metrics = app.get("/metrics").await.text();
    for line in [
        "braindrill_compiles_total{cached=\"false\"} 4",
        "braindrill_compiles_total{cached=\"true\"} 3",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let kept = entries(&app.data_dir().join("compiled"));
    assert_eq!(kept.len(), 4, "{kept:?}");
    assert_eq!(entries(&app.data_dir().join("programs")), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_outlives_the_daemon_and_a_damaged_one_is_compiled_anew() {
    let app = TestApp::start().await;
    assert_says(&app.run(&c("one")).await, "one", false);
    let app = app.crash_and_restart().await;
    assert_says(&app.run(&c("one")).await, "one", true);

    let [entry] = &entries(&app.data_dir().join("compiled"))[..] else { panic!("one is kept") };
    let mut bytes = fs::read(entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(entry, bytes).unwrap();
    assert_says(&app.run(&c("one")).await, "one", false);
    assert_says(&app.run(&c("one")).await, "one", true);
    assert_eq!(app.log().matches("a kept program is damaged").count(), 1, "{}", app.log());
}

/// A C program of 8 MiB that says a number: large enough that writing it takes a while.
fn large(number: usize) -> Value {
    let source = format!(
        "#include <stdio.h>\nchar held[8 << 20] = {{1}};\n\
         int main(void) {{ printf(\"%d\\n\", {number} + held[0] - 1); return 0; }}"
    );
    json!({ "language": "c", "source": source })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_while_it_keeps_programs_leaves_a_cache_of_whole_ones() {
    let mut app = TestApp::with(&["--slots", "2"]).await;
    let folder = app.data_dir().join("compiled");
    let mut torn = Vec::new();
    for round in 0..6 {
        let before = entries(&folder).len();
        for number in 0..4 {
            app.submit_for_id(&large(round * 4 + number)).await;
        }
        // Killed as soon as something of a new one is there, half or whole.
        tokio::time::timeout(Duration::from_secs(60), async {
            while entries(&folder).len() == before {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        app.signal(Signal::SIGKILL);
        let ended = app.crash();
        torn.extend(entries(&folder).into_iter().filter(|path| path.extension().is_some()));
        app = ended.start().await;
        assert!(torn.iter().all(|path| !path.exists()), "round {round}: {torn:?}");
    }
    println!("{} were half written", torn.len());
    for submission in app.all().await {
        app.finished(submission["id"].as_str().unwrap()).await;
    }
    for number in 0..24 {
        // Each was compiled meanwhile, and is right.
        assert_says(&app.run(&large(number)).await, &number.to_string(), true);
    }
    assert!(!app.log().contains("damaged"), "a kill leaves what was written: {}", app.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_zero_bytes_nothing_is_kept_and_what_was_kept_is_removed() {
    let app = TestApp::start().await;
    app.run(&c("one")).await;
    let folder = app.data_dir().join("compiled");
    assert_eq!(entries(&folder).len(), 1);
    let app = app.crash().with(&["--compile-cache-bytes", "0"]).start().await;
    assert_eq!(entries(&folder).len(), 0);
    for _ in 0..2 {
        assert_says(&app.run(&c("one")).await, "one", false);
    }
    assert_eq!(entries(&folder).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_programs_give_way_to_others_on_a_disk_that_fills() {
    // Room for one program of whatever size, and a little more.
    let Some(app) = TestApp::on_disk(100 << 20, &["--slots", "1"]).await else { return };
    let folder = app.data_dir().join("compiled");
    for number in 0..8 {
        assert_says(&app.run(&large(number)).await, &number.to_string(), false);
        let free = nix::sys::statvfs::statvfs(&app.data_dir()).unwrap();
        let free = free.blocks_available() * free.fragment_size();
        assert!(free >= 64 << 20, "what another may need stays free: {free}");
    }
    let kept = entries(&folder).len();
    assert!((1..8).contains(&kept), "{kept}");
    assert_says(&app.run(&large(7)).await, "7", true);
    // Somebody else fills the disk, but for what is kept and a little less than a program may need.
    let filler = app.data_dir().join("filler");
    disk::fill(&filler);
    let file = fs::File::options().write(true).open(&filler).unwrap();
    file.set_len(file.metadata().unwrap().len() - (60 << 20)).unwrap();
    assert_says(&app.run(&large(8)).await, "8", false);
    assert!(entries(&folder).len() < kept, "some gave way");
    let attempts = app.all().await.iter().map(|each| each["attempt"].clone()).collect::<Vec<_>>();
    assert!(attempts.iter().all(|attempt| *attempt == 1), "nobody waited for it: {attempts:?}");
    // Wholly, while nobody wants to run anything: the database needs room too.
    disk::fill(&filler);
    tokio::time::timeout(Duration::from_secs(60), async {
        while !entries(&folder).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("all give way in a while");
    let waiting = app.submit_for_id(&large(9)).await;
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_says(&app.finished(&waiting).await, "9", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_worker_keeps_programs_for_each_daemon_apart() {
    let worker = TestWorker::start(1);
    let daemon = async || {
        let flags = ["--backend", "pool", "--no-consul", "--workers", &worker.url()];
        TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &flags).await
    };
    let (one, other) = (daemon().await, daemon().await);
    assert_says(&one.run(&c("one")).await, "one", false);
    assert_says(&one.run(&c("one")).await, "one", true);
    // Both say `anonymous`, and mean somebody else.
    assert_says(&other.run(&c("one")).await, "one", false);
    assert_says(&other.run(&c("one")).await, "one", true);
}
