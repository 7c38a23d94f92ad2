//! The backend that runs attempts in this daemon, in the slots of this machine.
//!
//! ```text
//!  start ── slot ── task: Runner::execute ── Event ── Update ──> Execution::events
//!                     └── on threads of its own, cancelled when the receiver is dropped
//!  release ── waits for the tasks whose receiver is gone
//! ```

mod threads;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::threads::Threads;
use super::{Backend, BackendError, EVENT_CHANNEL, Execution, StartError, Update, Worker};
use crate::{protocol::ExecutionRequest, runner::Runner, sandbox::Slot, submission::Placement};

/// Runs attempts on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    runner: Runner,
    slots: usize,
    running: Running,
    tasks: TaskTracker,
    threads: Arc<Threads>,
    /// Attempts that run or wait for a slot.
    demand: watch::Sender<usize>,
    /// Cancelled by [`LocalBackend::shut_down`]; every attempt has a child of it.
    stop: CancellationToken,
}

/// One attempt in the demand for slots, from its start to its end.
struct Demand(watch::Sender<usize>);

impl Demand {
    fn new(count: &watch::Sender<usize>) -> Demand {
        count.send_modify(|count| *count += 1);
        Demand(count.clone())
    }
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The attempts that have a task now.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<RunningInner>>);

#[derive(Debug, Default)]
struct RunningInner {
    next: u64,
    attempts: HashMap<u64, Attempt>,
}

#[derive(Debug)]
struct Attempt {
    /// Closed when nobody wants the result. Weak, so that the channel ends with its task.
    updates: mpsc::WeakSender<Update>,
    /// Cancelled when nothing of the attempt is left.
    over: CancellationToken,
}

/// Takes an attempt out of [`Running`] however its task ends.
struct Registration {
    running: Running,
    number: u64,
    over: CancellationToken,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, RunningInner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, updates: &mpsc::Sender<Update>) -> Registration {
        let over = CancellationToken::new();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let attempt = Attempt { updates: updates.downgrade(), over: over.clone() };
        inner.attempts.insert(number, attempt);
        drop(inner);
        Registration { running: self.clone(), number, over }
    }

    fn count(&self) -> usize {
        self.lock().attempts.len()
    }

    /// What to wait for until every attempt that nobody reads is over.
    fn unread(&self) -> Vec<CancellationToken> {
        let unread = |attempt: &&Attempt| {
            attempt.updates.upgrade().is_none_or(|updates| updates.is_closed())
        };
        self.lock().attempts.values().filter(unread).map(|attempt| attempt.over.clone()).collect()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.running.lock().attempts.remove(&self.number);
        self.over.cancel();
    }
}

impl LocalBackend {
    /// A backend over `runner`, whose sandbox has `slots` slots.
    ///
    /// # Errors
    /// No threads can be started.
    pub fn new(runner: Runner, slots: usize) -> io::Result<Self> {
        Ok(LocalBackend {
            runner,
            slots,
            running: Running::default(),
            tasks: TaskTracker::new(),
            threads: Arc::new(Threads::start()?),
            demand: watch::Sender::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// How many attempts run or wait for a slot, as it changes: what else wants to use the machine
    /// can keep out of their way.
    pub fn demand(&self) -> watch::Receiver<usize> {
        self.demand.subscribe()
    }

    /// Ends every attempt and waits until nothing of them is left. Later starts are refused.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Gives the attempt to a task of its own.
    fn spawn(&self, request: Arc<ExecutionRequest>, slot: Slot, demand: Demand) -> Execution {
        let (updates, receiver) = mpsc::channel(EVENT_CHANNEL);
        let registration = self.running.register(&updates);
        let (runner, cancel) = (self.runner.clone(), self.stop.child_token());
        self.threads.spawn(&self.tasks, async move {
            execute(&runner, request, &slot, updates, cancel).await;
            // The slot first: whoever waits for the end may start the next at once.
            drop(slot);
            drop(registration);
            drop(demand);
        });
        Execution { placement: Placement::Local, events: receiver }
    }
}

/// Runs one attempt and passes its events on; ends it when nobody takes them.
async fn execute(
    runner: &Runner,
    request: Arc<ExecutionRequest>,
    slot: &Slot,
    updates: mpsc::Sender<Update>,
    cancel: CancellationToken,
) {
    // Of one: what may wait for the reader is bounded by the other channel.
    let (sender, mut events) = mpsc::channel(1);
    let run = runner.execute(request, slot, sender, cancel.clone());
    let pass_on = async {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => if updates.send(Update::Event(event)).await.is_err() { break },
                    None => break,
                },
                () = updates.closed() => break,
            }
        }
        // After the last event this does nothing.
        cancel.cancel();
    };
    tokio::join!(run, pass_on);
}

/// What this machine calls itself.
pub(super) fn machine_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "local".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl Backend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capacity(&self) -> usize {
        self.slots
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        async move {
            self.runner.check_room().map_err(StartError::Unavailable)?;
            let demand = Demand::new(&self.demand);
            let slot = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return Err(StartError::Unavailable("the daemon is shutting down".to_owned()));
                }
                slot = self.runner.sandbox().slot() => slot,
            };
            Ok(self.spawn(request, slot, demand))
        }
        .boxed()
    }

    /// What an earlier process ran ended with it.
    fn recover(
        &self,
        _request: Arc<ExecutionRequest>,
        _placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        async { Ok(None) }.boxed()
    }

    /// A local placement has no identity, and needs none: an attempt whose events nobody reads is
    /// on its way out, and this waits for all of those.
    fn release(&self, _placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        async move {
            for over in self.running.unread() {
                over.cancelled().await;
            }
            Ok(())
        }
        .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        async move { self.runner.check_room().map_err(BackendError) }.boxed()
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        async move {
            Ok(vec![Worker {
                id: "local".to_owned(),
                kind: "local",
                name: machine_name(),
                healthy: !self.stop.is_cancelled(),
                slots: Some(self.slots),
                busy: Some(self.running.count()),
                layers: self.runner.sandbox().layers(),
            }])
        }
        .boxed()
    }
}
