//! The backend that runs attempts in this daemon, in the slots of this machine.

use std::{io, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;

use super::{Backend, BackendError, EVENT_CHANNEL, Execution, StartError, Worker};
use crate::{
    protocol::ExecutionRequest,
    runner::Runner,
    submission::Placement,
    worker::{NoSlot, Slots},
};

/// Runs attempts on this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    slots: Slots,
}

impl LocalBackend {
    /// A backend over `runner`, whose sandbox has `slots` slots.
    ///
    /// # Errors
    /// No threads can be started.
    pub fn new(runner: Runner, slots: usize) -> io::Result<Self> {
        Ok(LocalBackend { slots: Slots::new(runner, slots)? })
    }

    /// See [`Slots::demand`].
    pub fn demand(&self) -> watch::Receiver<usize> {
        self.slots.demand()
    }

    /// Ends every attempt and waits until nothing of them is left. Later starts are refused.
    pub async fn shut_down(&self) {
        self.slots.shut_down().await;
    }
}

/// What this machine calls itself.
pub(super) fn machine_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "local".to_owned(), |name| name.to_string_lossy().into_owned())
}

impl Backend for LocalBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    fn outlasts_the_machine(&self) -> bool {
        false
    }

    fn is_free_when_finished(&self, _placement: &Placement) -> bool {
        true
    }

    fn capacity(&self) -> usize {
        self.slots.count()
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        async move {
            let run = self.slots.start(request, EVENT_CHANNEL).await.map_err(|no| match no {
                NoSlot::NoRoom(reason) => StartError::Unavailable(reason),
                NoSlot::ShuttingDown => {
                    StartError::Unavailable("the daemon is shutting down".to_owned())
                }
            })?;
            Ok(Execution { placement: Placement::Local, events: run.events, input: run.input })
        }
        .boxed()
    }

    /// What an earlier process ran ended with it.
    fn recover(
        &self,
        _request: Arc<ExecutionRequest>,
        _placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        async { Ok(None) }.boxed()
    }

    /// A local placement has no identity, and needs none: an attempt whose events nobody reads is
    /// on its way out, and this waits for all of those.
    fn release(&self, _placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        async move {
            self.slots.unread_are_over().await;
            Ok(())
        }
        .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        async move { self.slots.check_room().map_err(BackendError) }.boxed()
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        async move {
            Ok(vec![Worker {
                id: "local".to_owned(),
                kind: "local",
                name: machine_name(),
                healthy: !self.slots.is_shut_down(),
                slots: Some(self.slots.count()),
                busy: Some(self.slots.busy()),
                // The catalog has them.
                languages: None,
                layers: self.slots.layers(),
            }])
        }
        .boxed()
    }
}
