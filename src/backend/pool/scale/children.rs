//! The leases that were dispatched and are not over, as Nomad lists them, and what their workers do.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{
    backend::pool::Member,
    nomad::{Client, JobStub, NomadError, child_prefix},
    submission::Timestamp,
    worker::RELEASE,
};

/// Meta of a lease: how long it is.
pub(super) const META_SECONDS: &str = "seconds";

/// How long a worker may take to come, from its dispatch to its name in Consul: 2 s on a free node, more
/// where an artifact or a check is slow. Then its lease is given up, though it may come yet.
const COMES_WITHIN: Duration = Duration::from_secs(60);

/// How long before the end of a lease its worker counts no more; a quarter of the lease where that is
/// less. Long enough for another to come.
const ENDS_SOON: Duration = Duration::from_secs(30);

/// The leases of one job.
#[derive(Debug)]
pub(super) struct Children {
    job: String,
    known: HashMap<String, Child>,
}

#[derive(Debug, Clone)]
struct Child {
    /// When it was dispatched.
    begun: Instant,
    lease: Duration,
    /// Whether its worker has been seen.
    came: bool,
    /// Whether it was dispatched by this process.
    is_ours: bool,
    is_given_up: bool,
}

/// How many leases there are, by how they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) staying: usize,
    pub(super) ending: usize,
    pub(super) coming: usize,
    pub(super) given_up: usize,
    /// Slots of all workers that stay, those included that nobody leased.
    pub(super) slots: usize,
    /// Slots of a leased worker, where one is there.
    pub(super) slots_each: Option<usize>,
}

/// What has become of leases since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Their workers have come.
    pub(super) came: Vec<String>,
    /// Their workers did not come in time.
    pub(super) late: Vec<String>,
    /// Of this process; they are over, and no worker of theirs was ever there.
    pub(super) failed: Vec<String>,
}

impl Children {
    pub(super) fn of(job: &str) -> Children {
        Children { job: job.to_owned(), known: HashMap::new() }
    }

    /// Takes note of a lease that was just dispatched.
    pub(super) fn add(&mut self, id: &str, lease: Duration, now: Instant) {
        let child = Child { begun: now, lease, came: false, is_ours: true, is_given_up: false };
        self.known.insert(id.to_owned(), child);
    }

    /// One that was taken back.
    pub(super) fn forget(&mut self, id: &str) {
        self.known.remove(id);
    }

    /// Those that are not over, by the raft index of their making; asks Nomad, and for the length of
    /// those that are new here.
    pub(super) async fn list(
        &mut self,
        client: &Client,
        at: Timestamp,
        default: Duration,
    ) -> Result<Vec<JobStub>, NomadError> {
        let mut live = client.jobs(&child_prefix(&self.job)).await?.value;
        live.retain(|stub| !stub.is_dead());
        live.sort_by(|one, other| {
            (one.create_index, &one.id).cmp(&(other.create_index, &other.id))
        });
        for stub in &live {
            if self.known.contains_key(&stub.id) {
                continue;
            }
            let job = client.job(&stub.id).await?;
            let seconds = job.and_then(|job| job.meta.get(META_SECONDS)?.parse().ok());
            let lease = seconds.map_or(default, Duration::from_secs);
            let sent = Timestamp::from_millis((stub.submit_time / 1_000_000) as i64);
            let now = Instant::now();
            let begun = now.checked_sub(at.since(sent)).unwrap_or(now);
            let child = Child { begun, lease, came: false, is_ours: false, is_given_up: false };
            if stub.status == "pending" && client.evaluations(&stub.id).await?.is_empty() {
                // Before 1.10.5 a server that fails between the two writes of a dispatch leaves a child
                // that is never scheduled, and would count for ever.
                client.evaluate(&stub.id).await?;
            }
            self.known.insert(stub.id.clone(), child);
        }
        Ok(live)
    }

