//! One task that knows what becomes of all children: by the event stream, which is fast and forgets, and
//! by listing, which is slow and right.
//!
//! ```text
//!  event stream ──> Board <── listing: at the start, after every gap, every few seconds
//!                     └──> followers
//! ```
//!
//! While neither answers, Nomad is away: the board says so.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tracing::{debug, info, warn};

use super::{
    board::{Open, SharedBoard},
    pace::{Ended, Pace},
    sentences,
};
use crate::{
    error_chain::error_chain,
    nomad::{Batch, Client, Evaluation, EventStream, NomadError, Problem, prefix_of_child},
};

/// Between two listings while the event stream works and every child has its place.
const PERIOD: Duration = Duration::from_secs(5);

/// The same while a child has no place yet, or the stream has said nothing so far.
const SHORT_PERIOD: Duration = Duration::from_millis(500);

/// The same when there is no event stream: switched off, or not for our token.
const POLL: Duration = Duration::from_millis(250);

/// From the opening of a stream to the listing that covers what came before it.
const AFTER_OPENING: Duration = Duration::from_millis(100);

/// How long a child may be without a place before its evaluation is asked why: Nomad places one in 5 ms
/// where there is room.
const PLACING: Duration = Duration::from_millis(400);

/// How often such a child is looked at again: nothing but its reason can change unseen.
const AGAIN: Duration = Duration::from_secs(2);

/// How often Nomad is made to try again to place a child for which it had no node to look at. It does so by
/// itself when a node comes or is made eligible, but not when a drain is disabled (1.1.0): such a child
/// waits until something else ends, which is for ever when all in flight are such children.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How often the allocations of a child that seems to run on are listed all the same.
const DOUBT: Duration = Duration::from_secs(30);

/// From a failure to the next try, doubled each time up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between tries while Nomad is away.
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// Calls at once that a listing leads to.
const AT_ONCE: usize = 4;

/// Watches the children of one daemon.
pub(super) struct Watcher {
    client: Client,
    /// How the ids of all children begin.
    prefixes: [String; 2],
    board: SharedBoard,
    failures: u32,
    /// Whether the event stream is refused to us, which is said once.
    refused: bool,
}

impl Watcher {
    pub(super) fn new(client: Client, prefixes: [String; 2], board: SharedBoard) -> Watcher {
        Watcher { client, prefixes, board, failures: 0, refused: false }
    }

    /// Watches until dropped.
    pub(super) async fn run(mut self) -> std::convert::Infallible {
        let mut pace = Pace::default();
        loop {
            if let Err(error) = self.go_round(&mut pace).await {
                self.away(&error).await;
            }
        }
    }

    /// One stream, from the listing before it to the pause after it. A stream that fails is not Nomad
    /// being away: a listing tells.
    async fn go_round(&mut self, pace: &mut Pace) -> Result<(), NomadError> {
        // What is true now; the stream says what comes after. Its index, however far others had come: a
        // server that was restored counts anew.
        let since = self.list(true).await?;
        let ended = match self.open_stream(since).await? {
            Ok(stream) => {
                let opened = Instant::now();
                self.watch(stream).await?;
                Ended::After(opened.elapsed())
            }
            Err(ended) => ended,
        };
        if ended == Ended::Refused && !std::mem::replace(&mut self.refused, true) {
            warn!("Nomad gives us no event stream: asking often instead");
        }
        self.poll(pace.pause(ended)).await
    }

    /// Opens a stream, listing meanwhile: the first byte may take half a minute.
    async fn open_stream(
        &mut self,
        since: u64,
    ) -> Result<Result<Box<EventStream>, Ended>, NomadError> {
        let client = self.client.clone();
        let mut opening = Box::pin(client.allocation_events(since));
        let mut pause = AFTER_OPENING;
        loop {
            tokio::select! {
                opened = &mut opening => return Ok(match opened {
                    Ok(stream) => {
                        self.refused = false;
                        Ok(Box::new(stream))
                    }
                    // 404 before 1.0, 403 without read-job, 501 where it is switched off.
                    Err(NomadError::Answered { status, problem, .. })
                        if problem == Problem::Forbidden || status == 404 || status == 501 =>
                    {
                        Err(Ended::Refused)
                    }
                    // Nothing happened for longer than a heartbeat takes: a proxy may hold it back.
                    Err(error) => {
                        debug!(reason = error_chain(&error), "Nomad opens no event stream");
                        Err(Ended::After(Duration::ZERO))
                    }
                }),
                () = tokio::time::sleep(pause) => {
                    self.list(false).await?;
                    pause = SHORT_PERIOD;
                }
            }
        }
    }

