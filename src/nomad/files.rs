//! What an allocation wrote: its tasks' logs, and files in its folder.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;

use super::{Answer, Client, NomadError, Purpose, Request};

/// How long the next bytes of an answer may take. A server asks the node, and both buffer.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that come as they are read. Dropping it ends the reading. It has one of the few places that
/// a daemon has for reading, so read it on or drop it.
#[derive(Debug)]
pub struct LogStream {
    answer: Answer,
}

impl LogStream {
    /// The next bytes, or none at the end. Of a log that is followed, the next may take for ever: use
    /// [`LogStream::wait`].
    ///
    /// # Errors
    /// The answer broke or stalled; read again from the beginning.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NomadError> {
        match tokio::time::timeout(CHUNK_TIMEOUT, self.answer.chunk()).await {
            Ok(chunk) => chunk,
            Err(_elapsed) => Err(NomadError::Stalled),
        }
    }

    /// The next bytes, whenever they come, or none at the end. Cancel safe: nothing is lost.
    ///
    /// # Errors
    /// The answer broke; read again from where it had come to.
    pub async fn wait(&mut self) -> Result<Option<Bytes>, NomadError> {
        self.answer.chunk().await
    }
}

impl Client {
    /// What a task wrote to its stdout from this byte on, to the last that is there now. Counted in
    /// bytes over all of its log files that are still there; beyond their end there is nothing.
    ///
    /// # Errors
    /// See [`NomadError`]; [`super::Problem::NoLogs`] when the task never began.
    pub async fn stdout(
        &self,
        allocation: &str,
        task: &str,
        offset: u64,
    ) -> Result<LogStream, NomadError> {
        self.open(self.logs(allocation, task, offset, false)).await
    }

    /// The same, and then what the task goes on to write. Nomad does not end it when the task ends
    /// (1.1 to 2.0): that must be learned elsewhere.
    ///
    /// # Errors
    /// See [`Client::stdout`].
    pub async fn follow_stdout(
        &self,
        allocation: &str,
        task: &str,
        offset: u64,
    ) -> Result<LogStream, NomadError> {
        self.open(self.logs(allocation, task, offset, true)).await
    }

    fn logs(&self, allocation: &str, task: &str, offset: u64, follow: bool) -> Request {
        let (offset, follow) = (offset.to_string(), follow.to_string());
        self.request(Method::GET, &["client", "fs", "logs", allocation]).query(&[
            ("task", task),
            ("type", "stdout"),
            ("plain", "true"),
            ("origin", "start"),
            ("offset", &offset),
            ("follow", &follow),
        ])
    }

    /// A file in an allocation's folder; the path is like `alloc/data/name`. Takes the capability
    /// `read-fs`, where logs are content with `read-logs`.
    ///
    /// # Errors
    /// See [`NomadError`]; [`super::Problem::NotFound`] when there is no such file.
    pub async fn file(&self, allocation: &str, path: &str) -> Result<LogStream, NomadError> {
        let request = self
            .request(Method::GET, &["client", "fs", "cat", allocation])
            .query(&[("path", path)]);
        let stream = self.open(request).await?;
        // Nomad 1.1 reports a missing file with status 200 and the error as the body; only a real
        // file comes with this header.
        if stream.answer.headers().contains_key("X-Content-Type-Options") {
            return Ok(stream);
        }
        Err(stream.answer.into_refusal().await)
    }

    async fn open(&self, request: Request) -> Result<LogStream, NomadError> {
        let answer = self.send(request.purpose(Purpose::Read));
        match tokio::time::timeout(CHUNK_TIMEOUT, answer).await {
            Ok(answer) => Ok(LogStream { answer: answer? }),
            Err(_elapsed) => Err(NomadError::Stalled),
        }
    }
}
