//! The dispatcher's numbers.

use std::time::Duration;

use tokio::sync::watch;

/// How the dispatcher is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Attempts in flight at the most, however many the backend would take. Default: no cap.
    pub max_in_flight: InFlightCap,
    /// How long a submission may wait for an attempt to begin. Default 1 h.
    pub queue_timeout: Duration,
    /// Lost attempts that end a submission. Default 3.
    pub max_lost_attempts: usize,
    /// Restarts of the daemon under its attempts that end a submission. Default 10.
    pub max_restarts: u32,
    /// What an attempt may take beyond the sum of its own limits. Default 60 s: enough for a slow
    /// node to build its sandboxes, short enough that a hung one is noticed.
    pub deadline_margin: Duration,
    /// How long nobody may be attached to a program that is talked to before its input ends. Default 30 s.
    pub unattached: Duration,
    /// The first wait after a start found the backend away; doubled each time. Default 500 ms.
    pub backoff_first: Duration,
    /// The longest such wait. Default 30 s.
    pub backoff_longest: Duration,
    /// How often leftover placements and expired keys are looked for. Default 30 s.
    pub reap_every: Duration,
    /// How often submissions that waited too long are looked for. Default 5 s.
    pub sweep_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_in_flight: InFlightCap::default(),
            queue_timeout: Duration::from_hours(1),
            max_lost_attempts: 3,
            max_restarts: 10,
            deadline_margin: Duration::from_secs(60),
            unattached: Duration::from_secs(30),
            backoff_first: Duration::from_millis(500),
            backoff_longest: Duration::from_secs(30),
            reap_every: Duration::from_secs(30),
            sweep_every: Duration::from_secs(5),
        }
    }
}

/// How many attempts may be in flight at the most. It may change while the dispatcher runs: one that
/// is lowered ends nothing, and one that is raised is used at once. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct InFlightCap {
    most: watch::Sender<usize>,
}

impl InFlightCap {
    /// A cap of so many.
    pub fn new(most: usize) -> InFlightCap {
        InFlightCap { most: watch::Sender::new(most) }
    }

    /// How many there may be now.
    pub fn get(&self) -> usize {
        *self.most.borrow()
    }

    /// Has so many be in flight at the most from now on.
    pub fn set(&self, most: usize) {
        self.most.send_if_modified(|now| std::mem::replace(now, most) != most);
    }

    /// Told of changes.
    pub(super) fn changes(&self) -> watch::Receiver<usize> {
        self.most.subscribe()
    }
}

impl Default for InFlightCap {
    /// No cap: as many as the backend takes.
    fn default() -> Self {
        InFlightCap::new(usize::MAX)
    }
}
