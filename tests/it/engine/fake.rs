//! A backend without programs: each attempt does what its submission's source says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use braindrill::{
    backend::{Backend, BackendError, EVENT_CHANNEL, Execution, StartError, Stray, Update, Worker},
    protocol::{Event, EventKind, ExecutionRequest, ExecutionResult, Turns, VERSION},
    submission::{
        Blob, Fault, FaultKind, Placement, Report, RunReport, StreamSummary, SubmissionId, Verdict,
    },
};
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

/// What is out there, whatever becomes of the daemon: the same for the backends of one test.
#[derive(Default)]
pub(super) struct World {
    /// Attempts that are placed.
    pub(super) placed: Mutex<BTreeSet<(SubmissionId, u32)>>,
    /// How often each attempt was begun.
    pub(super) starts: Mutex<BTreeMap<(SubmissionId, u32), u32>>,
    /// In the order of their starts.
    pub(super) order: Mutex<Vec<SubmissionId>>,
}

/// Called at each step that the backend sees, with its name.
pub(super) type Hook = Arc<dyn Fn(&str) + Send + Sync>;

pub(super) struct FakeBackend {
    pub(super) world: Arc<World>,
    /// Whether a placed attempt outlives the daemon, as on Nomad, or not, as on its own machine.
    pub(super) lasting: bool,
    pub(super) slots: usize,
    /// Answers that it is away.
    pub(super) away: AtomicBool,
    /// How often it was asked whether it is.
    pub(super) checks: AtomicUsize,
    /// Attempts whose source is `gate` end once it is open.
    pub(super) gate: Arc<Gate>,
    pub(super) hook: Hook,
    pub(super) running: Arc<AtomicUsize>,
    pub(super) most_running: Arc<AtomicUsize>,
    tasks: TaskTracker,
}

