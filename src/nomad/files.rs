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
    /// The next bytes, or none at the end.
    ///
    /// # Errors
    /// The answer broke or stalled; read again from the beginning.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NomadError> {
        match tokio::time::timeout(CHUNK_TIMEOUT, self.answer.chunk()).await {
            Ok(chunk) => chunk,
            Err(_elapsed) => Err(NomadError::Stalled),
        }
    }
}

impl Client {
    /// What a task wrote to its stdout, from the first byte that is still there to the last that is
    /// there now. Never follows: Nomad does not end a followed log when its task ends.
    ///
    /// # Errors
    /// See [`NomadError`]; [`super::Problem::NoLogs`] when the task never began.
    pub async fn stdout(&self, allocation: &str, task: &str) -> Result<LogStream, NomadError> {
        let request = self.request(Method::GET, &["client", "fs", "logs", allocation]).query(&[
            ("task", task),
            ("type", "stdout"),
            ("plain", "true"),
            ("origin", "start"),
            ("offset", "0"),
            ("follow", "false"),
        ]);
        self.open(request).await
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
