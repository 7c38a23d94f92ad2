//! The slots of this machine, and the attempts in them. The local backend and the worker's server are
//! the only callers.
//!
//! ```text
//!  start ── slot ── task: Runner::execute ── Event ──> Run::events
//!                     └── on threads of its own, cancelled when the receiver is dropped
//! ```

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::threads::Threads;
use crate::{
    protocol::{Event, ExecutionRequest, Input},
    runner::Runner,
    sandbox::{Layer, Slot},
};

/// Inputs that may wait for a program, at most 64 KiB each; past it whoever sends waits.
const INPUTS: usize = 4;

/// Runs attempts on this machine, each in a slot. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots {
    runner: Runner,
    count: usize,
    running: Running,
    tasks: TaskTracker,
    threads: Arc<Threads>,
    /// Attempts that run or wait for a slot.
    demand: watch::Sender<usize>,
    /// Cancelled by [`Slots::shut_down`]; every attempt has a child of it.
    stop: CancellationToken,
}

/// An attempt in a slot.
#[derive(Debug)]
pub struct Run<T> {
    /// What its runner says. Dropping it ends the attempt.
    pub events: mpsc::Receiver<T>,
    /// What reaches the program while it runs, where it is one that is talked to.
    pub input: Option<mpsc::Sender<Input>>,
    /// Cancelled when nothing of the attempt is left on the machine.
    pub over: CancellationToken,
}

/// Why an attempt did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// There is no room for a compiled program, as a sentence.
    #[error("{0}")]
    NoRoom(String),
    /// [`Slots::shut_down`] was called.
    #[error("it is shutting down")]
    ShuttingDown,
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

struct Attempt {
    /// Whether nobody wants the result.
    is_unread: Box<dyn Fn() -> bool + Send>,
    /// Cancelled when nothing of the attempt is left.
    over: CancellationToken,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("over", &self.over).finish_non_exhaustive()
    }
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

    fn register<T: Send + 'static>(&self, events: &mpsc::Sender<T>) -> Registration {
        let over = CancellationToken::new();
        // Weak, so that the channel ends with its task.
        let events = events.downgrade();
        let is_unread = move || events.upgrade().is_none_or(|events| events.is_closed());
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner
            .attempts
            .insert(number, Attempt { is_unread: Box::new(is_unread), over: over.clone() });
        drop(inner);
        Registration { running: self.clone(), number, over }
    }

    fn count(&self) -> usize {
        self.lock().attempts.len()
    }

    /// What to wait for until every attempt that nobody reads is over.
    fn unread(&self) -> Vec<CancellationToken> {
        let inner = self.lock();
        let unread = inner.attempts.values().filter(|attempt| (attempt.is_unread)());
        unread.map(|attempt| attempt.over.clone()).collect()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.running.lock().attempts.remove(&self.number);
        self.over.cancel();
    }
}

impl Slots {
    /// Slots over `runner`, whose sandbox has `count` of them.
    ///
    /// # Errors
    /// No threads can be started.
    pub fn new(runner: Runner, count: usize) -> io::Result<Slots> {
        Ok(Slots {
            runner,
            count,
            running: Running::default(),
            tasks: TaskTracker::new(),
            threads: Arc::new(Threads::start()?),
            demand: watch::Sender::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many attempts run now.
    pub fn busy(&self) -> usize {
        self.running.count()
    }

    /// What the jails here are made of.
    pub fn layers(&self) -> Vec<Layer> {
        self.runner.sandbox().layers()
    }

    /// Whether [`Slots::shut_down`] was called.
    pub fn is_shut_down(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// How many attempts run or wait for a slot, as it changes: what else wants to use the machine
    /// can keep out of their way.
    pub fn demand(&self) -> watch::Receiver<usize> {
        self.demand.subscribe()
    }

    /// Whether there is room for another compiled program.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn check_room(&self) -> Result<(), String> {
        self.runner.check_room()
    }

    /// Runs an attempt in the next slot that is free; waits for one. Events that may wait for a reader
    /// are `channel` many, and past that the program waits.
    ///
    /// Dropping the future gives up the wait.
    ///
    /// # Errors
    /// See [`NoSlot`].
    pub async fn start<T: From<Event> + Send + 'static>(
        &self,
        request: Arc<ExecutionRequest>,
        channel: usize,
    ) -> Result<Run<T>, NoSlot> {
        self.check_room().map_err(NoSlot::NoRoom)?;
        let demand = Demand::new(&self.demand);
        let slot = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(NoSlot::ShuttingDown),
            slot = self.runner.sandbox().slot() => slot,
        };
        Ok(self.spawn(request, slot, demand, channel))
    }

    /// Gives the attempt to a task of its own.
    fn spawn<T: From<Event> + Send + 'static>(
        &self,
        request: Arc<ExecutionRequest>,
        slot: Slot,
        demand: Demand,
        channel: usize,
    ) -> Run<T> {
        let (sender, events) = mpsc::channel(channel);
        let registration = self.running.register(&sender);
        let over = registration.over.clone();
        let (runner, cancel) = (self.runner.clone(), self.stop.child_token());
        let (input, live) = request.request.interactive.map(|_| mpsc::channel(INPUTS)).unzip();
        self.threads.spawn(&self.tasks, async move {
            execute(&runner, request, &slot, live, sender, cancel).await;
            // The slot first: whoever waits for the end may start the next at once.
            drop(slot);
            drop(registration);
            drop(demand);
        });
        Run { events, input, over }
    }

    /// Waits until nothing is left of the attempts whose events nobody reads.
    pub async fn unread_are_over(&self) {
        for over in self.running.unread() {
            over.cancelled().await;
        }
    }

    /// Ends every attempt and waits until nothing of them is left. Later starts are refused.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs one attempt and passes its events on; ends it when nobody takes them.
async fn execute<T: From<Event>>(
    runner: &Runner,
    request: Arc<ExecutionRequest>,
    slot: &Slot,
    live: Option<mpsc::Receiver<Input>>,
    events: mpsc::Sender<T>,
    cancel: CancellationToken,
) {
    // Of one: what may wait for the reader is bounded by the other channel.
    let (sender, mut said) = mpsc::channel(1);
    let run = runner.execute(request, slot, live, sender, cancel.clone());
    let pass_on = async {
        loop {
            tokio::select! {
                event = said.recv() => match event {
                    Some(event) => if events.send(event.into()).await.is_err() { break },
                    None => break,
                },
                () = events.closed() => break,
            }
        }
        // After the last event this does nothing.
        cancel.cancel();
    };
    tokio::join!(run, pass_on);
}
