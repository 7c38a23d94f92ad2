//! Executions that outlive this process.

use std::sync::Mutex;

use crate::backend::Execution;

/// Executions in flight when the process ends. Dropping one tells its backend to end the program,
/// so they are kept until the process is gone: what runs elsewhere goes on, and the next process
/// takes it up again.
#[derive(Debug, Default)]
pub(super) struct Parked {
    executions: Mutex<Vec<Execution>>,
}

impl Parked {
    pub(super) fn keep(&self, execution: Execution) {
        self.executions.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(execution);
    }
}
