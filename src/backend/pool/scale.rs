//! Has Nomad start more workers when the queue grows: dispatches leases of a job that an operator
//! registered, and lets them run out when there is nothing to do.
//!
//! ```text
//!  demand ──┐                      (a look a second)
//!  members ─┼─> children.rs ─> Sight ─> decision.rs ─> dispatches, one by one, each counted after
//!  Nomad ───┘                                              └── the last ones beyond the most are taken back
//! ```
//!
//! Nothing is kept on disk: how many there are is what Nomad lists, which is the same for every daemon
//! and after every restart.

mod children;
mod decision;
mod pace;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

pub use self::decision::Bounds;
use self::{
    children::{Census, Children, META_SECONDS, News},
    decision::{Sight, Why, decide},
    pace::Pace,
};
use super::{Member, PoolBackend, leases::Leases};
use crate::{
    error_chain::error_chain,
    nomad::{Client, NomadError},
    submission::Clock,
    worker::WorkerClient,
};

/// How often the queue is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often Nomad is asked while nothing waits, comes or ends.
const ASK_AT_REST: Duration = Duration::from_secs(10);

/// For so long after the last work a lease that ends is still followed by another.
const AT_WORK: Duration = Duration::from_secs(30);

/// The wait after Nomad did not do as it was asked, or after a lease whose worker never came; doubled
/// each time in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest such wait.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A dispatch whose answer was lost is listed by then, if it was carried out.
const SETTLES_IN: Duration = Duration::from_secs(20);

/// How leased workers are had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSettings {
    /// The parameterized job that a lease is a dispatch of.
    pub job: String,
    /// How many there may be.
    pub bounds: Bounds,
    /// How long a lease is.
    pub lease: Duration,
    /// The name of this installation, for Nomad to know a dispatch by that is sent again.
    pub instance: String,
}

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// Submissions that wait for an attempt.
    pub waiting: u64,
    /// Attempts that run, wherever.
    pub running: u64,
    /// Submissions that ended in the last minute.
    pub ended_last_minute: u64,
    /// Slots of other places that attempts go to as well.
    pub slots_elsewhere: usize,
}

/// Leased workers, for whoever counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScaleFigures {
    /// That there should be.
    pub wanted: usize,
    /// That are there.
    pub present: usize,
    /// Whose leases were dispatched, and that are not there yet.
    pub coming: usize,
}

/// Tells what is asked of the daemon; none when that cannot be told now.
pub type Asking = Box<dyn Fn() -> BoxFuture<'static, Option<Demand>> + Send + Sync>;

/// Scales a pool. One task runs it.
#[derive(Debug)]
pub struct Scaler {
    nomad: Client,
    settings: ScaleSettings,
    clock: Arc<dyn Clock>,
    workers: WorkerClient,
    members: watch::Receiver<Vec<Member>>,
    leases: Arc<Leases>,
    remedy: watch::Sender<Option<String>>,
    children: Children,
    pace: Pace,
    /// Slots of a leased worker, as last seen.
    slots_each: Option<usize>,
    worked_at: Option<Instant>,
    asked_at: Option<Instant>,
    /// What went wrong last, to say it once.
    trouble: Option<String>,
    /// How often in a row something did.
    failures: u32,
    /// Nothing is dispatched before.
    not_before: Option<Instant>,
    dispatches: u64,
    last: Census,
    said_full: bool,
}

impl PoolBackend {
    /// What scales this pool with workers of that Nomad. They have to be found as the others are.
    pub fn scaler(&self, nomad: Client, settings: ScaleSettings, clock: impl Clock) -> Scaler {
        Scaler {
            nomad,
            clock: Arc::new(clock),
            workers: self.client.clone(),
            members: self.members.clone(),
            leases: self.leases.clone(),
            remedy: self.remedy.clone(),
            children: Children::of(&settings.job),
            settings,
            pace: Pace::default(),
            slots_each: None,
            worked_at: None,
            asked_at: None,
            trouble: None,
            failures: 0,
            not_before: None,
            dispatches: 0,
            last: Census::default(),
            said_full: false,
        }
    }
}

