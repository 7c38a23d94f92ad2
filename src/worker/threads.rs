//! Threads that do nothing but attend to programs.
//!
//! Whoever reads a program's pipes late has it wait, and what it waits counts as its wall time. So
//! its readers do not take turns with whatever else the daemon does, however busy clients keep that.

use std::{future::Future, io};

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::TaskTracker;

/// Threads of their own. They end when this is dropped, wherever that is.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// As many as the machine has processors.
    pub(super) fn start() -> io::Result<Threads> {
        let runtime = Builder::new_multi_thread().thread_name("programs").enable_all().build()?;
        Ok(Threads(Some(runtime)))
    }

    /// Runs a task on them, and has `tasks` know of it.
    pub(super) fn spawn(
        &self,
        tasks: &TaskTracker,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        tasks.spawn_on(task, runtime.handle());
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // To wait for them, as dropping does, is not allowed on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}
