//! Where a runner's events go: stdout, and a second copy.

use std::{os::fd::AsFd as _, path::Path};

use anyhow::Context as _;
use tokio::{fs::File, io::AsyncWriteExt as _};
use tracing::warn;

use crate::protocol::{Event, lines};

/// Where the second copy is, in the allocation's folder.
const COPY: &str = "data/events.jsonl";

/// Stdout, and the second copy where there is a place for one.
pub(super) struct EventOutput {
    stdout: File,
    copy: Option<File>,
}

impl EventOutput {
    pub(super) async fn open(alloc_dir: Option<&Path>) -> std::io::Result<Self> {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
        let copy = match alloc_dir.map(|dir| dir.join(COPY)) {
            Some(path) => match File::create(&path).await {
                Ok(file) => Some(file),
                Err(problem) => {
                    warn!(%problem, "there will be no second copy of the events");
                    None
                }
            },
            None => None,
        };
        Ok(EventOutput { stdout: File::from_std(stdout.into()), copy })
    }

    /// Writes one event, and does not return before it is out of our hands. The copy first: who
    /// sees an event on stdout finds it there too.
    pub(super) async fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let line = lines::encode(event);
        if let Some(copy) = &mut self.copy
            && let Err(problem) = write_through(copy, &line).await
        {
            warn!(%problem, "the second copy of the events ends here");
            self.copy = None;
        }
        write_through(&mut self.stdout, &line).await.context("cannot write to standard output")
    }
}

async fn write_through(file: &mut File, line: &[u8]) -> std::io::Result<()> {
    file.write_all(line).await?;
    file.flush().await
}
