//! One child, from its dispatch to its last event.
//!
//! ```text
//!  board ──> Follower ──> Update::{Placement, Waiting, Event, Lost}
//!             │   └── log: followed while it runs on, read to its end when it is over
//!             └────── end the child when nobody listens
//! ```
//!
//! Whichever shows `finished` first wins. Re-reading from the first byte is always right, since `seq`
//! tells repeats; an offset only saves work.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    board::{Child, SharedBoard},
    calls::{Bell, Calls},
    ending,
    glances::{Glances, Lately},
    last_reading::{self, REMOVED},
    log::Log,
    nodes::Nodes,
    reach,
    reader::{Reader, Reading, Unread},
    sentences,
};
use crate::{
    backend::Update,
    error_chain::error_chain,
    nomad::{Allocation, Client, LogStream, NomadError},
    submission::Placement,
};

/// Logs that are followed at once: each holds a connection. The others are looked at now and then.
pub(super) const FOLLOWED: usize = 12;

/// Up to so many children, a log is followed early: it costs nobody anything.
const FEW: usize = 4;

/// From placing to following, with few children: most are over before.
const SOON: Duration = Duration::from_millis(300);

/// The same with many, unless the child is seen to run.
const LATER: Duration = Duration::from_millis(1200);

/// From one look at a log that cannot be followed to the next.
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// Of an attempt that Nomad made anew after it had begun to speak.
const REPLACED: &str = "its Nomad allocation was replaced by another";

/// What all followers of a backend share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) board: SharedBoard,
    pub(super) nodes: Arc<Nodes>,
    pub(super) live: Arc<Semaphore>,
    /// Whether our token may have Nomad forget a child, as far as is known.
    pub(super) may_purge: Arc<AtomicBool>,
    /// Whether our token may read files of allocations, as far as is known.
    pub(super) may_read_files: Arc<AtomicBool>,
    /// What runners say of their own accord.
    pub(super) calls: Arc<Calls>,
    /// What attempts took lately.
    pub(super) lately: Arc<Lately>,
    /// The daemon is about to end: children are left alone when nobody listens.
    pub(super) stopping: CancellationToken,
}

/// Follows one child.
pub(super) struct Follower {
    shared: Shared,
    job_id: String,
    evaluation_id: String,
    child: watch::Receiver<Child>,
    updates: mpsc::Sender<Update>,
    /// The allocation that is followed, with its node.
    allocation: Option<(String, String)>,
    waiting: Option<String>,
    /// When to look whether it is over, once it is placed.
    glances: Option<Glances>,
    /// Whether that is to be done now.
    due: bool,
    /// Whether the allocation was seen to run.
    seen_running: bool,
    bell: Bell,
    /// Whether its runner called.
    called: bool,
    reader: Reader,
    live: Live,
}

/// The log while it grows.
enum Live {
    /// Not looked at before this time.
    From(Instant),
    /// Followed.
    On(LogStream, #[expect(dead_code, reason = "given back when dropped")] OwnedSemaphorePermit),
}

/// Why following ended before `finished`.
pub(super) enum Stop {
    /// Nobody listens.
    Unwanted,
    /// There will be no result, as a sentence.
    Lost(String),
}

/// Something that a follower waits for.
enum Next {
    Child,
    Removed,
    Log(Result<Option<Bytes>, NomadError>),
    Call,
    Glance,
    Look,
}

impl Follower {
    /// Follows a child that is on the board; its allocation, with the node, may be known already.
    pub(super) fn new(
        shared: Shared,
        (job_id, evaluation_id): (String, String),
        child: watch::Receiver<Child>,
        allocation: Option<(String, String)>,
        bell: Bell,
        updates: mpsc::Sender<Update>,
    ) -> Self {
        let live = Live::From(Instant::now() + SOON);
        let reader = Reader {
            nodes: shared.nodes.clone(),
            updates: updates.clone(),
            log: Log::default(),
            may_read_files: shared.may_read_files.clone(),
            is_long: false,
        };
        Follower {
            shared,
            job_id,
            evaluation_id,
            child,
            updates,
            allocation,
            waiting: None,
            glances: None,
            due: false,
            seen_running: false,
            bell,
            called: false,
            reader,
            live,
        }
    }

