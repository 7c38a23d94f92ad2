//! Whether each language really works on this machine: its version is asked for, and a tiny program
//! compiled and run, in the jail that submissions get.
//!
//! One language at a time, while no submission wants the machine: a test that is under way when
//! one comes is ended and made again later, since a compile step of some languages would slow the
//! first answers of a fresh daemon by seconds. A pass is remembered
//! by what was tested (the definition and the files of the tool chain), so that a restart costs
//! nothing; a failure is not, so that a restart tries again.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Runner, Stop, caches::CacheError, caps, jail::Jail, program::environment};
use crate::{
    language::{Catalog, LanguageDefinition, SelfTest, Status, ToolChain, ToolIdentity, Values},
    protocol::{Event, EventKind, ExecutionRequest, ExecutionResult, VERSION},
    sandbox::{Job, Slot},
    submission::{Blob, Checker, Report, SubmissionId, SubmissionRequest, Test, Verdict},
};

/// How long no submission must have wanted a slot before a test begins: shorter pauses are those
/// between the submissions of somebody who works.
const QUIET: Duration = Duration::from_secs(1);

/// Characters of a failing program's own words that a reason shows.
const SHOWN: usize = 200;

/// What was found out about one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Passed {
    /// BLAKE3 of the definition.
    definition: String,
    tools: Vec<ToolIdentity>,
    version: Option<String>,
}

/// Languages that passed, by id; kept in a file as JSON.
#[derive(Debug)]
struct Passes {
    file: PathBuf,
    by_language: BTreeMap<String, Passed>,
}

impl Passes {
    /// What is remembered. A file that is absent or damaged only costs the tests again.
    fn read(file: PathBuf) -> Passes {
        let by_language = std::fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Passes { file, by_language }
    }

    fn write(&self) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec_pretty(&self.by_language)?)?;
        std::fs::rename(new, &self.file)
    }

    /// The version, when this very language with these very tools has passed before.
    fn version_of(&self, id: &str, now: &Passed) -> Option<Option<String>> {
        let before = self.by_language.get(id)?;
        (before.definition == now.definition && before.tools == now.tools)
            .then(|| before.version.clone())
    }
}

/// Tests every language of `catalog` whose tool chain was found, and sets its status. Passes are
/// remembered in `file`. `demand` is how many submissions run or wait here; while there are some,
/// nothing is tested. Returns when all are tested or `cancel` is cancelled.
pub async fn check_all(
    catalog: &Catalog,
    runner: &Runner,
    file: PathBuf,
    demand: watch::Receiver<usize>,
    cancel: &CancellationToken,
) {
    let mut passes = Passes::read(file);
    let mut tester = Tester { runner, demand, cancel };
    // Those that are switched off too: they may be switched on later.
    for entry in catalog.found() {
        if entry.status != Status::Checking {
            continue;
        }
        let definition = entry.definition;
        let Ok(tool_chain) = ToolChain::find(&definition) else { continue };
        let mut now =
            Passed { definition: digest(&definition), tools: tool_chain.identity(), version: None };
        let is_complete = !runner.work.caches.is_missing(&definition, &tool_chain);
        if let Some(version) = passes.version_of(&definition.id, &now).filter(|_| is_complete) {
            catalog.set(&definition.id, Status::Ready, version);
            continue;
        }
        match tester.test(&definition, &tool_chain).await {
            Ok(version) => {
                tracing::debug!(language = definition.id, version, "the self-test passed");
                catalog.set(&definition.id, Status::Ready, version.clone());
                now.version = version;
                passes.by_language.insert(definition.id.clone(), now);
                if let Err(error) = passes.write() {
                    tracing::warn!(%error, "cannot remember the self-tests");
                }
            }
            Err(Failure::Cancelled) => return,
            Err(Failure::Unfit(reason)) => {
                tracing::warn!(language = definition.id, reason, "the self-test failed");
                catalog.set(&definition.id, Status::Unavailable(reason), None);
            }
        }
    }
}

/// Tests languages when nobody else wants the machine.
struct Tester<'a> {
    runner: &'a Runner,
    demand: watch::Receiver<usize>,
    cancel: &'a CancellationToken,
}