    /// Passes on what a stream says, and lists now and then, until it ends.
    async fn watch(&mut self, mut stream: Box<EventStream>) -> Result<(), NomadError> {
        self.list(false).await?;
        let mut listed = Instant::now();
        loop {
            tokio::select! {
                batch = stream.next() => match batch {
                    Ok(Some(batch)) => self.note(&batch),
                    Ok(None) => {
                        debug!("Nomad ended the event stream");
                        return Ok(());
                    }
                    Err(error) => {
                        // It says so when it dropped us.
                        debug!(reason = error_chain(&error), "the event stream broke");
                        return Ok(());
                    }
                },
                // Looks at what is on the board: a child that is new shortens the period.
                () = tokio::time::sleep(SHORT_PERIOD) => {}
            }
            let period = if self.board.has_unplaced() { SHORT_PERIOD } else { PERIOD };
            if listed.elapsed() >= period {
                self.list(false).await?;
                listed = Instant::now();
            }
        }
    }

    fn note(&self, batch: &Batch) {
        for allocation in &batch.allocations {
            let job_id = &allocation.job_id;
            let is_ours = self.prefixes.iter().any(|each| job_id.starts_with(each));
            if is_ours || self.board.watch(job_id).is_some() {
                self.board.note(allocation);
            }
        }
    }

    /// Lists often, for so long, in place of a stream.
    async fn poll(&mut self, time: Duration) -> Result<(), NomadError> {
        let end = Instant::now() + time;
        let mut asked = Instant::now();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(POLL)).await;
            if left <= POLL {
                return Ok(());
            }
            // Without a child, nothing else would show that Nomad is away.
            let idle = self.board.len() == 0 && asked.elapsed() >= PERIOD;
            self.list(idle).await?;
            if idle {
                asked = Instant::now();
            }
        }
    }

    /// Sets the board right by listing; returns the index of the list. After a gap, `all` children
    /// are looked at, else those of which the list makes one doubt what is known.
    async fn list(&mut self, all: bool) -> Result<u64, NomadError> {
        // Before the list is asked for: what is dispatched meanwhile is not on it.
        let open = self.board.open();
        if open.is_empty() && !all && self.failures == 0 {
            return Ok(0);
        }
        let mut index = u64::MAX;
        let mut stubs = HashMap::new();
        for prefix in self.prefixes_of(&open, all || self.failures > 0) {
            let answer = self.client.jobs(prefix).await?;
            index = index.min(answer.index);
            stubs.extend(answer.value.into_iter().map(|stub| (stub.id.clone(), stub)));
        }
        let now = Instant::now();
        let looks = open.into_iter().filter_map(|open| {
            let Some(stub) = stubs.get(&open.job_id) else {
                self.board.note_gone(&open.job_id);
                return None;
            };
            (all || needs_a_look(&open, stub.is_dead(), now)).then_some((open, stub.is_dead()))
        });
        let looks: Vec<_> = looks.collect();
        let mut results =
            stream::iter(looks).map(|(open, dead)| self.look(open, dead)).buffer_unordered(AT_ONCE);
        while let Some(looked) = results.next().await {
            looked?;
        }
        drop(results);
        self.back();
        Ok(index)
    }

    /// What the ids of these children begin with, each once: rarely that of the second job, and that of
    /// another when the daemon dispatched from one of another name before. With `own`, those of the
    /// current jobs in any case.
    fn prefixes_of<'a>(&'a self, open: &'a [Open], own: bool) -> BTreeSet<&'a str> {
        let own = self.prefixes.iter().filter(|_| own).map(String::as_str);
        own.chain(open.iter().map(|open| prefix_of_child(&open.job_id))).collect()
    }

    /// Looks at one child.
    async fn look(&self, open: Open, dead: bool) -> Result<(), NomadError> {
        let allocations = self.client.allocations(&open.job_id, None).await?.value;
        self.board.note_list(&open.job_id, &allocations);
        if !allocations.is_empty() {
            return Ok(());
        }
        if dead {
            self.board.note_gone(&open.job_id);
            return Ok(());
        }
        let evaluations = self.client.evaluations(&open.job_id).await?;
        // One that names what is short before a later one that only waits for it.
        let rank = |each: &Evaluation| (!each.failures.is_empty(), each.create_index);
        let reasons =
            evaluations.iter().filter_map(|each| Some((rank(each), sentences::waiting(each)?)));
        let best = reasons.max_by_key(|(rank, _)| *rank).map(|(_, reason)| reason);
        self.board.note_waiting(&open.job_id, best);
        if finds_no_node(&evaluations) && is_due(&open, Instant::now()) {
            debug!(nomad.job_id = open.job_id, "having Nomad try again to place a child");
            if let Err(error) = self.client.evaluate(&open.job_id).await {
                let reason = error_chain(&error);
                debug!(nomad.job_id = open.job_id, reason, "it does not");
            }
        }
        Ok(())
    }

    /// Nomad did not answer: says so, once, and waits a while.
    async fn away(&mut self, error: &NomadError) {
        let reason = error_chain(error);
        if self.board.note_reach(Some(reason.clone())) {
            warn!(reason, "Nomad cannot be asked about its jobs: trying on");
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6));
        self.failures += 1;
        tokio::time::sleep(pause.min(MAX_PAUSE)).await;
    }

    fn back(&mut self) {
        self.failures = 0;
        if self.board.note_reach(None) {
            info!("Nomad can be asked again");
        }
    }
}

