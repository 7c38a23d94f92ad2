//! Has what Consul's key says act while the daemon runs.
//!
//! ```text
//!  watch_key ──> KeyState ──> LiveSettings ──> InForce ──> store, catalog, dispatcher
//! ```
//!
//! What a document means is decided in `config/live.rs`. A document that is refused changes nothing: what
//! held before it goes on to hold, as it does while Consul is away.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    backend::Backend,
    config::{InForce, LiveSettings, LiveSettingsError},
    consul::KeyState,
    dispatcher::InFlightCap,
    language::Catalog,
    lifecycle::TaskResult,
    store::Store,
};

/// What the settings act on.
pub(super) struct Levers {
    /// How many wait.
    pub(super) store: Store,
    /// What is offered, and how much of it may be asked for.
    pub(super) catalog: Catalog,
    /// How many are in flight.
    pub(super) in_flight: InFlightCap,
    /// How many there can be.
    pub(super) backend: Arc<dyn Backend>,
}

/// The settings of a running daemon, which follow what Consul says.
pub(super) struct Follower {
    key: String,
    receiver: watch::Receiver<KeyState>,
    levers: Levers,
    configured: InForce,
    in_force: InForce,
    refused: bool,
}

impl Follower {
    /// Has act what `key` holds now, if Consul says so before `patience` ends: so that nothing is taken
    /// meanwhile that the operator does not want. Else the daemon starts as it was configured.
    pub(super) async fn begin(
        key: &str,
        receiver: watch::Receiver<KeyState>,
        patience: Instant,
        levers: Levers,
    ) -> Follower {
        let configured = InForce::configured(levers.store.queue_limit());
        let mut follower = Follower {
            key: key.to_owned(),
            receiver,
            levers,
            in_force: configured.clone(),
            configured,
            refused: false,
        };
        let answer = follower.receiver.wait_for(|state| *state != KeyState::Unread);
        if tokio::time::timeout_at(patience, answer).await.is_err() {
            tracing::warn!(
                consul.key = key,
                "Consul has not said yet what the settings are; until it does, those that the daemon \
                 was started with hold"
            );
        }
        follower.look();
        follower
    }

    /// Has every change act, until `stopping` is cancelled.
    pub(super) async fn follow(mut self, stopping: CancellationToken) -> TaskResult {
        let changes = async {
            while self.receiver.changed().await.is_ok() {
                self.look();
            }
            // The watch is over, which is no reason to end: what it said last holds.
            std::future::pending::<()>().await;
        };
        stopping.run_until_cancelled_owned(changes).await;
        Ok(())
    }

    fn look(&mut self) {
        let state = self.receiver.borrow_and_update().clone();
        match next(&state, &self.configured, &self.levers.catalog) {
            None => {}
            Some(Ok(next)) => self.change_to(next),
            Some(Err(error)) => {
                self.refused = true;
                tracing::warn!(
                    consul.key = self.key,
                    "the settings in Consul are refused as a whole, and those before them hold: {error}"
                );
            }
        }
    }

    fn change_to(&mut self, next: InForce) {
        let changes = self.in_force.changes_to(&next);
        let Levers { store, catalog, in_flight, backend } = &self.levers;
        store.set_queue_limit(next.queue_limit);
        catalog.restrict(next.restrictions.clone());
        in_flight.set(next.slots.map_or(usize::MAX, |slots| slots as usize));
        let key = &self.key;
        if !changes.is_empty() {
            tracing::info!(consul.key = key, "settings changed: {}", changes.join("; "));
        } else if self.refused {
            tracing::info!(consul.key = key, "the settings in Consul can be used again");
        }
        let capacity = backend.capacity();
        if let Some(slots) = next.slots.filter(|_| next.slots != self.in_force.slots)
            && slots as usize > capacity
        {
            tracing::warn!(
                consul.key = key,
                backend = backend.name(),
                "slots is {slots}, but no more than the {capacity} that the backend takes are used"
            );
        }
        self.refused = false;
        self.in_force = next;
    }
}

/// What is to hold when the key is so; `None` while that is not known.
fn next(
    state: &KeyState,
    configured: &InForce,
    catalog: &Catalog,
) -> Option<Result<InForce, LiveSettingsError>> {
    let settings = match state {
        KeyState::Unread => return None,
        KeyState::Absent => Ok(LiveSettings::default()),
        KeyState::Value(bytes) => LiveSettings::parse(bytes),
    };
    let settings = settings.and_then(|settings| settings.resolve(catalog));
    Some(settings.map(|settings| settings.over(configured)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_key_means_what_was_configured_and_an_unread_one_nothing() {
        let catalog = Catalog::load(None).expect("sound");
        let configured = InForce::configured(5);
        let next = |state: KeyState| next(&state, &configured, &catalog);
        assert_eq!(next(KeyState::Unread), None);
        assert_eq!(next(KeyState::Absent), Some(Ok(configured.clone())));
        let value = |text: &'static str| KeyState::Value(text.as_bytes().into());
        let limited = InForce { queue_limit: 3, ..configured.clone() };
        assert_eq!(next(value("queue_limit = 3")), Some(Ok(limited)));
        assert!(
            next(value("queue_limit = 3\nlanguages.cobol = true")).is_some_and(|is| is.is_err())
        );
    }
}
