//! The corpus in `tests/programs/<language>/<case>/`: each program with the exact verdict and
//! reason that it must get, through HTTP.
//!
//! `BRAINDRILL_PROGRAMS=python/` runs only the cases whose path begins so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use braindrill::{
    language::{Catalog, LimitDefaults, Status},
    submission::Verdict,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    local::{Local, test},
    support::{
        app::TestApp,
        nomad::Nomad,
        worker::{SECRET, TestWorker},
    },
};

/// The languages that a machine which runs these tests must have.
const LANGUAGES_NEEDED: usize = 12;

/// One folder of the corpus.
struct Case {
    /// `python/hello`.
    name: String,
    language: String,
    files: BTreeMap<String, Vec<u8>>,
    stdin: String,
    expect: Expect,
}

/// `expect.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    verdict: Verdict,
    /// `{n}` stands for any number. Several, where it is a race which of two limits acts first.
    reason: OneOrMore,
    /// The file to start, where it is not the language's own.
    entrypoint: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    /// Makes it a submission with one test.
    expected_output: Option<String>,
    /// Exact stdout.
    stdout: Option<String>,
    /// How much of stdout is kept.
    stdout_bytes: Option<usize>,
    /// Least and most.
    cpu_time_ms: Option<[u64; 2]>,
    /// The most that the run may take on the clock.
    within_ms: Option<u64>,
    #[serde(default)]
    limits: LimitDefaults,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            OneOrMore::One(one) => std::slice::from_ref(one),
            OneOrMore::More(more) => more,
        }
    }
}

impl Case {
    fn read(folder: &Path) -> Case {
        let name = |path: &Path| path.file_name().expect("named").to_string_lossy().into_owned();
        let language = name(folder.parent().expect("in a language"));
        let mut files = BTreeMap::new();
        read_files(folder, folder, &mut files);
        let mut take =
            |name: &str| files.remove(name).map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        let expect = take("expect.toml").unwrap_or_else(|| panic!("{folder:?}: no expect.toml"));
        let stdin = take("stdin").unwrap_or_default();
        Case {
            name: format!("{language}/{}", name(folder)),
            expect: toml::from_str(&expect).unwrap_or_else(|error| panic!("{folder:?}: {error}")),
            language,
            files,
            stdin,
        }
    }

    /// The body of the request.
    fn body(&self) -> Value {
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("UTF-8");
        let files =
            self.files.iter().map(|(path, bytes)| json!({"path": path, "content": text(bytes)}));
        let mut body = json!({
            "language": self.language,
            "files": files.collect::<Vec<_>>(),
            "stdin": self.stdin,
            "args": self.expect.args,
            "limits": self.expect.limits,
        });
        if let Some(entrypoint) = &self.expect.entrypoint {
            body["entrypoint"] = json!(entrypoint);
        }
        if let Some(expected) = &self.expect.expected_output {
            body["tests"] = json!([{"stdin": self.stdin, "expected_output": expected}]);
        }
        body
    }