    /// Sends what happens until `finished`, or ends the child when nobody listens any more.
    pub(super) async fn run(mut self) {
        let listener = self.updates.clone();
        let reach = reach::tell(self.shared.board.reach(), self.updates.clone());
        let end = tokio::select! {
            end = self.follow() => end,
            () = listener.closed() => Err(Stop::Unwanted),
            () = reach => Err(Stop::Unwanted),
        };
        match end {
            Ok(()) => {
                if let Some(glances) = &self.glances {
                    self.shared.lately.note(glances.elapsed(Instant::now()), self.called);
                }
                self.shared.board.note_finished(&self.job_id);
            }
            Err(Stop::Unwanted) => {
                if !self.shared.stopping.is_cancelled() {
                    self.end().await;
                }
            }
            Err(Stop::Lost(reason)) => {
                // First, so that no replacement by Nomad runs beside the next attempt.
                self.end().await;
                let _ = self.updates.send(Update::Lost(reason)).await;
            }
        }
    }

    /// Ends the child as well as can be now; `release` makes sure.
    async fn end(&self) {
        if let Err(error) = ending::end(&self.shared, &self.job_id).await {
            // `release` tries again, and says so where that fails too.
            let reason = error_chain(&error);
            debug!(nomad.job_id = self.job_id, reason, "a job in Nomad could not be stopped");
        }
    }

