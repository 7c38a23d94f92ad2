//! Who has which slot: a lease for each run, from before it begins until nothing of it is left.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::protocol::Input;

/// The leases of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What the names of leases begin with.
    worker: String,
    most: usize,
    next: AtomicU64,
    held: Mutex<HashMap<String, Held>>,
    /// How many are held.
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct Held {
    ends: Ends,
    /// Where its program is talked to, and nobody does yet.
    input: Option<mpsc::Sender<Input>>,
}

/// How a lease ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    /// Cancelled when the run is to end.
    pub(super) wanted: CancellationToken,
    /// Cancelled when nothing of it is left.
    pub(super) over: CancellationToken,
}

/// The right to a slot; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) name: String,
    pub(super) ends: Ends,
    leases: Leases,
}

impl Leases {
    /// Of a worker of this name with so many slots.
    pub(super) fn new(worker: &str, most: usize) -> Leases {
        Leases(Arc::new(Inner {
            worker: worker.to_owned(),
            most,
            next: AtomicU64::new(0),
            held: Mutex::default(),
            count: watch::Sender::new(0),
        }))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease, unless all slots are taken.
    pub(super) fn take(&self) -> Option<Lease> {
        let mut held = self.held();
        if held.len() >= self.0.most {
            return None;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (name, ends) = (format!("{}-{number}", self.0.worker), Ends::default());
        held.insert(name.clone(), Held { ends: ends.clone(), input: None });
        self.0.count.send_replace(held.len());
        Some(Lease { name, ends, leases: self.clone() })
    }

    /// How the lease of this name ends, if it is held.
    pub(super) fn find(&self, name: &str) -> Option<Ends> {
        Some(self.held().get(name)?.ends.clone())
    }

    /// Keeps the input of a lease's program open until somebody sends some.
    pub(super) fn keep_input(&self, lease: &Lease, input: mpsc::Sender<Input>) {
        if let Some(held) = self.held().get_mut(&lease.name) {
            held.input = Some(input);
        }
    }

    /// The input of the program of the lease of this name, once.
    pub(super) fn take_input(&self, name: &str) -> Option<(mpsc::Sender<Input>, Ends)> {
        let mut held = self.held();
        let held = held.get_mut(name)?;
        Some((held.input.take()?, held.ends.clone()))
    }

    /// How many are held.
    pub(super) fn count(&self) -> usize {
        self.held().len()
    }

    /// Waits until none is held.
    pub(super) async fn all_are_over(&self) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as we do.
        let _ = count.wait_for(|count| *count == 0).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        held.remove(&self.name);
        self.leases.0.count.send_replace(held.len());
        drop(held);
        self.ends.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_as_many_leases_as_slots_and_each_has_a_name_of_its_own() {
        let leases = Leases::new("w", 2);
        let (one, two) = (leases.take().unwrap(), leases.take().unwrap());
        assert_ne!(one.name, two.name);
        assert!(leases.take().is_none());
        let ends = leases.find(&one.name).unwrap();
        assert!(!ends.over.is_cancelled());
        let name = one.name.clone();
        drop(one);
        assert!(ends.over.is_cancelled() && leases.find(&name).is_none());
        let three = leases.take().unwrap();
        assert_ne!(three.name, name);
        drop((two, three));
        leases.all_are_over().await;
        assert_eq!(leases.count(), 0);
    }
}
