//! The local backend over this machine's real sandbox, for tests that need neither HTTP nor a store.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use braindrill::{
    backend::{Backend as _, Execution, Update, local::LocalBackend},
    language::{Catalog, LanguageDefinition},
    protocol::{Event, EventKind, ExecutionRequest, ExecutionResult, VERSION},
    runner::{Folders, Runner},
    sandbox::{Sandbox, SandboxConfig},
    submission::{Clock as _, Fault, Report, SubmissionId, SubmissionRequest, SystemClock, Test},
};

/// Tests that go wrong end here instead of never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// A local backend, and the folders it uses.
pub(crate) struct Local {
    pub(crate) backend: LocalBackend,
    pub(crate) runner: Runner,
    pub(crate) catalog: Catalog,
    programs: PathBuf,
    /// That it is in, where that is its own.
    _folder: Option<tempfile::TempDir>,
}

/// All that one execution said.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) events: Vec<Event>,
}

impl Local {
    /// With its own launcher, and with as many slots as named.
    pub(crate) async fn start(slots: u32) -> Local {
        let folder = tempfile::tempdir().expect("temporary folder");
        let local = Local::start_in(slots, folder.path().join("programs")).await;
        Local { _folder: Some(folder), ..local }
    }

    /// With compiled programs in a folder of the caller's.
    pub(crate) async fn start_in(slots: u32, programs: PathBuf) -> Local {
        Local::with(slots, programs, None, 0).await
    }

    /// Likewise, and it keeps what it compiles there, in `compiled`.
    pub(crate) async fn keeping(slots: u32, folder: &Path) -> Local {
        Local::with(slots, folder.join("programs"), Some(folder.join("compiled")), 0).await
    }

    /// With so many bytes of interpreters that are started before there is a program for them.
    pub(crate) async fn start_ahead(slots: u32, prepared_bytes: u64) -> Local {
        let folder = tempfile::tempdir().expect("temporary folder");
        let programs = folder.path().join("programs");
        let local = Local::with(slots, programs, None, prepared_bytes).await;
        Local { _folder: Some(folder), ..local }
    }

    async fn with(
        slots: u32,
        programs: PathBuf,
        compiled: Option<PathBuf>,
        prepared_bytes: u64,
    ) -> Local {
        static INSTANCE: AtomicU32 = AtomicU32::new(0);
        let number = INSTANCE.fetch_add(1, Ordering::Relaxed);
        let config = SandboxConfig {
            instance: format!("{:08x}", (std::process::id() << 8) | number),
            slots,
            first_uid: SandboxConfig::FIRST_UID,
            for_one_request: false,
            prepared_bytes,
            without: braindrill::sandbox::Without::default(),
            executable: PathBuf::from(env!("CARGO_BIN_EXE_braindrill")),
        };
        let sandbox = Sandbox::start(config).await.expect("this machine can run jails");
        let folders = Folders {
            programs: programs.clone(),
            caches: programs.with_file_name("caches"),
            compiled: compiled.map(|folder| (folder, 1 << 30)),
        };
        let runner = Runner::new(sandbox, folders).expect("work folder");
        let backend = LocalBackend::new(runner.clone(), slots as usize).unwrap();
        let catalog = Catalog::load(None).expect("embedded languages");
        catalog.find_tool_chains();
        Local { backend, runner, catalog, programs, _folder: None }
    }

    pub(crate) fn language(&self, id: &str) -> LanguageDefinition {
        (*self.catalog.get(id).expect("a known language").definition).clone()
    }

    /// A request to run `source` with the language's defaults.
    pub(crate) fn request(&self, language: &str, source: &str) -> ExecutionRequest {
        let language = self.language(language);
        let request = SubmissionRequest {
            language: language.id.clone(),
            source: Some(source.to_owned()),
            files: Vec::new(),
            entrypoint: language.source_file.clone(),
            stdin: String::new(),
            args: Vec::new(),
            env: Default::default(),
            compile_args: Vec::new(),
            limits: language.default_limits(),
            tests: Vec::new(),
            stop_on_failure: false,
            priority: 50,
            collect: Vec::new(),
            interactive: None,
        };
        ExecutionRequest {
            v: VERSION,
            submission: SubmissionId::new(SystemClock.now()),
            attempt: 1,
            cache_owner: None,
            request,
            language,
            checker_languages: Default::default(),
        }
    }

