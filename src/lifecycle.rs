//! From start to end of the process: signals, background tasks, and the two tokens that end them.
//!
//! ```text
//!  SIGTERM, SIGINT ----> soft: nothing new is taken, `ready` says 503, what runs may end
//!  a second one, or
//!  the grace is over --> hard: everything ends now
//! ```
//!
//! A background task that ends before the soft token ends the process: a daemon without its
//! dispatcher would take submissions and never run them.

use std::{future::Future, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long tasks may take after the hard token before they are dropped where they stand.
const HARD_TIME: Duration = Duration::from_secs(5);

/// Why the process ends otherwise than on request.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// A task that must not end has ended.
    #[error("the {name} ended early: {reason}")]
    EndedEarly {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// A task did not end well.
    #[error("the {name} failed while it was shut down: {reason}")]
    EndedBadly {
        /// Which.
        name: &'static str,
        /// Why.
        reason: String,
    },
}

/// How a task ended: `Err` says why it could not go on.
pub type TaskResult = Result<(), String>;

/// The tasks of the process and the tokens that end them.
#[derive(Debug)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: JoinSet<(&'static str, TaskResult)>,
    signals: Signals,
}

#[derive(Debug)]
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

impl Lifecycle {
    /// Takes over the signals.
    ///
    /// # Errors
    /// The process may not receive them.
    pub fn new() -> Result<Self, LifecycleError> {
        let listen = |kind| signal(kind).map_err(LifecycleError::Signals);
        let (term, int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Lifecycle {
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tasks: JoinSet::new(),
            signals: Signals { term, int },
        })
    }

    /// Cancelled when nothing new may be taken.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Cancelled when everything has to end at once.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Starts a task that lives until the soft token, or with what it has left to do until the hard
    /// one. `name` completes "the ... ended early".
    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// Waits for the first signal, then ends everything: softly for `grace`, then hard.
    ///
    /// # Errors
    /// A task ended early or badly. Everything else is ended all the same.
    pub async fn run(mut self, grace: Duration) -> Result<(), LifecycleError> {
        let early = tokio::select! {
            signal = self.signals.next() => {
                let seconds = grace.as_secs();
                tracing::info!("{signal}: shutting down; what runs has {seconds} s to end");
                None
            }
            ended = self.tasks.join_next(), if !self.tasks.is_empty() => ended.map(early),
        };
        self.soft.cancel();
        let mut result = early.map_or(Ok(()), Err);
        let graceful = tokio::select! {
            ended = drain(&mut self.tasks) => Some(ended),
            signal = self.signals.next() => {
                tracing::warn!("{signal} again: ending at once");
                None
            }
            () = tokio::time::sleep(grace) => {
                tracing::warn!("the grace time is over: ending what still runs");
                None
            }
        };
        self.hard.cancel();
        let ended = match graceful {
            Some(ended) => ended,
            None => match tokio::time::timeout(HARD_TIME, drain(&mut self.tasks)).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::error!(tasks = self.tasks.len(), "some tasks did not end");
                    Ok(())
                }
            },
        };
        if result.is_ok() {
            result = ended;
        }
        result
    }
}

type Joined = Result<(&'static str, TaskResult), tokio::task::JoinError>;

fn early(joined: Joined) -> LifecycleError {
    let (name, reason) = match joined {
        Ok((name, Err(reason))) => (name, reason),
        Ok((name, Ok(()))) => (name, "it had nothing more to do".to_owned()),
        Err(_) => ("program", "a background task panicked; see the lines above".to_owned()),
    };
    LifecycleError::EndedEarly { name, reason }
}

/// Waits for all tasks; the first failure is kept.
async fn drain(tasks: &mut JoinSet<(&'static str, TaskResult)>) -> Result<(), LifecycleError> {
    let mut result = Ok(());
    while let Some(joined) = tasks.join_next().await {
        let (name, ended) = joined.unwrap_or(("program", Err("a task panicked".to_owned())));
        if let (Ok(()), Err(reason)) = (&result, ended) {
            result = Err(LifecycleError::EndedBadly { name, reason });
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_ends_the_others_and_is_named() {
        let mut lifecycle = Lifecycle::new().expect("signals");
        let soft = lifecycle.soft();
        lifecycle.spawn("dispatcher", async move {
            soft.cancelled().await;
            Ok(())
        });
        lifecycle.spawn("store", async { Err("the disk is gone".to_owned()) });
        let error = lifecycle.run(Duration::from_secs(60)).await.expect_err("it ended early");
        assert_eq!(error.to_string(), "the store ended early: the disk is gone");
    }

    #[tokio::test]
    async fn what_does_not_end_softly_is_ended_hard_after_the_grace() {
        let mut lifecycle = Lifecycle::new().expect("signals");
        let hard = lifecycle.hard();
        lifecycle.spawn("stubborn task", async move {
            hard.cancelled().await;
            Err("was ended hard".to_owned())
        });
        lifecycle.spawn("first", async { Err("began the end".to_owned()) });
        let error = lifecycle.run(Duration::from_millis(10)).await.expect_err("it ended early");
        assert_eq!(error.to_string(), "the first ended early: began the end");
    }
}
