//! Reads what an allocation's runner said, and passes on what is new.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    log::Log,
    nodes::{Nodes, Wanted},
};
use crate::{
    backend::Update,
    nomad::{Allocation, LogStream, NomadError, Problem},
    protocol::EventKind,
};

/// The runner's own copy of its events, in the allocation's folder.
const COPY: &str = "alloc/data/events.jsonl";

/// Reads the log of one child, however often and from wherever.
pub(super) struct Reader {
    pub(super) nodes: Arc<Nodes>,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) log: Log,
}

/// How the reading of a log ended.
pub(super) enum Reading {
    /// `finished` was passed on.
    Finished,
    /// All was read that there is, and it is not the whole.
    Incomplete(&'static str),
}

/// Why a log could not be read to its end now.
pub(super) enum Unread {
    Nomad(NomadError),
    Unwanted,
}

impl From<NomadError> for Unread {
    fn from(error: NomadError) -> Self {
        Unread::Nomad(error)
    }
}

impl Reader {
    /// Opens the log where it was read to: to its end now, or to follow it.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub(super) async fn open(
        &self,
        allocation: &Allocation,
        follow: bool,
    ) -> Result<LogStream, NomadError> {
        let offset = self.log.offset();
        self.nodes.read(allocation, Wanted::Log { offset, follow }).await
    }

    /// Reads the log: on from where it was read to, then from its beginning, then the copy.
    pub(super) async fn read_once(&mut self, allocation: &Allocation) -> Result<Reading, Unread> {
        let resumed = self.log.offset() > 0;
        let mut log = self.read_log(allocation).await?;
        if resumed && matches!(log, Reading::Incomplete(_)) {
            self.log.rewind();
            log = self.read_log(allocation).await?;
        }
        let Reading::Incomplete(what) = log else { return Ok(log) };
        self.log.rewind();
        match self.nodes.read(allocation, Wanted::File(COPY)).await {
            Ok(copy) => {
                let read = self.pass_on(copy).await;
                self.log.rewind();
                read
            }
            // The token may lack read-fs: then there is no copy for us.
            Err(error) if is_absent(&error) || error.problem() == Some(Problem::Forbidden) => {
                Ok(Reading::Incomplete(what))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read_log(&mut self, allocation: &Allocation) -> Result<Reading, Unread> {
        match self.open(allocation, false).await {
            Ok(log) => self.pass_on(log).await,
            Err(error) if is_absent(&error) => Ok(Reading::Incomplete("it has no log")),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes on the events of a stream to its end.
    pub(super) async fn pass_on(&mut self, mut stream: LogStream) -> Result<Reading, Unread> {
        while let Some(chunk) = stream.next().await? {
            if let Some(reading) = self.pass_on_chunk(&chunk).await? {
                return Ok(reading);
            }
        }
        Ok(Reading::Incomplete("it ends without the end of the run"))
    }

    /// Passes on the events that these bytes complete and that were not passed on before; says how the
    /// reading ended, if it did.
    pub(super) async fn pass_on_chunk(&mut self, chunk: &[u8]) -> Result<Option<Reading>, Unread> {
        self.log.push(chunk);
        loop {
            match self.log.take() {
                Ok(Some(event)) => {
                    let finished = matches!(event.kind, EventKind::Finished { .. });
                    self.updates
                        .send(Update::Event(event))
                        .await
                        .map_err(|_closed| Unread::Unwanted)?;
                    if finished {
                        return Ok(Some(Reading::Finished));
                    }
                }
                Ok(None) => return Ok(None),
                Err(what) => {
                    self.log.rewind();
                    return Ok(Some(Reading::Incomplete(what)));
                }
            }
        }
    }
}

/// Whether there is nothing to read, and not only nobody to read it from.
pub(super) fn is_absent(error: &NomadError) -> bool {
    matches!(error.problem(), Some(Problem::NoLogs | Problem::NotFound))
}