    /// Starts one attempt.
    pub(crate) async fn start_attempt(&self, request: ExecutionRequest) -> Execution {
        self.backend.start(Arc::new(request)).await.expect("a slot")
    }

    /// Runs one attempt to its end.
    pub(crate) async fn execute(&self, request: ExecutionRequest) -> Executed {
        let mut execution = self.start_attempt(request).await;
        let mut events = Vec::new();
        let all = async {
            while let Some(update) = execution.events.recv().await {
                match update {
                    Update::Event(event) => events.push(event),
                    other => panic!("a local attempt says only events, not {other:?}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, all).await.expect("the attempt ends");
        let executed = Executed { events };
        executed.check_protocol();
        executed
    }

    /// Names of what is left in the folder for compiled programs.
    pub(crate) fn left_over(&self) -> Vec<String> {
        names(&self.programs)
    }

    /// Names of the caches that were made.
    pub(crate) fn caches(&self) -> Vec<String> {
        let mut caches = names(&self.cache_dir());
        caches.retain(|name| name != "lock");
        caches
    }

    /// Where they are.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.programs.with_file_name("caches")
    }

    /// Bytes of the compiled programs there. What is removed meanwhile may be left out.
    pub(crate) fn bytes_on_disk(&self) -> u64 {
        let folders = std::fs::read_dir(&self.programs).expect("work folder").flatten();
        let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok());
        files.flatten().flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }
}

impl Executed {
    /// What every stream of events must hold to, whatever was run.
    fn check_protocol(&self) {
        assert!(self.events.iter().zip(0..).all(|(event, seq)| event.seq == seq), "seq has gaps");
        assert_eq!(self.events.first().map(|event| &event.kind), Some(&EventKind::Started));
        let finished = |event: &&Event| matches!(event.kind, EventKind::Finished { .. });
        assert_eq!(self.events.iter().filter(finished).count(), 1, "finished exactly once");
        assert!(self.events.last().as_ref().is_some_and(finished), "finished last");
    }

    pub(crate) fn result(&self) -> &ExecutionResult {
        match &self.events.last().expect("checked").kind {
            EventKind::Finished { result } => result,
            other => panic!("checked: {other:?}"),
        }
    }

    pub(crate) fn report(&self) -> &Report {
        match self.result() {
            ExecutionResult::Report(report) => report,
            ExecutionResult::Fault(fault) => panic!("our fault: {fault}"),
        }
    }

    pub(crate) fn fault(&self) -> &Fault {
        match self.result() {
            ExecutionResult::Fault(fault) => fault,
            ExecutionResult::Report(report) => panic!("no fault: {report:?}"),
        }
    }

    /// What was sent of the stdout of a run.
    pub(crate) fn stdout(&self, of: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for event in &self.events {
            if let EventKind::Stdout { run, data, .. } = &event.kind
                && *run == of
            {
                bytes.extend_from_slice(data);
            }
        }
        bytes
    }

    /// What was sent of the stderr of a run.
    pub(crate) fn stderr(&self, of: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for event in &self.events {
            if let EventKind::Stderr { run, data, .. } = &event.kind
                && *run == of
            {
                bytes.extend_from_slice(data);
            }
        }
        bytes
    }
}

/// A test that expects this output of this input.
pub(crate) fn test(name: &str, stdin: &str, expected: &str) -> Test {
    Test {
        name: name.to_owned(),
        stdin: stdin.to_owned(),
        args: Vec::new(),
        expected_output: Some(expected.to_owned()),
        checker: Default::default(),
        points: 1.0,
    }
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