/// Whether the scheduler's last try to place a child ended without a node to look at.
fn finds_no_node(evaluations: &[Evaluation]) -> bool {
    let failed = evaluations.iter().filter(|each| !each.failures.is_empty());
    failed
        .max_by_key(|each| each.create_index)
        .is_some_and(|last| last.failures.values().all(|failure| failure.nodes_evaluated == 0))
}

/// Whether one of the times to try again has come since a child was looked at last.
fn is_due(open: &Open, now: Instant) -> bool {
    let times =
        |at: Instant| at.saturating_duration_since(open.since).as_secs() / TRY_AGAIN.as_secs();
    open.listed.is_some_and(|listed| times(now) > times(listed))
}

/// Whether a child must be looked at, by what the list says of it.
fn needs_a_look(open: &Open, dead: bool, now: Instant) -> bool {
    let since = |then: Instant| now.saturating_duration_since(then);
    if dead {
        return true;
    }
    match (open.is_placed, open.listed) {
        (false, None) => since(open.since) >= PLACING,
        (false, Some(listed)) => since(listed) >= AGAIN,
        (true, listed) => since(listed.unwrap_or(open.since)) >= DOUBT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nomad::PlacementFailure;

    #[test]
    fn a_child_that_finds_no_node_is_tried_again_now_and_then() {
        let now = Instant::now();
        let looks_at = |since: u64, listed: Option<u64>| {
            let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
            let (since, listed) = (ago(since), listed.map(ago));
            is_due(&Open { job_id: "a".to_owned(), since, listed, is_placed: false }, now)
        };
        assert!(!looks_at(29, Some(2)) && !looks_at(32, Some(1)) && !looks_at(40, None));
        assert!(looks_at(31, Some(2)) && looks_at(60, Some(2)));
        let evaluation = |create_index, nodes_evaluated| Evaluation {
            create_index,
            failures: [(
                "run".to_owned(),
                PlacementFailure { nodes_evaluated, ..Default::default() },
            )]
            .into(),
            ..Evaluation::default()
        };
        assert!(finds_no_node(&[evaluation(1, 2), evaluation(2, 0), Evaluation::default()]));
        assert!(!finds_no_node(&[evaluation(1, 0), evaluation(2, 2)]));
        assert!(!finds_no_node(&[]));
    }

    #[test]
    fn a_child_is_looked_at_when_the_list_or_the_time_makes_one_doubt() {
        let now = Instant::now();
        let open = |age: Duration, is_placed| Open {
            job_id: "a".to_owned(),
            since: now.checked_sub(age).unwrap(),
            listed: None,
            is_placed,
        };
        assert!(needs_a_look(&open(Duration::ZERO, true), true, now));
        assert!(needs_a_look(&open(Duration::ZERO, false), true, now));
        assert!(!needs_a_look(&open(PLACING / 2, false), false, now));
        assert!(needs_a_look(&open(PLACING, false), false, now));
        assert!(!needs_a_look(&open(PLACING, true), false, now));
        assert!(needs_a_look(&open(DOUBT, true), false, now));
        for (is_placed, pause) in [(false, AGAIN), (true, DOUBT)] {
            let listed = |ago| Open { listed: now.checked_sub(ago), ..open(DOUBT * 2, is_placed) };
            assert!(!needs_a_look(&listed(pause / 2), false, now));
            assert!(needs_a_look(&listed(pause), false, now));
        }
    }
}