impl Scaler {
    /// Works until dropped.
    pub async fn run(mut self, asking: Asking, figures: impl Fn(ScaleFigures) + Send) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let Some(demand) = asking().await else { continue };
            if self.rests(demand) {
                continue;
            }
            match self.look(demand).await {
                Ok(now) => figures(now),
                Err(error) => self.in_trouble(&error),
            }
        }
    }

    /// Whether there is no reason to ask Nomad yet.
    fn rests(&self, demand: Demand) -> bool {
        if self.trouble.is_some() {
            return self.not_before.is_some_and(|until| Instant::now() < until);
        }
        let is_still = demand.waiting == 0 && self.last.coming + self.last.ending == 0;
        // Often enough to see a lease end before it does.
        let rest = ASK_AT_REST.min(self.settings.lease / 8);
        is_still && self.asked_at.is_some_and(|at| at.elapsed() < rest)
    }

    async fn look(&mut self, demand: Demand) -> Result<ScaleFigures, NomadError> {
        let now = Instant::now();
        let each = self.pace.each(demand.running, demand.ended_last_minute, now);
        let live = self.children.list(&self.nomad, self.clock.now(), self.settings.lease).await?;
        self.asked_at = Some(now);
        let members = self.members.borrow().clone();
        let (census, news) = self.children.count(&live, &members, Instant::now());
        self.last = census;
        self.tell(&news);
        self.slots_each = census.slots_each.or(self.slots_each);
        let busy = self.busy(&members, demand).await;
        if demand.waiting > 0 || busy > 0 {
            self.worked_at = Some(now);
        }
        let sight = Sight {
            waiting: demand.waiting as usize,
            busy,
            each,
            at_work: self.worked_at.is_some_and(|at| at.elapsed() < AT_WORK),
            slots: census.slots.saturating_add(demand.slots_elsewhere),
            slots_each: self.slots_each,
            staying: census.staying,
            ending: census.ending,
            coming: census.coming,
            given_up: census.given_up,
        };
        let decision = decide(&sight, self.settings.bounds);
        self.tell_of_the_bound(&sight, decision.wanted);
        let waits = self.not_before.is_some_and(|until| Instant::now() < until);
        let mut dispatched = 0;
        if decision.dispatch > 0 && !waits {
            info!(
                nomad.job = self.settings.job,
                dispatch = decision.dispatch,
                wanted = decision.wanted,
                why = why(decision.why),
                waiting = sight.waiting,
                busy,
                slots = sight.slots,
                present = sight.staying,
                ending = sight.ending,
                coming = sight.coming,
                each_ms = each.as_millis() as u64,
                clears_in_ms = decision.clears_in.map(|time| time.as_millis() as u64),
                "dispatching leases of workers"
            );
            for _ in 0..decision.dispatch {
                if !self.dispatch().await? {
                    break;
                }
                dispatched += 1;
            }
        }
        if !waits {
            // All that was asked for was done.
            if self.trouble.take().is_some() {
                info!(nomad.job = self.settings.job, "workers can be dispatched again");
            }
            let remedy = match (census.coming + dispatched, census.given_up) {
                (0, 0) => None,
                (0, late) => Some(format!("Nomad has been asked for {late}, which do not come")),
                (coming, _) => Some(format!("Nomad has been asked for {coming}, on the way")),
            };
            self.remedy.send_replace(remedy);
        }
        self.last.coming += dispatched;
        let (wanted, present) = (decision.wanted, census.staying + census.ending);
        Ok(ScaleFigures { wanted, present, coming: self.last.coming })
    }

    /// Slots in use: as the workers say while it matters, since other daemons may use them too; and those
    /// of other places.
    async fn busy(&self, members: &[Member], demand: Demand) -> usize {
        let ours: Vec<_> = members.iter().map(|member| self.leases.load(&member.id)).collect();
        let here: usize = ours.iter().sum();
        let elsewhere = (demand.running as usize).saturating_sub(here).min(demand.slots_elsewhere);
        if demand.waiting == 0 {
            return here + elsewhere;
        }
        let asked = join_all(members.iter().map(|member| self.workers.facts(&member.url))).await;
        let busy = asked.into_iter().zip(ours);
        let busy = busy.map(|(facts, ours)| facts.map_or(ours, |facts| facts.busy));
        busy.sum::<usize>() + elsewhere
    }

    /// Dispatches one lease, then counts: of several daemons that do so at once, the one whose lease is
    /// beyond the most takes it back. Whether another may follow.
    async fn dispatch(&mut self) -> Result<bool, NomadError> {
        let ScaleSettings { job, bounds, lease, instance } = self.settings.clone();
        self.dispatches += 1;
        let token = format!("{instance}-{}-{}", self.clock.now().as_millis(), self.dispatches);
        let meta = BTreeMap::from([(META_SECONDS, lease.as_secs().to_string())]);
        let id = match self.nomad.dispatch(&job, &[], &meta, Some(&token)).await {
            Ok(dispatched) => dispatched.job_id,
            Err(error) => {
                if !error.nothing_was_done() {
                    // It counts when it is listed; until it would be, there is no other.
                    self.not_before = Some(Instant::now() + SETTLES_IN);
                }
                return Err(error);
            }
        };
        self.children.add(&id, lease, Instant::now());
        let live = self.children.list(&self.nomad, self.clock.now(), lease).await?;
        let rank = live.iter().position(|stub| stub.id == id);
        if rank.is_none_or(|rank| rank < bounds.max) {
            debug!(nomad.job_id = id, lease_seconds = lease.as_secs(), "a lease was dispatched");
            return Ok(true);
        }
        info!(
            nomad.job_id = id,
            live = live.len(),
            max = bounds.max,
            "taking back a lease: another daemon was faster"
        );
        self.children.forget(&id);
        self.nomad.purge(&id).await?;
        Ok(false)
    }

    fn tell(&mut self, news: &News) {
        for id in &news.came {
            info!(nomad.job_id = id, "a leased worker is there");
            self.failures = 0;
        }
        for id in &news.late {
            warn!(
                nomad.job_id = id,
                "a lease is given up: its worker did not come in time. It counts in the bound as long as \
                 Nomad has it"
            );
        }
        for id in &news.failed {
            warn!(nomad.job_id = id, "a lease is over, and its worker was never there");
        }
        if !news.failed.is_empty() {
            self.pause();
            let remedy = "those that are dispatched end before they are there";
            self.remedy.send_replace(Some(remedy.to_owned()));
        }
    }

    fn tell_of_the_bound(&mut self, sight: &Sight, wanted: usize) {
        let max = self.settings.bounds.max;
        let is_full = sight.waiting > 0 && wanted >= max && sight.live() >= max;
        if is_full && !self.said_full {
            info!(max, waiting = sight.waiting, "there are as many leased workers as may be");
        }
        self.said_full = is_full;
    }

    fn in_trouble(&mut self, error: &NomadError) {
        let reason = error.public();
        if self.trouble.as_ref() != Some(&reason) {
            let cause = error_chain(error);
            warn!(
                nomad.job = self.settings.job,
                reason = cause,
                "workers cannot be dispatched; trying again"
            );
        }
        self.remedy.send_replace(Some(format!("none can be dispatched, since {reason}")));
        self.trouble = Some(reason);
        self.pause();
    }

    /// Later and later, as long as nothing goes well.
    fn pause(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let until = Instant::now() + pause;
        self.not_before = Some(self.not_before.map_or(until, |other| other.max(until)));
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Enough => "nothing",
        Why::Minimum => "the minimum",
        Why::Renewal => "leases end while there is work",
        Why::Queue => "the queue takes too long",
    }
}
