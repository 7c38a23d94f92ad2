//! Where a runner's events go: stdout, a second copy, and for the last a call to the daemon.

use std::{
    fs::File as PlainFile,
    io::{ErrorKind, Write as _},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use tokio::{fs::File, io::AsyncWriteExt as _};
use tracing::warn;

use super::call::call;
use crate::protocol::{Event, EventKind, lines};

/// Where the second copy is, in the allocation's folder.
const COPY: &str = "data/events.jsonl";

/// Stdout, and the second copy where there is a place for one.
pub(super) struct EventOutput {
    stdout: File,
    copy: Option<PlainFile>,
    /// Where to call after the last.
    daemon: Option<String>,
}

impl EventOutput {
    /// Takes the allocation, if there is one, for this runner alone.
    ///
    /// # Errors
    /// There is no standard output; or a runner was here before. An agent that is killed and does not
    /// find its state again begins the tasks of its allocations anew, with the same log (Nomad 1.1.0);
    /// what that log would hold of two runs is the result of neither.
    pub(super) fn open(alloc_dir: Option<&Path>, daemon: Option<String>) -> anyhow::Result<Self> {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        let stdout = File::from_std(stdout.context("there is no standard output")?.into());
        let Some(path) = alloc_dir.map(|dir| dir.join(COPY)) else {
            return Ok(EventOutput { stdout, copy: None, daemon });
        };
        let copy = match PlainFile::create_new(&path) {
            Ok(file) => Some(file),
            Err(problem) if problem.kind() == ErrorKind::AlreadyExists => {
                bail!("a runner was in this allocation before: there is {}", path.display())
            }
            Err(problem) => {
                warn!(%problem, "there will be no second copy of the events");
                None
            }
        };
        Ok(EventOutput { stdout, copy, daemon })
    }

    /// Writes one event, and does not return before it is out of our hands. The copy first: who
    /// sees an event on stdout finds it there too.
    pub(super) async fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let line = lines::encode(event);
        if let Some(copy) = &mut self.copy
            && let Err(problem) = copy.write_all(&line)
        {
            warn!(%problem, "the second copy of the events ends here");
            self.copy = None;
        }
        write_through(&mut self.stdout, &line).await.context("cannot write to standard output")?;
        if let (EventKind::Finished { .. }, Some(daemon)) = (&event.kind, &self.daemon) {
            call(daemon).await;
        }
        Ok(())
    }
}

async fn write_through(file: &mut File, line: &[u8]) -> std::io::Result<()> {
    file.write_all(line).await?;
    file.flush().await
}