impl Tester<'_> {
    /// Tests one language, as often as submissions come between; its version, where it tells one.
    async fn test(
        &mut self,
        definition: &LanguageDefinition,
        tool_chain: &ToolChain,
    ) -> Result<Option<String>, Failure> {
        loop {
            let slot = tokio::select! {
                () = self.cancel.cancelled() => return Err(Failure::Cancelled),
                slot = idle_slot(self.runner, &mut self.demand) => slot,
            };
            let cancel = self.cancel.child_token();
            let check = check(self.runner, definition, tool_chain, &slot, &cancel);
            let give_way = async {
                // Without a sender there will be no submission.
                if self.demand.wait_for(|&count| count > 0).await.is_err() {
                    std::future::pending::<()>().await;
                }
                cancel.cancel();
                std::future::pending().await
            };
            let result = tokio::select! {
                result = check => result,
                () = give_way => unreachable!("it only ever waits"),
            };
            match result {
                Err(Failure::Cancelled) if !self.cancel.is_cancelled() => {}
                result => return result,
            }
        }
    }
}

/// A slot, once no submission has wanted one for [`QUIET`].
async fn idle_slot(runner: &Runner, demand: &mut watch::Receiver<usize>) -> Slot {
    loop {
        // An error says that nobody can send: there is no demand.
        let _ = demand.wait_for(|&count| count == 0).await;
        let wanted = async { demand.wait_for(|&count| count > 0).await.is_ok() };
        if !tokio::time::timeout(QUIET, wanted).await.unwrap_or(false) {
            return runner.sandbox.slot().await;
        }
    }
}

/// Why a language did not pass.
#[derive(Debug)]
enum Failure {
    Cancelled,
    /// In a sentence.
    Unfit(String),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Failure::Cancelled,
            Stop::Fault(fault) => {
                Failure::Unfit(format!("its self-test failed: {}", fault.message))
            }
        }
    }
}

/// Tests one language; its version, where it tells one.
async fn check(
    runner: &Runner,
    definition: &LanguageDefinition,
    tool_chain: &ToolChain,
    slot: &Slot,
    cancel: &CancellationToken,
) -> Result<Option<String>, Failure> {
    let jail = Jail { sandbox: &runner.sandbox, slot, cancel };
    let job = version_job(definition, tool_chain)?;
    let (_, written) = jail.run_whole(job).await.map_err(Stop::from)?;
    let said = [&written.stdout[..], b"\n", &written.stderr[..]].concat();
    let version = version_in(&String::from_utf8_lossy(&said), &definition.version.after);
    if runner.work.caches.is_missing(definition, tool_chain) {
        match runner.work.caches.make(definition, tool_chain, jail).await {
            Ok(()) => tracing::info!(language = definition.id, "made what compiling needs once"),
            Err(CacheError::Cancelled) => return Err(Failure::Cancelled),
            Err(CacheError::NotMade(reason)) => tracing::warn!(
                language = definition.id,
                reason,
                "cannot make what compiling needs once; it takes longer without"
            ),
        }
    }
    if let Some(test) = &definition.self_test {
        run_program(runner, definition, test, slot, cancel).await?;
    }
    Ok(version)
}

fn version_job(definition: &LanguageDefinition, tool_chain: &ToolChain) -> Result<Job, Stop> {
    let caps = caps::of_compile(definition);
    let values = Values {
        tools: &tool_chain.tools,
        entrypoint: &definition.source_file,
        sources: &[],
        args: &[],
        compile_args: &[],
        memory_bytes: caps.memory_bytes,
        has_cache: false,
    };
    let none = BTreeMap::new();
    let compile_env = definition.compile.as_ref().map_or(&none, |compile| &compile.env);
    Ok(Job {
        command: values.words(&definition.version.command)?,
        env: environment(&values, &[&definition.env, compile_env], &none)?,
        mounts: definition.mounts.clone(),
        files: Vec::new(),
        program: None,
        collect: None,
        collects_cache: false,
        take: Vec::new(),
        stdin: Blob::default(),
        tty: false,
        followed: true,
        ahead: None,
        caps,
    })
}

/// The first word that starts with a digit, after `after` where it is there.
fn version_in(output: &str, after: &str) -> Option<String> {
    let rest = output.split_once(after).map_or(output, |(_, rest)| rest);
    rest.split_whitespace()
        .map(|word| word.trim_end_matches([',', ')', ';']))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
}

