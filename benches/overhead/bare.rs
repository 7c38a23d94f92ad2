//! What somebody without braindrill would write: dispatches a job that runs the program itself, waits
//! for its end by the event stream, reads its log, and purges it.
//!
//! It speaks through braindrill's own client of Nomad, so that the two sides differ in what is done and
//! not in how HTTP and JSON are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use braindrill::nomad::{Allocation, Client};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinSet};

use crate::nomad::Program;

/// How the ids of its jobs begin.
const PREFIX: &str = "bare-";

/// The name of its only task.
const TASK: &str = "main";

/// After so long without a word from the event stream, which may drop what it should say, the job's
/// allocations are listed.
const DOUBT: Duration = Duration::from_secs(3);

/// How long one job may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The bare loop; its event stream ends when dropped.
pub(crate) struct Bare {
    client: Client,
    endings: Arc<Endings>,
    _events: JoinSet<()>,
}

impl Bare {
    /// Registers a job for each program and begins to listen.
    pub(crate) async fn start(client: Client, programs: &[Program]) -> Result<Self> {
        for program in programs {
            let job = job(program);
            client.register(&job).await.context("registering the bare job")?;
        }
        let endings = Arc::new(Endings::default());
        let mut events = JoinSet::new();
        events.spawn(listen(client.clone(), endings.clone()));
        Ok(Bare { client, endings, _events: events })
    }

    /// Runs a program once, from before its dispatch to after the reading of its output. The purge
    /// that follows keeps the loop busy but nobody waiting.
    pub(crate) async fn time(&self, program: &Program) -> Result<Duration> {
        let begun = Instant::now();
        let child = self.client.dispatch(&id(program), &[], &BTreeMap::new(), None).await?;
        let over = self.over(&child.job_id, begun).await?;
        ensure!(over.client_status == "complete", "the bare job ended as {}", over.client_status);
        let mut log = self.client.stdout(&over.id, TASK, 0).await?;
        let mut output = Vec::new();
        while let Some(chunk) = log.next().await? {
            output.extend_from_slice(&chunk);
        }
        let elapsed = begun.elapsed();
        let output = String::from_utf8_lossy(&output);
        ensure!(output == program.stdout, "the bare job wrote {output:?}");
        self.client.purge(&child.job_id).await?;
        Ok(elapsed)
    }

    /// The allocation of this child, once it is over.
    async fn over(&self, job_id: &str, begun: Instant) -> Result<Allocation> {
        loop {
            match tokio::time::timeout(DOUBT, self.endings.of(job_id)).await {
                Ok(allocation) => return allocation,
                Err(_elapsed) => {
                    let allocations = self.client.allocations(job_id, None).await?.value;
                    if let Some(over) = allocations.into_iter().find(Allocation::is_over) {
                        return Ok(over);
                    }
                    ensure!(begun.elapsed() < DEADLINE, "{job_id} is not over after {DEADLINE:?}");
                }
            }
        }
    }
}

/// Allocations that have ended, by their jobs: which of the two is first, the event or who waits for it,
/// is chance.
#[derive(Default)]
struct Endings(Mutex<HashMap<String, Ending>>);

enum Ending {
    Awaited(oneshot::Sender<Allocation>),
    Seen(Allocation),
}

impl Endings {
    async fn of(&self, job_id: &str) -> Result<Allocation> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let before = all.insert(job_id.to_owned(), Ending::Awaited(sender));
            if let Some(Ending::Seen(allocation)) = before {
                all.remove(job_id);
                return Ok(allocation);
            }
        }
        receiver.await.context("the event stream is not read any more")
    }

    fn note(&self, allocation: Allocation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.remove(&allocation.job_id) {
            // Who no longer waits has listed it.
            Some(Ending::Awaited(waiting)) => drop(waiting.send(allocation)),
            _ => drop(all.insert(allocation.job_id.clone(), Ending::Seen(allocation))),
        }
    }
}

/// Notes what ends. A gap in the stream costs no result, see [`DOUBT`].
async fn listen(client: Client, endings: Arc<Endings>) {
    let mut since = 0;
    loop {
        let Ok(mut events) = client.allocation_events(since).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while let Ok(Some(batch)) = events.next().await {
            since = batch.index.max(since);
            for allocation in batch.allocations {
                // An allocation is told of again when it is purged.
                let is_news = allocation.is_over() && allocation.desired_status == "run";
                if is_news && allocation.job_id.starts_with(PREFIX) {
                    endings.note(allocation);
                }
            }
        }
    }
}

fn id(program: &Program) -> String {
    format!("{PREFIX}{}", program.language)
}

/// The smallest job that runs the program once: no second try, and little of everything.
fn job(program: &Program) -> serde_json::Value {
    let (command, args) = program.command.split_first().expect("a command has a program");
    json!({
        "ID": id(program),
        "Name": id(program),
        "Type": "batch",
        "Datacenters": ["dc1"],
        "ParameterizedJob": { "Payload": "optional" },
        "TaskGroups": [{
            "Name": "run",
            "Count": 1,
            "RestartPolicy": { "Attempts": 0, "Mode": "fail" },
            "ReschedulePolicy": { "Attempts": 0, "Unlimited": false },
            "EphemeralDisk": { "SizeMB": 10 },
            "Tasks": [{
                "Name": TASK,
                "Driver": "raw_exec",
                "Config": { "command": command, "args": args },
                "LogConfig": { "MaxFiles": 1, "MaxFileSizeMB": 1 },
                "Resources": { "CPU": 20, "MemoryMB": 16 },
            }],
        }],
    })
}