    async fn send(&self, update: Update) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_closed| Stop::Unwanted)
    }

    async fn follow(&mut self) -> Result<(), Stop> {
        loop {
            let child = self.child.borrow_and_update().clone();
            if let Some(allocation) = &child.allocation {
                self.note(allocation).await?;
                if allocation.client_status == "lost" {
                    // There is no node to read from.
                    return Err(Stop::Lost(sentences::lost(allocation)));
                }
                if child.is_over() {
                    self.live = Live::From(Instant::now());
                    return last_reading::read_to_the_end(&mut self.reader, allocation, child.gone)
                        .await;
                }
                if std::mem::take(&mut self.due) && self.glance(allocation).await? {
                    return Ok(());
                }
            } else if child.gone {
                return Err(Stop::Lost(REMOVED.to_owned()));
            }
            self.explain(child.waiting).await?;
            match self.next().await {
                Next::Child => {}
                // Released, and nothing of it is left.
                Next::Removed => return Err(Stop::Lost(REMOVED.to_owned())),
                Next::Glance => self.due = true,
                Next::Call => self.take_call(),
                Next::Look => {
                    if self.open_live(child.allocation.as_ref()).await? {
                        return Ok(());
                    }
                }
                Next::Log(chunk) => {
                    if self.pass_on_live(chunk).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> Next {
        let child = self.child.changed();
        let glance = self.glances.as_ref().and_then(Glances::next);
        let glance = async {
            match glance {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        match &mut self.live {
            Live::From(time) => tokio::select! {
                changed = child => if changed.is_ok() { Next::Child } else { Next::Removed },
                () = self.bell.rung() => Next::Call,
                () = glance => Next::Glance,
                () = tokio::time::sleep_until(*time), if self.allocation.is_some() => Next::Look,
            },
            Live::On(stream, _) => tokio::select! {
                biased;
                changed = child => if changed.is_ok() { Next::Child } else { Next::Removed },
                () = self.bell.rung() => Next::Call,
                () = glance => Next::Glance,
                chunk = stream.wait() => Next::Log(chunk),
            },
        }
    }

    fn take_call(&mut self) {
        (self.due, self.called) = (true, true);
        self.glances.iter_mut().for_each(|glances| glances.called(Instant::now()));
    }

    /// Says where it is, once that is known and when it changes.
    async fn note(&mut self, allocation: &Allocation) -> Result<(), Stop> {
        if allocation.client_status == "running" {
            if let Live::From(time) = &mut self.live {
                *time = (*time).min(Instant::now() + SOON);
            }
            // Nomad says so up to 200 ms late, and the end of a short run that did not make it into the
            // same report later by as much again.
            let seen_before = std::mem::replace(&mut self.seen_running, true);
            self.due |= !seen_before && !self.shared.lately.called();
        }
        let known = (allocation.id.clone(), allocation.node_id.clone());
        if self.allocation.as_ref() == Some(&known) {
            return Ok(());
        }
        if self.reader.log.has_spoken() {
            // What a replacement says does not go on from there.
            return Err(Stop::Lost(REPLACED.to_owned()));
        }
        self.reader.log.rewind();
        self.seen_running = false;
        self.glances = Some(Glances::of(Instant::now(), &self.shared.lately));
        let few = self.shared.board.len() <= FEW;
        self.live = Live::From(Instant::now() + if few { SOON } else { LATER });
        self.allocation = Some(known.clone());
        let (allocation_id, node_id) = known;
        debug!(nomad.job_id = self.job_id, alloc.id = allocation_id, "Nomad placed an attempt");
        self.send(Update::Placement(Placement::Nomad {
            job_id: self.job_id.clone(),
            evaluation_id: self.evaluation_id.clone(),
            allocation_id: Some(allocation_id),
            node_id: Some(node_id),
        }))
        .await
    }

    /// Says what a child without an allocation waits for, when that changes.
    async fn explain(&mut self, waiting: Option<String>) -> Result<(), Stop> {
        if waiting == self.waiting {
            return Ok(());
        }
        self.waiting.clone_from(&waiting);
        match waiting {
            Some(sentence) => self.send(Update::Waiting(sentence)).await,
            None => Ok(()),
        }
    }

    /// Looks whether it is over, although Nomad has not said so; passes on what there is.
    async fn glance(&mut self, allocation: &Allocation) -> Result<bool, Stop> {
        match self.reader.glance(allocation).await {
            Ok(Reading::Finished) => Ok(true),
            Err(Unread::Unwanted) => Err(Stop::Unwanted),
            Ok(Reading::Incomplete(_)) | Err(Unread::Nomad(_)) => {
                if let Some(glances) = &mut self.glances {
                    glances.looked(Instant::now());
                }
                Ok(false)
            }
        }
    }

    /// Passes on what a log holds now; says whether that was all of it.
    async fn pass_on_what_is_there(&mut self, log: LogStream) -> Result<bool, Stop> {
        match self.reader.pass_on(log).await {
            Ok(Reading::Finished) => Ok(true),
            Err(Unread::Unwanted) => Err(Stop::Unwanted),
            // It is not over yet: another reading will tell.
            Ok(Reading::Incomplete(_)) | Err(Unread::Nomad(_)) => Ok(false),
        }
    }

    /// Begins to follow the log where that can be, else reads what there is and looks again later.
    /// Says whether that was all of it.
    async fn open_live(&mut self, allocation: Option<&Allocation>) -> Result<bool, Stop> {
        let Some(allocation) = allocation else { return Ok(false) };
        self.live = Live::From(Instant::now() + LOOK_PAUSE);
        let permit = self.shared.live.clone().try_acquire_owned();
        // Nomad answers with the first bytes only; by then the child may be over, and read in one go.
        let opened = tokio::select! {
            biased;
            _ = self.child.wait_for(Child::is_over) => return Ok(false),
            () = self.bell.rung() => None,
            opened = self.reader.open(allocation, permit.is_ok()) => Some(opened),
        };
        let Some(opened) = opened else {
            self.live = Live::From(Instant::now());
            self.take_call();
            return Ok(false);
        };
        match (opened, permit) {
            (Ok(stream), Ok(permit)) => self.live = Live::On(stream, permit),
            (Ok(stream), Err(_)) => return self.pass_on_what_is_there(stream).await,
            // It has not begun, or cannot be asked.
            (Err(_), _) => {}
        }
        Ok(false)
    }

    /// Passes on what a followed log says; says whether that was all of it.
    async fn pass_on_live(
        &mut self,
        chunk: Result<Option<Bytes>, NomadError>,
    ) -> Result<bool, Stop> {
        let Ok(Some(chunk)) = chunk else {
            self.live = Live::From(Instant::now() + LOOK_PAUSE);
            return Ok(false);
        };
        match self.reader.pass_on_chunk(&chunk).await {
            Ok(None) => Ok(false),
            Ok(Some(Reading::Finished)) => Ok(true),
            Err(Unread::Unwanted) => Err(Stop::Unwanted),
            Ok(Some(Reading::Incomplete(_))) | Err(Unread::Nomad(_)) => {
                self.live = Live::From(Instant::now() + LOOK_PAUSE);
                Ok(false)
            }
        }
    }
}