/// Runs the tiny program as a submission is run.
async fn run_program(
    runner: &Runner,
    definition: &LanguageDefinition,
    test: &SelfTest,
    slot: &Slot,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let request = Arc::new(request(definition, test));
    // Of one: it is read at once.
    let (sender, mut events) = mpsc::channel::<Event>(1);
    let mut stderr = Vec::new();
    let mut result = None;
    let read = async {
        while let Some(event) = events.recv().await {
            match event.kind {
                EventKind::Stderr { data, .. } => stderr.extend_from_slice(&data),
                EventKind::Finished { result: last } => result = Some(last),
                _ => {}
            }
        }
    };
    tokio::join!(runner.execute(request, slot, None, sender, cancel.clone()), read);
    match result {
        None => Err(Failure::Cancelled),
        Some(ExecutionResult::Fault(fault)) => Err(Stop::Fault(fault).into()),
        Some(ExecutionResult::Report(report)) if report.verdict == Verdict::Accepted => Ok(()),
        Some(ExecutionResult::Report(report)) => Err(Failure::Unfit(unfit(&report, &stderr))),
    }
}

fn unfit(report: &Report, stderr: &[u8]) -> String {
    let said = match &report.compile {
        Some(compile) if !compile.success => &compile.stderr.data[..],
        _ => stderr,
    };
    let said: String = String::from_utf8_lossy(said).trim().chars().take(SHOWN).collect();
    let colon = if said.is_empty() { "" } else { ": " };
    format!("its self-test failed: {}{colon}{said}", report.reason)
}

fn request(definition: &LanguageDefinition, test: &SelfTest) -> ExecutionRequest {
    let run = Test {
        name: "self-test".to_owned(),
        stdin: String::new(),
        args: Vec::new(),
        expected_output: Some(test.stdout.clone()),
        checker: Checker::Exact,
        points: 1.0,
    };
    ExecutionRequest {
        v: VERSION,
        submission: SubmissionId::from_uuid(Uuid::nil()),
        attempt: 1,
        // It shows that compiling works.
        cache_owner: None,
        request: SubmissionRequest {
            language: definition.id.clone(),
            source: Some(test.source.clone()),
            files: Vec::new(),
            entrypoint: definition.source_file.clone(),
            stdin: String::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            compile_args: Vec::new(),
            limits: definition.default_limits(),
            tests: vec![run],
            stop_on_failure: false,
            priority: 0,
            collect: Vec::new(),
            interactive: None,
        },
        language: definition.clone(),
        checker_languages: BTreeMap::new(),
    }
}

fn digest(definition: &LanguageDefinition) -> String {
    let bytes = serde_json::to_vec(definition).expect("strings and numbers alone");
    blake3::hash(&bytes).to_hex().to_string()
}

/// Where the passes of a daemon or a worker are remembered, in a folder of its own.
pub fn file_in(folder: &Path) -> PathBuf {
    folder.join("self-tests.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_first_number_after_a_text() {
        for (output, after, version) in [
            ("Python 3.11.2\n", "", "3.11.2"),
            ("go version go1.19.8 linux/amd64", "version go", "1.19.8"),
            ("v20.20.2", "v", "20.20.2"),
            ("GNU bash, version 5.2.15(1)-release (x86_64)", "version", "5.2.15(1)-release"),
            ("\ninfo: kotlinc-jvm 1.3.31 (JRE 17.0.15+6)", "", "1.3.31"),
            ("rustc 1.96.0, built", "not there", "1.96.0"),
        ] {
            assert_eq!(version_in(output, after).as_deref(), Some(version), "{output}");
        }
        assert_eq!(version_in("no number", ""), None);
    }

    #[test]
    fn a_pass_counts_for_the_same_definition_and_the_same_files_only() {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = file_in(folder.path());
        let tool = ToolIdentity { path: "/usr/bin/lua".into(), size: 1, modified_ns: 2 };
        let passed = Passed {
            definition: "d".to_owned(),
            tools: vec![tool.clone()],
            version: Some("5.4".to_owned()),
        };
        let mut passes = Passes::read(file.clone());
        passes.by_language.insert("lua".to_owned(), passed.clone());
        passes.write().expect("written");
        let passes = Passes::read(file.clone());
        assert_eq!(passes.version_of("lua", &passed), Some(Some("5.4".to_owned())));
        assert_eq!(passes.version_of("perl", &passed), None);
        let updated = ToolIdentity { modified_ns: 3, ..tool };
        let now = Passed { tools: vec![updated], ..passed.clone() };
        assert_eq!(passes.version_of("lua", &now), None);
        let now = Passed { definition: "e".to_owned(), ..passed };
        assert_eq!(passes.version_of("lua", &now), None);
        std::fs::write(&file, "{damaged").expect("write");
        assert!(Passes::read(file).by_language.is_empty());
    }
}