    /// What is not as expected in a finished submission.
    fn differences(&self, submission: &Value) -> Vec<String> {
        let expect = &self.expect;
        let outcome = &submission["outcome"];
        let run = &outcome["runs"][0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut differences = Vec::new();
        let reason = text(&outcome["reason"]);
        if outcome["verdict"] != expect.verdict.as_str()
            || !expect.reason.all().iter().any(|pattern| matches(pattern, &reason))
        {
            differences.push(format!("{}: {reason}", outcome["verdict"]));
            differences.push(text(&outcome["compile"]["stderr"]["data"]));
            differences.push(text(&run["stderr"]["data"]));
        }
        let stdout = text(&run["stdout"]["data"]);
        if let Some(expected) = &expect.stdout
            && stdout != *expected
        {
            differences.push(format!("stdout {stdout:?}"));
        }
        if let Some(expected) = expect.stdout_bytes
            && (stdout.len() != expected || run["stdout"]["truncated"] != true)
        {
            differences.push(format!("{} bytes of stdout", stdout.len()));
        }
        let number = |name: &str| run[name].as_u64().unwrap_or(u64::MAX);
        if let Some([least, most]) = expect.cpu_time_ms
            && !(least..=most).contains(&number("cpu_time_ms"))
        {
            differences.push(format!("{} ms of CPU time", run["cpu_time_ms"]));
        }
        if let Some(most) = expect.within_ms
            && number("wall_time_ms") > most
        {
            differences.push(format!("took {} ms", run["wall_time_ms"]));
        }
        differences
    }
}

fn read_files(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for path in entries(folder) {
        if path.is_dir() {
            read_files(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("inside").to_string_lossy().into_owned();
            files.insert(name, std::fs::read(&path).expect("readable"));
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

/// Whether `text` is `pattern` with a number for each `{n}`.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("{n}");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        match rest[digits..].strip_prefix(part) {
            Some(after) if digits > 0 => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn corpus() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let only = std::env::var("BRAINDRILL_PROGRAMS").unwrap_or_default();
    let cases = entries(&root).into_iter().flat_map(|language| entries(&language));
    cases.map(|folder| Case::read(&folder)).filter(|case| case.name.starts_with(&only)).collect()
}

#[test]
fn a_pattern_matches_numbers_and_nothing_else() {
    assert!(matches("used {n} of 500 ms", "used 512 of 500 ms"));
    assert!(!matches("used {n} of 500 ms", "used  of 500 ms"));
    assert!(!matches("used {n} of 500 ms", "used 512 of 500 ms!"));
    assert!(!matches("exited", "exited with code 1"));
}

/// Why each language that is not installed is not, by id.
async fn missing_languages(app: &TestApp) -> (usize, BTreeMap<String, String>) {
    let languages = app.get("/v1/languages").await.json();
    let languages = languages["items"].as_array().expect("a list").clone();
    let missing = languages.iter().filter(|language| language["available"] != true);
    let missing: BTreeMap<_, _> = missing
        .map(|language| (language["id"].as_str().expect("id").to_owned(), language.to_string()))
        .collect();
    (languages.len() - missing.len(), missing)
}

/// Runs these, and says of which what is not as expected.
async fn run_all(app: &TestApp, cases: &[Case]) -> Vec<String> {
    // As many at a time as there are clients here; the daemon has its own opinion of slots.
    let queue = std::sync::Mutex::new(cases.iter());
    let client = || async {
        let mut failures = Vec::new();
        loop {
            let Some(case) = queue.lock().expect("not poisoned").next() else { break failures };
            let submission = app.run(&case.body()).await;
            let run = &submission["outcome"]["runs"][0];
            println!("{}: {} ms, {} bytes", case.name, run["wall_time_ms"], run["memory_bytes"]);
            let differences = case.differences(&submission);
            if !differences.is_empty() {
                failures.push(format!("{}: {}", case.name, differences.join("\n    ")));
            }
        }
    };
    let (first, second) = tokio::join!(client(), client());
    [first, second].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_of_the_corpus_gets_its_verdict_and_reason() {
    // Each is compiled, whatever another was.
    let app = TestApp::with(&["--compile-cache-bytes", "0"]).await;
    let (installed, missing) = missing_languages(&app).await;
    for (language, why) in &missing {
        println!("SKIPPED {language}: {why}");
    }
    let cases: Vec<_> =
        corpus().into_iter().filter(|case| !missing.contains_key(&case.language)).collect();
    let failures = run_all(&app, &cases).await;
    println!("{} programs of {installed} languages, {} skipped", cases.len(), missing.len());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(installed >= LANGUAGES_NEEDED, "only {installed} are installed: {missing:?}");
    assert!(!cases.is_empty(), "nothing was run");
    let programs =
        std::fs::read_dir(app.data_dir().join("programs")).expect("the folder of programs");
    assert_eq!(programs.count(), 0, "compiled programs are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_the_same_verdict_and_reason_on_nomad() {
    let nomad = Nomad::shared().await;
    let args = ["--backend", "nomad", "--nomad-addr", &nomad.address(), "--no-consul"];
    elsewhere(&TestApp::with(&args).await, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_the_same_verdict_and_reason_on_warm_workers() {
    let worker = TestWorker::with(2, &["--no-consul", "--compile-cache-bytes", "0"]);
    let args = ["--backend", "pool", "--workers", &worker.url(), "--no-consul"];
    let app = TestApp::with_variables(&[("BRAINDRILL_WORKER_SECRET", SECRET)], &args).await;
    // These compile for minutes together, and what is tried here is the way to the runner.
    elsewhere(&app, &["kotlin", "scala"]).await;
}

/// Those that start ahead, each program twice: the first time has an interpreter wait for the second. How
/// they run without is seen above, on Nomad, where none waits.
#[tokio::test(flavor = "multi_thread")]
async fn programs_get_the_same_verdict_and_reason_when_their_interpreters_wait() {
    let app = TestApp::start().await;
    let (_, missing) = missing_languages(&app).await;
    let catalog = Catalog::load(None).expect("embedded languages");
    let is_ahead = |id: &str| catalog.get(id).is_some_and(|entry| entry.definition.ahead.is_some());
    let mut cases = corpus();
    cases.retain(|case| is_ahead(&case.language) && !missing.contains_key(&case.language));
    let mut failures = Vec::new();
    for case in &cases {
        for _ in 0..2 {
            let differences = case.differences(&app.run(&case.body()).await);
            if !differences.is_empty() {
                failures.push(format!("{}: {}", case.name, differences.join("\n    ")));
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    let figures = app.get("/metrics").await.text();
    let count = figures
        .lines()
        .find_map(|line| line.strip_prefix("braindrill_prepared_runs_total "))
        .and_then(|count| count.parse::<usize>().ok());
    // Not of those with arguments, with a file that is looked for, or with another entrypoint.
    assert!(count >= Some(cases.len() * 2 / 3), "{count:?} of {}", cases.len());
}

/// The corpus on a daemon that runs nothing itself, less these languages.
async fn elsewhere(app: &TestApp, but: &[&str]) {
    let (_, missing) = missing_languages(app).await;
    let mut cases = corpus();
    cases.retain(|case| !missing.contains_key(&case.language));
    cases.retain(|case| !but.contains(&case.language.as_str()));
    let failures = run_all(app, &cases).await;
    println!("{} programs, without those of {:?}", cases.len(), missing.keys());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(!cases.is_empty(), "nothing was run");
}

#[tokio::test]
async fn every_language_runs_its_self_test_in_the_least_memory_that_may_be_asked_for() {
    let local = Local::start(1).await;
    let mut failures = Vec::new();
    for entry in local.catalog.list() {
        let definition = entry.definition;
        if let Status::Unavailable(reason) = entry.status {
            println!("SKIPPED {}: {reason}", definition.id);
            continue;
        }
        let program = definition.self_test.as_ref().expect("all have one");
        let mut request = local.request(&definition.id, &program.source);
        request.request.limits.memory_bytes = definition.minimum_memory();
        request.request.limits.disk_bytes = definition.minimum_memory() / 2;
        request.request.tests = vec![test("1", "", &program.stdout)];
        let executed = local.execute(request).await;
        let report = executed.report();
        if report.verdict != Verdict::Accepted {
            let stderr = String::from_utf8_lossy(&executed.stderr(0)).into_owned();
            failures.push(format!("{}: {}: {stderr}", definition.id, report.reason));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
