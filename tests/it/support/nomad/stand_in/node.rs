//! A client of Nomad: takes the allocations of its node, runs them, and reports every 200 ms.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use super::{cluster::Cluster, records::Allocation, run::Run, scheduler, stamps};

/// Nomad's `allocSyncIntv`: ends are seen this late, and `running` often never.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) name: String,
    /// `HOST:PORT` of its agent.
    pub(super) http: Mutex<String>,
    /// Whether its agent is there.
    pub(super) up: AtomicBool,
    dir: PathBuf,
    runs: Mutex<BTreeMap<String, Arc<Run>>>,
}

impl Node {
    pub(super) fn new(name: String, dir: PathBuf) -> Arc<Node> {
        Arc::new(Node {
            id: stamps::uuid(),
            name,
            http: Mutex::default(),
            up: AtomicBool::new(false),
            dir,
            runs: Mutex::default(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Run>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn run(&self, allocation: &str) -> Option<Arc<Run>> {
        self.runs().get(allocation).cloned()
    }

    /// Its agent, until it is dropped. What runs goes on without it.
    pub(super) async fn live(self: Arc<Self>, cluster: Arc<Cluster>) {
        let mut changes = cluster.changes();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ticked = tokio::select! {
                _ = ticks.tick() => true,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    false
                }
            };
            if !cluster.server_is_up() {
                continue;
            }
            changes.borrow_and_update();
            if ticked {
                cluster.hear(&self);
                self.report(&cluster);
            }
            self.take_up(&cluster);
        }
    }

    /// Starts what is new here, and stops what is to stop.
    fn take_up(&self, cluster: &Cluster) {
        let known = self.runs().clone();
        let (fresh, unwanted) = cluster.read(|tables| {
            let mut fresh = Vec::new();
            let mut unwanted = Vec::new();
            for each in tables.allocations.values().filter(|each| each.node_id == self.id) {
                match known.get(&each.id) {
                    None if !each.is_over() => fresh.push(each.clone()),
                    Some(run) if each.is_done() && !run.stop.is_cancelled() => {
                        unwanted.push(run.clone());
                    }
                    _ => {}
                }
            }
            (fresh, unwanted)
        });
        for run in unwanted.into_iter().filter(|run| !run.is_over()) {
            run.stop.cancel();
        }
        for allocation in fresh {
            self.start(allocation, cluster);
        }
        self.collect(cluster.switches.kept_allocations.load(Ordering::SeqCst));
    }

    fn start(&self, allocation: Allocation, cluster: &Cluster) {
        let (id, wanted) = (allocation.id.clone(), allocation.wanted);
        let run = Run::start(allocation, self.dir.join(&id), &cluster.running);
        if !wanted {
            run.stop.cancel();
        }
        self.runs().insert(id, run);
    }

    /// With more folders than Nomad's `gc_max_allocs`, the oldest allocations that are over lose
    /// theirs, and so their logs.
    fn collect(&self, kept: usize) {
        let runs = self.runs();
        let mut with_folder: Vec<_> = runs.values().filter(|run| run.dir.exists()).collect();
        with_folder.sort_by_key(|run| run.allocation.create_index);
        let many = with_folder.len().saturating_sub(kept);
        for run in with_folder.into_iter().filter(|run| run.is_told()).take(many) {
            let _ = std::fs::remove_dir_all(&run.dir);
        }
    }

    /// Tells the server what changed since the last time, all at once.
    fn report(&self, cluster: &Cluster) {
        let runs: Vec<_> = self.runs().values().cloned().collect();
        let reports: Vec<_> = runs.iter().filter_map(|run| run.report()).collect();
        if reports.is_empty() {
            return;
        }
        if !cluster.switches.leader.load(Ordering::SeqCst) {
            for report in &reports {
                runs.iter().filter(|run| run.allocation.id == report.id).for_each(|run| {
                    run.tell_again();
                });
            }
            return;
        }
        let freed = cluster.commit("AllocationUpdated", |change| {
            let mut freed = false;
            for report in reports {
                let Some(known) = change.tables.allocations.get(&report.id) else { continue };
                let mut allocation = known.clone();
                allocation.tasks = Some(report.tasks);
                if allocation.client_status != "lost" {
                    allocation.client_status = report.status;
                    allocation.client_description = report.description;
                }
                freed |= allocation.is_over();
                change.allocation(allocation);
            }
            freed
        });
        if freed {
            scheduler::unblock(cluster);
        }
    }

    /// Ends and forgets all of which the server does not know the end: what a node does that asks
    /// a server too early what it is to run. It is told later, and runs it again, in the same
    /// folders.
    pub(super) async fn give_up(&self) {
        let untold: Vec<_> = self.runs().values().filter(|run| !run.is_told()).cloned().collect();
        for run in untold {
            run.at_once.cancel();
            run.stop.cancel();
            run.over().await;
            self.runs().remove(&run.allocation.id);
        }
    }

    /// Kills all that runs here, as when its machine dies, or at the end of a test.
    pub(super) fn stop_all(&self) {
        for run in self.runs().values() {
            run.at_once.cancel();
            run.stop.cancel();
        }
    }
}