#[derive(Default)]
pub(super) struct Gate {
    open: AtomicBool,
    changed: Notify,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    async fn wait(&self) {
        loop {
            let changed = self.changed.notified();
            if self.open.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl FakeBackend {
    pub(super) fn new(world: Arc<World>, lasting: bool, slots: usize) -> FakeBackend {
        FakeBackend {
            world,
            lasting,
            slots,
            away: AtomicBool::new(false),
            checks: AtomicUsize::new(0),
            gate: Arc::default(),
            hook: Arc::new(|_| {}),
            running: Arc::default(),
            most_running: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    fn placement(&self, request: &ExecutionRequest) -> Placement {
        if !self.lasting {
            return Placement::Local;
        }
        placement(request.submission, request.attempt)
    }

    fn execute(&self, request: Arc<ExecutionRequest>) -> Execution {
        let (updates, events) = mpsc::channel(EVENT_CHANNEL);
        let placement = self.placement(&request);
        let act = Act {
            source: request.request.source.clone().unwrap_or_default(),
            attempt: request.attempt,
            runs: request.runs().iter().map(|run| run.test.clone()).collect(),
            gate: self.gate.clone(),
            hook: self.hook.clone(),
        };
        let (running, most) = (self.running.clone(), self.most_running.clone());
        self.tasks.spawn(async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            act.play(&updates).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
        Execution { placement, events, input: None }
    }
}

fn placement(submission: SubmissionId, attempt: u32) -> Placement {
    Placement::Nomad {
        job_id: format!("{submission}/{attempt}"),
        evaluation_id: "e".to_owned(),
        allocation_id: None,
        node_id: None,
    }
}

impl Backend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn capacity(&self) -> usize {
        self.slots
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        Box::pin(async move {
            (self.hook)("start");
            if self.away.load(Ordering::SeqCst) {
                return Err(StartError::Unavailable("the fake is away".to_owned()));
            }
            let key = (request.submission, request.attempt);
            *lock(&self.world.starts).entry(key).or_default() += 1;
            lock(&self.world.order).push(request.submission);
            let source = request.request.source.clone().unwrap_or_default();
            match source.as_str() {
                "refuse" => return Err(StartError::Refused("it is too odd".to_owned())),
                "hang in start" => std::future::pending::<()>().await,
                "start slowly" => self.gate.wait().await,
                "ambiguous, not placed" if request.attempt == 1 => {
                    return Err(StartError::Ambiguous("no answer came".to_owned()));
                }
                _ => {}
            }
            if self.lasting {
                lock(&self.world.placed).insert(key);
            }
            (self.hook)("placed");
            if source == "ambiguous, placed" && request.attempt == 1 {
                return Err(StartError::Ambiguous("no answer came".to_owned()));
            }
            if source == "placed, then hang in start" {
                std::future::pending::<()>().await;
            }
            Ok(self.execute(request))
        })
    }

    fn recover(
        &self,
        request: Arc<ExecutionRequest>,
        _placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        Box::pin(async move {
            (self.hook)("recover");
            if self.away.load(Ordering::SeqCst) {
                return Err(BackendError("the fake is away".to_owned()));
            }
            let key = (request.submission, request.attempt);
            let is_there = self.lasting && lock(&self.world.placed).contains(&key);
            Ok(is_there.then(|| self.execute(request)))
        })
    }

    fn release(&self, placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        let placement = placement.clone();
        Box::pin(async move {
            (self.hook)("release");
            if self.away.load(Ordering::SeqCst) {
                return Err(BackendError("the fake is away".to_owned()));
            }
            if let Placement::Nomad { job_id, .. } = &placement {
                let (id, attempt) = job_id.split_once('/').unwrap();
                let key = (id.parse().unwrap(), attempt.parse().unwrap());
                lock(&self.world.placed).remove(&key);
            }
            Ok(())
        })
    }

    fn strays(&self) -> BoxFuture<'_, Result<Vec<Stray>, BackendError>> {
        let placed = lock(&self.world.placed).clone();
        let stray = |(submission, attempt)| Stray {
            submission,
            attempt,
            placement: placement(submission, attempt),
        };
        let strays =
            if self.lasting { placed.into_iter().map(stray).collect() } else { Vec::new() };
        Box::pin(std::future::ready(Ok(strays)))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        let away = self.away.load(Ordering::SeqCst);
        let answer = if away { Err(BackendError("the fake is away".to_owned())) } else { Ok(()) };
        Box::pin(std::future::ready(answer))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// One attempt's part.
struct Act {
    source: String,
    attempt: u32,
    runs: Vec<Option<String>>,
    gate: Arc<Gate>,
    hook: Hook,
}

impl Act {
    /// Says the lines of the part; stops early when nobody listens.
    async fn play(self, updates: &mpsc::Sender<Update>) {
        let source = self.source.clone();
        let lost = |reason: &str| Update::Lost(reason.to_owned());
        match source.as_str() {
            "never begin" => {
                let waiting = Update::Waiting("a machine with more memory".to_owned());
                let _ = updates.send(waiting).await;
                updates.closed().await;
            }
            "hang" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                updates.closed().await;
            }
            "lose" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = updates.send(lost(&format!("node {} vanished", self.attempt))).await;
            }
            "lose once" if self.attempt == 1 => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = self.send(updates, 1, output(0, "of the lost attempt")).await;
                let _ = updates.send(lost("the node vanished")).await;
            }
            "end early" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
            }
            "gap" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = self.send(updates, 2, output(0, "x")).await;
                updates.closed().await;
            }
            "sandbox fault" => self.finish_with(updates, FaultKind::Sandbox).await,
            "checker fault" => self.finish_with(updates, FaultKind::CheckerFailed).await,
            "gate" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                tokio::select! {
                    () = self.gate.wait() => self.succeed(updates, 0).await,
                    () = updates.closed() => {}
                }
            }
            "output, then gate" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = self.send(updates, 1, output(0, "so far ")).await;
                tokio::select! {
                    () = self.gate.wait() => self.succeed(updates, 2).await,
                    () = updates.closed() => {}
                }
            }
            "away, then gate" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = updates.send(Update::Reachable(false)).await;
                self.gate.wait().await;
                let _ = updates.send(Update::Reachable(true)).await;
                self.succeed(updates, 1).await;
            }
            "bytes in turn" => self.bytes_in_turn(updates).await,
            "repeats" => {
                let _ = self.send(updates, 0, EventKind::Started).await;
                let _ = self.send(updates, 1, output(0, "once ")).await;
                let _ = self.send(updates, 1, output(0, "once ")).await;
                self.succeed(updates, 0).await;
            }
            _ => self.succeed(updates, 0).await,
        }
    }

    async fn succeed(&self, updates: &mpsc::Sender<Update>, from: u64) {
        let mut seq = 0;
        let mut lines = vec![EventKind::Started];
        if self.source == "output, then gate" {
            lines.push(output(0, "so far "));
        }
        if self.source == "repeats" {
            lines.push(output(0, "once "));
        }
        for run in 0..self.runs.len() as u32 {
            for piece in ["out ", "of ", &format!("run {run}")] {
                lines.push(output(run, piece));
            }
            lines.push(error_output(run, "err"));
            lines.push(EventKind::RunFinished { run, report: self.run_report(run) });
        }
        lines.push(EventKind::Finished { result: ExecutionResult::Report(self.report()) });
        for line in lines {
            if seq >= from && self.send(updates, seq, line).await.is_err() {
                return;
            }
            seq += 1;
        }
    }

    /// Single bytes, to stdout and stderr by turns, until nobody listens.
    async fn bytes_in_turn(&self, updates: &mpsc::Sender<Update>) {
        let mut seq = 0;
        let mut kind = EventKind::Started;
        while self.send(updates, seq, kind).await.is_ok() {
            seq += 1;
            kind = if seq % 2 == 0 { output(0, "x") } else { error_output(0, "x") };
        }
    }

    async fn finish_with(&self, updates: &mpsc::Sender<Update>, kind: FaultKind) {
        let fault = Fault::new(kind, format!("fault {}", self.attempt));
        let _ = self.send(updates, 0, EventKind::Started).await;
        let result = ExecutionResult::Fault(fault);
        let _ = self.send(updates, 1, EventKind::Finished { result }).await;
    }

    async fn send(
        &self,
        updates: &mpsc::Sender<Update>,
        seq: u64,
        kind: EventKind,
    ) -> Result<(), mpsc::error::SendError<Update>> {
        (self.hook)("event");
        updates.send(Update::Event(Event { v: VERSION, seq, kind })).await
    }

    fn run_report(&self, run: u32) -> RunReport {
        RunReport {
            test: self.runs[run as usize].clone(),
            verdict: Verdict::Accepted,
            reason: "exited with 0".to_owned(),
            exit_code: Some(0),
            signal: None,
            stdout: StreamSummary { bytes: 12, truncated: false },
            stderr: StreamSummary { bytes: 3, truncated: false },
            cpu_time_ms: 1,
            wall_time_ms: 2,
            memory_bytes: 3,
            points: 0.0,
        }
    }

    fn report(&self) -> Report {
        Report {
            verdict: Verdict::Accepted,
            reason: "all runs were accepted".to_owned(),
            compile: None,
            runs: (0..self.runs.len() as u32).map(|run| self.run_report(run)).collect(),
            points: 0.0,
            files: Vec::new(),
        }
    }
}

fn output(run: u32, text: &str) -> EventKind {
    EventKind::Stdout { run, data: Blob::from(text), turns: Turns::default() }
}

fn error_output(run: u32, text: &str) -> EventKind {
    EventKind::Stderr { run, data: Blob::from(text), turns: Turns::default() }
}
