//! An allocation on its node: its folder, its tasks, and what the node knows of them before the
//! server does.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{records::Allocation, stamps, task};

/// How many events of a task are kept.
const MAX_EVENTS: usize = 10;

#[derive(Debug)]
pub(super) struct Run {
    pub(super) allocation: Allocation,
    pub(super) dir: PathBuf,
    /// Cancelled when it is to stop.
    pub(super) stop: CancellationToken,
    /// Cancelled when it is to end without any patience.
    pub(super) at_once: CancellationToken,
    tasks: Mutex<BTreeMap<String, TaskState>>,
    /// Whether the server is to hear of it.
    changed: AtomicBool,
    /// Told of every change.
    moved: Notify,
}

#[derive(Debug, Default)]
struct TaskState {
    state: &'static str,
    failed: bool,
    restarts: u64,
    last_restart: Option<i64>,
    started: Option<i64>,
    finished: Option<i64>,
    events: Vec<Value>,
}

impl TaskState {
    fn json(&self) -> Value {
        let time = |stamp: Option<i64>| stamp.map(stamps::rfc3339);
        json!({
            "Events": self.events, "Failed": self.failed, "FinishedAt": time(self.finished),
            "LastRestart": time(self.last_restart), "Restarts": self.restarts,
            "StartedAt": time(self.started), "State": self.state, "TaskHandle": null,
        })
    }
}

/// What a node reports of an allocation.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) description: &'static str,
    pub(super) tasks: Value,
}

/// What the node knows of a task's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    NoSuchTask,
    NotStarted,
    There,
}

impl Run {
    /// Starts its tasks, on a tracker that outlives the agent.
    pub(super) fn start(allocation: Allocation, dir: PathBuf, tracker: &TaskTracker) -> Arc<Run> {
        let group = allocation.job.group(&allocation.group).cloned().unwrap_or_default();
        let tasks: Vec<Value> = group["Tasks"].as_array().cloned().unwrap_or_default();
        let state = |task: &Value| {
            let name = task["Name"].as_str().unwrap_or_default().to_owned();
            (name, TaskState { state: "pending", ..TaskState::default() })
        };
        let run = Arc::new(Run {
            tasks: Mutex::new(tasks.iter().map(state).collect()),
            allocation,
            dir,
            stop: CancellationToken::new(),
            at_once: CancellationToken::new(),
            changed: AtomicBool::new(false),
            moved: Notify::new(),
        });
        for task in tasks {
            let run = run.clone();
            tracker.spawn(async move { task::run(&run, &task).await });
        }
        run
    }

    pub(super) fn is_batch(&self) -> bool {
        self.allocation.job.kind() == "batch"
    }

    fn with<T>(&self, task: &str, act: impl FnOnce(&mut TaskState) -> T) -> T {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(tasks.get_mut(task).expect("it is a task of this"));
        self.changed.store(true, Ordering::SeqCst);
        self.moved.notify_waiters();
        result
    }

    /// Something happened to a task.
    pub(super) fn note(&self, task: &str, event: Value) {
        self.with(task, |state| {
            state.events.push(event);
            if state.events.len() > MAX_EVENTS {
                state.events.remove(0);
            }
        });
    }

    pub(super) fn started(&self, task: &str, event: Value) {
        self.note(task, event);
        self.with(task, |state| (state.state, state.started) = ("running", Some(stamps::now())));
    }

    pub(super) fn restarted(&self, task: &str) {
        self.with(task, |state| {
            (state.state, state.last_restart) = ("pending", Some(stamps::now()));
            state.restarts += 1;
        });
    }

    pub(super) fn end(&self, task: &str, failed: bool) {
        self.with(task, |state| {
            (state.state, state.failed, state.finished) = ("dead", failed, Some(stamps::now()));
        });
    }

    pub(super) fn is_over(&self) -> bool {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.values().all(|task| task.state == "dead")
    }

    /// Whether the server knows that it is over.
    pub(super) fn is_told(&self) -> bool {
        self.is_over() && !self.changed.load(Ordering::SeqCst)
    }

    /// Waits until it is over.
    pub(super) async fn over(&self) {
        loop {
            let moved = self.moved.notified();
            if self.is_over() {
                return;
            }
            moved.await;
        }
    }

    pub(super) fn log(&self, task: &str) -> Log {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match tasks.get(task) {
            None => Log::NoSuchTask,
            Some(task) if task.started.is_none() => Log::NotStarted,
            Some(_) => Log::There,
        }
    }

    /// What the server is to hear, if there is anything new.
    pub(super) fn report(&self) -> Option<Report> {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.changed.swap(false, Ordering::SeqCst) {
            return None;
        }
        let (status, description) = if tasks.values().all(|task| task.state == "dead") {
            if tasks.values().any(|task| task.failed) {
                ("failed", "Failed tasks")
            } else {
                ("complete", "All tasks have completed")
            }
        } else if tasks.values().any(|task| task.state == "running") {
            ("running", "Tasks are running")
        } else {
            ("pending", "No tasks have started")
        };
        let tasks: BTreeMap<_, _> = tasks.iter().map(|(name, task)| (name, task.json())).collect();
        Some(Report { id: self.allocation.id.clone(), status, description, tasks: json!(tasks) })
    }

    /// It was not taken: it is to be told again.
    pub(super) fn tell_again(&self) {
        self.changed.store(true, Ordering::SeqCst);
    }
}
