//! Reads what an allocation's runner said, and passes on what is new.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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

/// A copy that is longer is not read again and again while it grows: its log is followed before long.
const LONG: u64 = 64 << 10;

/// Reads the log of one child, however often and from wherever.
pub(super) struct Reader {
    pub(super) nodes: Arc<Nodes>,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) log: Log,
    /// Whether our token may read files, as far as is known; logs it may read in any case.
    pub(super) may_read_files: Arc<AtomicBool>,
    /// Whether what a glance has to read is long.
    pub(super) is_long: bool,
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

    /// Passes on what is there now, of a child that may run on: from the copy, which is ahead of the
    /// log, or from the log where our token may not read files. Leaves alone where the log was read to.
    pub(super) async fn glance(&mut self, allocation: &Allocation) -> Result<Reading, Unread> {
        if self.is_long {
            return Ok(Reading::Incomplete("it is long"));
        }
        let wanted = match self.may_read_files.load(Ordering::Relaxed) {
            true => Wanted::File(COPY),
            false => Wanted::Log { offset: 0, follow: false },
        };
        let stream = match self.nodes.read(allocation, wanted).await {
            Err(error) if error.problem() == Some(Problem::Forbidden) => {
                self.may_read_files.store(false, Ordering::Relaxed);
                return Err(error.into());
            }
            opened => opened?,
        };
        let copy = self.log.anew();
        let log = std::mem::replace(&mut self.log, copy);
        let read = self.pass_on(stream).await;
        let copy = std::mem::replace(&mut self.log, log);
        self.log.catch_up(&copy);
        self.is_long = copy.offset() > LONG;
        read
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
