//! No place at all: what stands in for the local backend on a machine that cannot run jails, so that
//! the daemon can say so, and keeps what was accepted before.

use std::sync::Arc;

use futures_util::future::{BoxFuture, ready};

use super::{Backend, BackendError, Execution, Layer, StartError, Worker, local};
use crate::{protocol::ExecutionRequest, sandbox::FLOOR, submission::Placement};

/// Runs nothing, and says why.
#[derive(Debug, Clone)]
pub struct AbsentBackend {
    reason: String,
}

impl AbsentBackend {
    /// A backend that runs nothing for this reason, which names the remedy.
    pub fn new(reason: String) -> Self {
        AbsentBackend { reason }
    }
}

impl Backend for AbsentBackend {
    fn name(&self) -> &'static str {
        "local"
    }

    /// One, so that whoever waits is told what for.
    fn capacity(&self) -> usize {
        1
    }

    fn start(&self, _: Arc<ExecutionRequest>) -> BoxFuture<'_, Result<Execution, StartError>> {
        Box::pin(ready(Err(StartError::Unavailable(self.reason.clone()))))
    }

    /// What ran in this machine's slots ended with the process that had them.
    fn recover(
        &self,
        _: Arc<ExecutionRequest>,
        _: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        Box::pin(ready(Ok(None)))
    }

    fn release(&self, _: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(ready(Ok(())))
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(ready(Err(BackendError(self.reason.clone()))))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        let worker = Worker {
            id: "local".to_owned(),
            kind: "local",
            name: local::machine_name(),
            healthy: false,
            slots: Some(0),
            busy: Some(0),
            languages: None,
            layers: vec![Layer {
                name: FLOOR.to_owned(),
                active: false,
                detail: self.reason.clone(),
            }],
        };
        Box::pin(ready(Ok(vec![worker])))
    }
}
