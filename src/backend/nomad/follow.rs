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
use tracing::{debug, warn};

use super::{
    board::{Child, SharedBoard},
    ending,
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

/// From the first failed reading of a log that is whole to the next, doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between such readings.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How long the log of an allocation that is over may be unreadable, while Nomad itself answers,
/// before the attempt is given up: its node may be rebooting.
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// Of an attempt that Nomad made anew after it had begun to speak.
const REPLACED: &str = "its Nomad allocation was replaced by another";

/// Of a child that somebody else ended.
const REMOVED: &str = "its job was removed from Nomad";

/// What all followers of a backend share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) board: SharedBoard,
    pub(super) nodes: Arc<Nodes>,
    pub(super) live: Arc<Semaphore>,
    /// Whether our token may have Nomad forget a child, as far as is known.
    pub(super) may_purge: Arc<AtomicBool>,
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
    /// Whether the log was read when the allocation was seen to run.
    peeked: bool,
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
enum Stop {
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
    Look,
}

impl Follower {
    /// Follows a child that is on the board; its allocation, with the node, may be known already.
    pub(super) fn new(
        shared: Shared,
        (job_id, evaluation_id): (String, String),
        child: watch::Receiver<Child>,
        allocation: Option<(String, String)>,
        updates: mpsc::Sender<Update>,
    ) -> Self {
        let live = Live::From(Instant::now() + SOON);
        let nodes = shared.nodes.clone();
        let reader = Reader { nodes, updates: updates.clone(), log: Log::default() };
        let waiting = None;
        Follower {
            shared,
            job_id,
            evaluation_id,
            child,
            updates,
            allocation,
            waiting,
            peeked: false,
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
            Ok(()) => self.shared.board.note_finished(&self.job_id),
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
            let reason = error_chain(&error);
            warn!(nomad.job_id = self.job_id, reason, "a job in Nomad could not be stopped yet");
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
                    return self.read_to_the_end(allocation, child.gone).await;
                }
                if allocation.client_status == "running" && self.peek(allocation).await? {
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
        match &mut self.live {
            Live::From(time) => tokio::select! {
                changed = child => if changed.is_ok() { Next::Child } else { Next::Removed },
                () = tokio::time::sleep_until(*time), if self.allocation.is_some() => Next::Look,
            },
            Live::On(stream, _) => tokio::select! {
                biased;
                changed = child => if changed.is_ok() { Next::Child } else { Next::Removed },
                chunk = stream.wait() => Next::Log(chunk),
            },
        }
    }

    /// Says where it is, once that is known and when it changes.
    async fn note(&mut self, allocation: &Allocation) -> Result<(), Stop> {
        if allocation.client_status == "running"
            && let Live::From(time) = &mut self.live
        {
            *time = (*time).min(Instant::now() + SOON);
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
        self.peeked = false;
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

    /// Reads what there is, once, when the allocation is seen to run: Nomad says so up to 200 ms late,
    /// and the end of a short run that did not make it into the same report later by as much again.
    /// Says whether that was all of it.
    async fn peek(&mut self, allocation: &Allocation) -> Result<bool, Stop> {
        if std::mem::replace(&mut self.peeked, true) || matches!(self.live, Live::On(..)) {
            return Ok(false);
        }
        match self.reader.open(allocation, false).await {
            Ok(log) => self.pass_on_what_is_there(log).await,
            Err(_) => Ok(false),
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
        // Nomad answers a follower with its first bytes only, up to half a second later; by then the
        // child may be over, and its log read in one go.
        let opened = tokio::select! {
            biased;
            _ = self.child.wait_for(Child::is_over) => return Ok(false),
            opened = self.reader.open(allocation, permit.is_ok()) => opened,
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

    /// Passes on what an allocation that is over has said; `gone`: Nomad has forgotten its job.
    async fn read_to_the_end(&mut self, allocation: &Allocation, gone: bool) -> Result<(), Stop> {
        self.live = Live::From(Instant::now());
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let incomplete = loop {
            match self.reader.read_once(allocation).await {
                Ok(Reading::Finished) => return Ok(()),
                Ok(Reading::Incomplete(what)) => break what,
                Err(Unread::Unwanted) => return Err(Stop::Unwanted),
                Err(Unread::Nomad(error)) => {
                    let nomad_answers = error.problem().is_some();
                    if gone || nomad_answers && begun.elapsed() > READ_DEADLINE {
                        break "its log cannot be read from its node";
                    }
                    let reason = error_chain(&error);
                    debug!(nomad.job_id = self.job_id, reason, "a log cannot be read yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        };
        warn!(
            nomad.job_id = self.job_id,
            alloc.id = allocation.id,
            reason = incomplete,
            nomad.events = sentences::details(allocation),
            "an allocation ended without a result"
        );
        Err(Stop::Lost(if allocation.is_over() {
            sentences::lost(allocation)
        } else {
            REMOVED.to_owned()
        }))
    }
}
