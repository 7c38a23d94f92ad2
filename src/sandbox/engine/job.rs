//! One job as the daemon sees it: what its helper is told, what comes of it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    broken,
    pipes::{Asked, Pipes, converse, read_all},
};
use crate::{
    protocol::Input,
    sandbox::{
        Caps, Job, Measured, SandboxError, Stream, launcher,
        wire::{self, Message, Order, Reply, Shown},
    },
    submission::StreamSummary,
};

/// Signals for a job that may wait until its helper takes them; more are lost, as to a program that has ended.
const SIGNALS: usize = 16;

/// What came of a job.
pub(super) struct Done {
    pub(super) reply: Reply,
    stdout: StreamSummary,
    stderr: StreamSummary,
}

/// Feeds and follows a job to its end; with `live` also with what comes while it runs.
pub(super) async fn follow(
    Pipes { control, feed, outputs, kept }: Pipes,
    message: &Message,
    job: &Job,
    live: Option<mpsc::Receiver<Input>>,
    output: &mpsc::Sender<(Stream, Bytes)>,
    cancel: &CancellationToken,
) -> Result<Done, SandboxError> {
    let (too_much, ended) = (Notify::new(), CancellationToken::new());
    let (sender, mut signals) = mpsc::channel(SIGNALS);
    let feed = ended.run_until_cancelled(feed.run(job.stdin.0.clone(), live, &sender));
    let read = read_all(outputs, &job.caps, output, &too_much, &ended);
    let talk = async {
        let asked = Asked { too_much: &too_much, cancel, signals: &mut signals };
        let reply = converse(control, message, job, asked).await;
        ended.cancel();
        drop(kept);
        reply
    };
    let (reply, _, [stdout, stderr]) = tokio::join!(talk, feed, read);
    Ok(Done { reply: reply.map_err(broken)?, stdout, stderr })
}

impl Done {
    /// As the sandbox's caller wants it.
    pub(super) fn measured(self) -> Result<Measured, SandboxError> {
        let readings = match self.reply {
            Reply::Done(readings) => readings,
            Reply::Cancelled => return Err(SandboxError::Cancelled),
            Reply::Gone => return Err(SandboxError::Broken("no interpreter".to_owned())),
            Reply::Exec(why) => return Err(SandboxError::Exec(why)),
            Reply::Floor(why) => {
                return Err(SandboxError::Floor(format!("{why}; {}", launcher::REMEDY)));
            }
            Reply::Collect(why) => return Err(SandboxError::Collect(why)),
            Reply::Broken(why) => return Err(SandboxError::Broken(why)),
        };
        Ok(Measured {
            end: readings.end,
            killed_for: readings.killed_for,
            oom_kills: readings.oom_kills,
            destroyed_sandbox: readings.destroyed_sandbox,
            cpu_time: readings.cpu_time,
            wall_time: readings.wall_time,
            memory_peak_bytes: readings.memory_peak_bytes,
            stdout: self.stdout,
            stderr: self.stderr,
            disk_used_bytes: readings.disk_used_bytes,
            disk_full: readings.disk_full,
            taken: readings.taken,
        })
    }
}

/// What an interpreter that was started ahead must have been started with to run this.
pub(super) fn key(job: &Job, order: &Order) -> Option<String> {
    let ahead = job.ahead.as_ref()?;
    let shows_files = job.program.is_some() && ahead.program.is_empty();
    if shows_files || job.collect.is_some() {
        return None; // folders of one run, which no other may be shown
    }
    // These bind the daemon or are counted from the handover on; the kernel knows none of them.
    let caps = Caps { wall_time: Duration::ZERO, output_keep: 0, output_kill: 0, ..job.caps };
    let started = (&order.command, &order.env, &order.mounts, order.tty, caps);
    serde_json::to_string(&(started, &ahead.awaited, &ahead.identity)).ok()
}

/// Its order, to be given whole.
pub(super) fn order(job: &Job) -> Order {
    Order {
        command: job.command.clone(),
        env: job.env.clone(),
        mounts: job.mounts.iter().filter_map(|path| Shown::find(path)).collect(),
        files: wire::lengths(&job.files),
        program: job.program.clone(),
        collect: job.collect.clone(),
        collects_cache: job.collects_cache,
        take: job.take.clone(),
        tty: job.tty,
        caps: job.caps,
        awaited: None,
    }
}
