//! The corpus in `tests/programs/<language>/<case>/`: each program with the exact verdict and
//! reason that it must get.
//!
//! `BRAINDRILL_PROGRAMS=python/` runs only the cases whose path begins so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use braindrill::{
    language::{LimitDefaults, Status},
    protocol::ExecutionRequest,
    submission::{SourceFile, Verdict},
};
use serde::Deserialize;

use crate::local::{Executed, Local, test};

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
    /// The most that the whole may take.
    within_ms: Option<u128>,
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

    fn request(&self, local: &Local) -> ExecutionRequest {
        let mut execution = local.request(&self.language, "");
        let request = &mut execution.request;
        request.source = None;
        request.files = self
            .files
            .iter()
            .map(|(path, content)| SourceFile {
                path: path.clone(),
                content: content.clone().into(),
                encoding: Default::default(),
            })
            .collect();
        if let Some(entrypoint) = &self.expect.entrypoint {
            request.entrypoint = entrypoint.clone();
        }
        request.stdin = self.stdin.clone();
        request.args = self.expect.args.clone();
        request.limits = self.expect.limits.over(request.limits);
        if let Some(expected) = &self.expect.expected_output {
            request.tests = vec![test("1", &self.stdin, expected)];
        }
        execution
    }

    /// What is not as expected.
    fn differences(&self, executed: &Executed, took_ms: u128) -> Vec<String> {
        let (expect, report) = (&self.expect, executed.report());
        let mut differences = Vec::new();
        if report.verdict != expect.verdict
            || !expect.reason.all().iter().any(|reason| matches(reason, &report.reason))
        {
            differences.push(format!("{}: {}", report.verdict, report.reason));
            let compiled = report.compile.iter().map(|compile| &compile.stderr.data[..]);
            let stderr = String::from_utf8_lossy(&executed.stderr(0)).into_owned();
            differences.extend(compiled.map(|text| String::from_utf8_lossy(text).into_owned()));
            differences.push(stderr);
        }
        let stdout = executed.stdout(0);
        if let Some(expected) = &expect.stdout
            && stdout != expected.as_bytes()
        {
            differences.push(format!("stdout {:?}", String::from_utf8_lossy(&stdout)));
        }
        if let Some(expected) = expect.stdout_bytes
            && stdout.len() != expected
        {
            differences.push(format!("{} bytes of stdout", stdout.len()));
        }
        if let Some([least, most]) = expect.cpu_time_ms {
            let cpu = report.runs[0].cpu_time_ms;
            if !(least..=most).contains(&cpu) {
                differences.push(format!("{cpu} ms of CPU time"));
            }
        }
        if let Some(most) = expect.within_ms
            && took_ms > most
        {
            differences.push(format!("took {took_ms} ms"));
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

#[tokio::test(flavor = "multi_thread")]
async fn every_program_of_the_corpus_gets_its_verdict_and_reason() {
    let local = Local::start(2).await;
    let mut missing = BTreeMap::new();
    let mut failures = Vec::new();
    let (mut ran, mut pending) = (0, Vec::new());
    for case in corpus() {
        let entry = local.catalog.get(&case.language).expect("a known language");
        match entry.status {
            Status::Unavailable(reason) => _ = missing.insert(case.language.clone(), reason),
            _ => pending.push(case),
        }
    }
    let languages = local.catalog.list().len() - missing.len();
    // Two at a time, in order: the slots of the backend.
    let queue = std::sync::Mutex::new(pending.into_iter());
    let work = || async {
        let mut results = Vec::new();
        loop {
            let Some(case) = queue.lock().expect("not poisoned").next() else { break results };
            let begin = Instant::now();
            let executed = local.execute(case.request(&local)).await;
            let took = begin.elapsed().as_millis();
            results.push((case.name.clone(), took, case.differences(&executed, took)));
        }
    };
    let (first, second) = tokio::join!(work(), work());
    for (name, took, differences) in first.into_iter().chain(second) {
        ran += 1;
        println!("{name}: {took} ms");
        if !differences.is_empty() {
            failures.push(format!("{name}: {}", differences.join("\n    ")));
        }
    }
    for (language, reason) in &missing {
        crate::support::skip(&format!("{language}: {reason}"));
    }
    println!("{ran} programs of {languages} languages, {} languages skipped", missing.len());
    assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(languages >= LANGUAGES_NEEDED, "only {languages} languages are installed: {missing:?}");
    assert!(ran > 0, "nothing was run");
    assert_eq!(local.left_over(), Vec::<String>::new(), "folders of compiled programs");
}