    /// How those that are not over stand with these workers. Forgets those that are over.
    pub(super) fn count(
        &mut self,
        live: &[JobStub],
        members: &[Member],
        now: Instant,
    ) -> (Census, News) {
        let (mut census, mut news) = (Census::default(), News::default());
        let usable = || members.iter().filter(|member| member.release == RELEASE);
        let worker_of = |id: &str| usable().find(|member| member.job.as_deref() == Some(id));
        let is_live = |id: &String| live.iter().any(|stub| stub.id == *id);
        self.known.retain(|id, child| {
            let stays = is_live(id);
            if !stays && child.is_ours && !child.came && worker_of(id).is_none() {
                news.failed.push(id.clone());
            }
            stays
        });
        let mut ends = Vec::new();
        for (id, child) in &mut self.known {
            let age = now.saturating_duration_since(child.begun);
            match worker_of(id) {
                Some(worker) => {
                    if !std::mem::replace(&mut child.came, true) {
                        news.came.push(id.clone());
                    }
                    census.slots_each = census.slots_each.max(Some(worker.slots));
                    if age + ENDS_SOON.min(child.lease / 4) >= child.lease {
                        census.ending += 1;
                        ends.push(id.clone());
                    } else {
                        census.staying += 1;
                    }
                }
                None if child.came || age >= child.lease => census.ending += 1,
                None if age < COMES_WITHIN => census.coming += 1,
                None => {
                    census.given_up += 1;
                    if !std::mem::replace(&mut child.is_given_up, true) {
                        news.late.push(id.clone());
                    }
                }
            }
        }
        let prefix = child_prefix(&self.job);
        let stays = |member: &&Member| match &member.job {
            // Of a lease that is over, Consul has yet to hear.
            Some(job) if job.starts_with(&prefix) => {
                self.known.contains_key(job) && !ends.contains(job)
            }
            _ => true,
        };
        census.slots = usable().filter(stays).map(|member| member.slots).sum();
        (census, news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(600);

    fn stub(id: &str) -> JobStub {
        JobStub {
            id: format!("w/dispatch-{id}"),
            status: "running".to_owned(),
            ..JobStub::default()
        }
    }

    fn member(job: Option<&str>, slots: usize) -> Member {
        Member {
            id: job.unwrap_or("system").to_owned(),
            name: String::new(),
            url: "http://127.0.0.1:1".parse().unwrap(),
            release: RELEASE.to_owned(),
            slots,
            languages: Vec::new(),
            job: job.map(|job| format!("w/dispatch-{job}")),
        }
    }

    #[test]
    fn a_lease_comes_stays_ends_and_is_over() {
        let (mut children, begun) = (Children::of("w"), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        children.add("w/dispatch-a", LEASE, begun);
        let (there, live) = ([member(Some("a"), 2), member(None, 3)], [stub("a")]);
        let (census, news) = children.count(&live, &there[1..], at(1));
        assert_eq!((census.coming, census.slots, census.slots_each), (1, 3, None));
        assert_eq!(news, News::default());
        let (census, news) = children.count(&live, &there, at(2));
        assert_eq!((census.staying, census.slots, census.slots_each), (1, 5, Some(2)));
        assert_eq!(news.came, ["w/dispatch-a"]);
        let (census, news) = children.count(&live, &there, at(571));
        assert_eq!((census.staying, census.ending, census.slots), (0, 1, 3));
        assert_eq!(news, News::default());
        // It has left Consul and finishes what it runs.
        let (census, _) = children.count(&live, &there[1..], at(601));
        assert_eq!((census.ending, census.given_up), (1, 0));
        let (census, news) = children.count(&[], &there, at(602));
        assert_eq!((census, news.failed), (Census { slots: 3, ..Census::default() }, Vec::new()));
    }

    #[test]
    fn one_that_does_not_come_is_given_up_once_and_one_that_ends_before_has_failed() {
        let (mut children, begun) = (Children::of("w"), Instant::now());
        for id in ["w/dispatch-a", "w/dispatch-b"] {
            children.add(id, LEASE, begun);
        }
        let live = [stub("a"), stub("b")];
        let (census, news) = children.count(&live, &[], begun + COMES_WITHIN);
        assert_eq!((census.given_up, census.coming), (2, 0));
        assert_eq!(news.late.len(), 2);
        let (census, news) = children.count(&live[..1], &[], begun + COMES_WITHIN);
        assert_eq!((census.given_up, news.late.len()), (1, 0));
        assert_eq!(news.failed, ["w/dispatch-b"]);
        let (census, news) =
            children.count(&live[..1], &[member(Some("a"), 1)], begun + COMES_WITHIN);
        assert_eq!((census.staying, news.came.len()), (1, 1), "late is better than never");
    }

    #[test]
    fn a_worker_of_another_release_is_none() {
        let (mut children, now) = (Children::of("w"), Instant::now());
        children.add("w/dispatch-a", LEASE, now);
        let old = Member { release: "0.0.1/1".to_owned(), ..member(Some("a"), 2) };
        assert_eq!(children.count(&[stub("a")], &[old], now).0.coming, 1);
    }
}
