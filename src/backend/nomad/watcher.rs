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
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use tracing::{debug, info, warn};

use super::{
    board::{Open, SharedBoard},
    sentences,
};
use crate::{
    error_chain::error_chain,
    nomad::{Client, Evaluation, EventStream, NomadError, Problem},
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
}

/// How the events of a server come.
enum Events {
    /// They are being asked for, or come.
    On(Box<EventStream>),
    /// There are none for us.
    Off,
}

impl Watcher {
    pub(super) fn new(client: Client, prefixes: [String; 2], board: SharedBoard) -> Watcher {
        Watcher { client, prefixes, board, failures: 0 }
    }

    /// Watches until dropped.
    pub(super) async fn run(mut self) -> std::convert::Infallible {
        let mut since = 0;
        loop {
            // What is true now; the stream says what comes after.
            match self.list(true).await {
                Ok(index) => since = index.max(since),
                Err(error) => {
                    self.away(&error).await;
                    since = 0;
                    continue;
                }
            }
            match self.open_stream(since).await {
                Ok(events) => {
                    if let Err(error) = self.watch(events, &mut since).await {
                        self.away(&error).await;
                    }
                }
                Err(error) => self.away(&error).await,
            }
        }
    }

    /// Opens a stream, listing meanwhile: the first byte may take half a minute.
    async fn open_stream(&mut self, since: u64) -> Result<Events, NomadError> {
        let client = self.client.clone();
        let mut opening = Box::pin(client.allocation_events(since));
        let mut pause = AFTER_OPENING;
        loop {
            tokio::select! {
                opened = &mut opening => return match opened {
                    Ok(stream) => Ok(Events::On(Box::new(stream))),
                    // 404 before 1.0, 403 without read-job, 501 where it is switched off.
                    Err(NomadError::Answered { status, problem, .. })
                        if problem == Problem::Forbidden || status == 404 || status == 501 =>
                    {
                        warn!("Nomad gives us no event stream: asking often instead");
                        Ok(Events::Off)
                    }
                    // Nothing happened for longer than a heartbeat takes: a proxy may hold it back.
                    Err(error) => Err(error),
                },
                () = tokio::time::sleep(pause) => {
                    self.list(false).await?;
                    pause = SHORT_PERIOD;
                }
            }
        }
    }

    /// Passes on what comes, and lists now and then, until a gap or a failure. `since` is the last
    /// index that was seen.
    async fn watch(&mut self, events: Events, since: &mut u64) -> Result<(), NomadError> {
        let mut events = match events {
            Events::On(stream) => Some(stream),
            Events::Off => None,
        };
        let mut listed = Instant::now();
        if events.is_some() {
            self.list(false).await?;
        }
        loop {
            let period = match &events {
                None => POLL,
                Some(_) if self.board.has_unplaced() => SHORT_PERIOD,
                Some(_) => PERIOD,
            };
            let next = async {
                match &mut events {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            // Between two looks at what is on the board: a child that is new shortens the period.
            let due = period.min(SHORT_PERIOD);
            tokio::select! {
                batch = next => match batch {
                    Ok(Some(batch)) => {
                        // A server that was restored begins to count anew; one that is ahead of another
                        // after a failover repeats.
                        *since = batch.index.max(*since);
                        for allocation in &batch.allocations {
                            if self.prefixes.iter().any(|each| allocation.job_id.starts_with(each)) {
                                self.board.note(allocation);
                            }
                        }
                    }
                    Ok(None) => {
                        debug!("Nomad ended the event stream");
                        return Ok(());
                    }
                    Err(NomadError::Undecodable(_)) => {
                        debug!("Nomad dropped us from the event stream");
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                },
                () = tokio::time::sleep(due) => {}
            }
            if listed.elapsed() >= period {
                self.list(false).await?;
                listed = Instant::now();
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
        for prefix in &self.prefixes {
            // Those of the second are rare.
            if all || open.iter().any(|open| open.job_id.starts_with(prefix)) || self.failures > 0 {
                let answer = self.client.jobs(prefix).await?;
                index = index.min(answer.index);
                stubs.extend(answer.value.into_iter().map(|stub| (stub.id.clone(), stub)));
            }
        }
        self.back();
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
        Ok(index)
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
