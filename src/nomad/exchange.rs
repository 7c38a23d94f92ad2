//! One request and its answer: at which server it is tried, and how often.
//!
//! What surely was not carried out is tried at the next server, once round. What may have been
//! carried out is asked again only when asking twice is as good as asking once.

use std::{future::ready, io, time::Duration};

use bytes::Bytes;
use reqwest::{Method, Response, Url, header::HeaderMap};

use super::{
    Client, NomadError, Problem,
    budget::{Permit, Purpose},
};

/// How often a request is made in all, however few servers there are, when answers are lost or the
/// server has no place for it.
const TRIES: usize = 3;

/// From such a try to the next, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How much of an error's body is kept.
const MAX_ERROR_BYTES: usize = 4096;

/// A request to whichever server answers. Unless told otherwise, a GET, PUT or DELETE may be asked
/// twice, and a POST may not.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<Bytes>,
    timeout: Option<Duration>,
    purpose: Purpose,
    repeatable: bool,
}

impl Request {
    pub(super) fn new(method: Method, segments: &[&str]) -> Request {
        Request {
            repeatable: method != Method::POST,
            method,
            segments: segments.iter().map(|&segment| segment.to_owned()).collect(),
            query: Vec::new(),
            body: None,
            timeout: None,
            purpose: Purpose::Call,
        }
    }

    /// Adds to the query.
    pub(crate) fn query<K: AsRef<str>, V: AsRef<str>>(mut self, pairs: &[(K, V)]) -> Request {
        let owned = |(key, value): &(K, V)| (key.as_ref().to_owned(), value.as_ref().to_owned());
        self.query.extend(pairs.iter().map(owned));
        self
    }

    /// Sends this as the body.
    pub(super) fn json(mut self, body: &serde_json::Value) -> Request {
        self.body = Some(body.to_string().into());
        self
    }

    /// How long each try may take until the last byte of its body; without, it may go on for ever.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Likewise, unless it was told.
    pub(super) fn timeout_if_none(mut self, timeout: Duration) -> Request {
        self.timeout.get_or_insert(timeout);
        self
    }

    /// What it has its connection for; [`Purpose::Call`] unless told.
    pub(crate) fn purpose(mut self, purpose: Purpose) -> Request {
        self.purpose = purpose;
        self
    }

    /// Whether asking it twice is as good as once.
    pub(super) fn repeatable(mut self, repeatable: bool) -> Request {
        self.repeatable = repeatable;
        self
    }

    /// The whole address at this server. Segments are escaped: job ids hold slashes.
    pub(super) fn url(&self, server: &Url) -> Url {
        let mut url = server.clone();
        url.path_segments_mut()
            .expect("the scheme is http or https")
            .pop_if_empty()
            .push("v1")
            .extend(&self.segments);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// The head of an answer and, as it is read, its body. It keeps a place in the budget of connections
/// until it is dropped.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    _permit: Permit,
}

impl Answer {
    /// What stands before the body.
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next bytes of the body, or none at its end. May be dropped while it waits.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, NomadError> {
        self.response.chunk().await.map_err(NomadError::Interrupted)
    }

    /// The whole body.
    pub(super) async fn bytes(self) -> Result<Bytes, NomadError> {
        self.response.bytes().await.map_err(NomadError::Interrupted)
    }

    /// This answer as the refusal that it is, with the beginning of its body as far as it comes. The
    /// status is Nomad's, and in some answers it is 200.
    pub(crate) async fn into_refusal(mut self) -> NomadError {
        let status = self.response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MAX_ERROR_BYTES {
            match self.response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(MAX_ERROR_BYTES);
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        NomadError::Answered { status, problem: Problem::classify(status, &body), body }
    }
}

/// What follows a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next server, now.
    AtOnce,
    /// The next server, or the only one, after a pause.
    Later,
    /// It stays as it is.
    GiveUp,
}

/// What follows this many tries, of which the last failed so; `untried` says whether there is a
/// server that was not asked yet.
fn next(error: &NomadError, repeatable: bool, tries: usize, untried: bool) -> Next {
    let again = if untried || tries < TRIES { Next::Later } else { Next::GiveUp };
    match error {
        NomadError::Unreachable(_) if untried => Next::AtOnce,
        // In a TLS handshake: the server has no place for the connection.
        NomadError::Unreachable(error) if is_reset(error) => again,
        // Not at once: a server may be about to carry out what it has not answered.
        NomadError::Interrupted(_) if repeatable => again,
        NomadError::Answered { problem: Problem::NoLeader, .. } if untried => Next::AtOnce,
        NomadError::Answered { problem: Problem::TooMany, .. } => again,
        _ => Next::GiveUp,
    }
}

fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(io) = error.downcast_ref::<io::Error>() else {
        return error.source().is_some_and(is_reset);
    };
    // What an I/O error was made from is not its source: that is the source of the former.
    io.kind() == io::ErrorKind::ConnectionReset || io.get_ref().is_some_and(|inner| is_reset(inner))
}

/// The server to ask after these were: the first of them that was not, else each in turn.
fn pick<'a>(servers: &'a [Url], asked: &[Url]) -> Option<&'a Url> {
    let untried = servers.iter().find(|server| !asked.contains(server));
    untried.or_else(|| servers.get(asked.len() % servers.len().max(1)))
}

/// How long to wait after so many tries: doubled each time, give or take a half. `salt` is any
/// number, and decides within that.
fn pause(tries: usize, salt: u64) -> Duration {
    let doubled = FIRST_PAUSE * 2u32.pow(tries.clamp(1, 6) as u32 - 1);
    doubled.mul_f64(0.5 + (salt % 1024) as f64 / 1024.0)
}

impl Client {
    /// The answer to a request, at the first server that gives one. Its body is not read yet.
    ///
    /// # Errors
    /// See [`NomadError`].
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, NomadError> {
        self.exchange(&request, |answer| ready(Ok(answer))).await
    }

    /// Asks until an answer could be read.
    pub(super) async fn exchange<T, F: Future<Output = Result<T, NomadError>>>(
        &self,
        request: &Request,
        read: impl Fn(Answer) -> F,
    ) -> Result<T, NomadError> {
        let mut asked = Vec::new();
        let mut lost = None;
        loop {
            let servers = self.servers.in_order();
            let Some(server) = pick(&servers, &asked) else {
                return Err(lost.unwrap_or(NomadError::NoServer));
            };
            asked.push(server.clone());
            let error = match self.attempt(request, server, &read).await {
                Ok(value) => {
                    self.servers.prefer(server);
                    return Ok(value);
                }
                Err(error) => error,
            };
            let untried = servers.iter().any(|server| !asked.contains(server));
            let next = next(&error, request.repeatable, asked.len(), untried);
            if next == Next::GiveUp {
                if error.problem().is_some_and(Problem::is_final) {
                    self.servers.prefer(server);
                }
                // That the last try was refused says nothing of what an earlier one did.
                return Err(lost.unwrap_or(error));
            }
            tracing::debug!(%server, %error, tries = asked.len(), "asking Nomad again");
            if matches!(error, NomadError::Interrupted(_)) && request.method != Method::GET {
                lost.get_or_insert(error);
            }
            if next == Next::Later {
                tokio::time::sleep(pause(asked.len(), self.shared.salt())).await;
            }
        }
    }

    async fn attempt<T, F: Future<Output = Result<T, NomadError>>>(
        &self,
        request: &Request,
        server: &Url,
        read: impl Fn(Answer) -> F,
    ) -> Result<T, NomadError> {
        let permit = self.shared.budget.take(request.purpose).await;
        let mut builder = self.shared.http.request(request.method.clone(), request.url(server));
        if let Some(body) = &request.body {
            builder = builder.header("Content-Type", "application/json").body(body.clone());
        }
        if let Some(timeout) = request.timeout {
            builder = builder.timeout(timeout);
        }
        let response = builder.send().await.map_err(NomadError::sending)?;
        let answer = Answer { response, _permit: permit };
        if answer.response.status().is_success() {
            read(answer).await
        } else {
            Err(answer.into_refusal().await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(problem: Problem) -> NomadError {
        NomadError::Answered { status: 500, body: String::new(), problem }
    }

    #[test]
    fn what_was_not_carried_out_is_tried_elsewhere_and_only_once_round() {
        let error = refused(Problem::NoLeader);
        for repeatable in [false, true] {
            assert_eq!(next(&error, repeatable, 1, true), Next::AtOnce);
            assert_eq!(next(&error, repeatable, 1, false), Next::GiveUp);
        }
    }

    #[test]
    fn a_full_server_is_asked_again_whatever_is_asked() {
        let error = refused(Problem::TooMany);
        for repeatable in [false, true] {
            assert_eq!(next(&error, repeatable, 2, false), Next::Later);
            assert_eq!(next(&error, repeatable, 3, false), Next::GiveUp);
            assert_eq!(next(&error, repeatable, 3, true), Next::Later);
        }
    }

    #[test]
    fn other_refusals_stay_as_they_are() {
        for problem in [Problem::NotFound, Problem::Forbidden, Problem::Other] {
            assert_eq!(next(&refused(problem), true, 1, true), Next::GiveUp);
        }
        assert_eq!(next(&NomadError::Stalled, true, 1, true), Next::GiveUp);
    }

    #[test]
    fn servers_are_asked_in_order_and_then_in_turn() {
        let url = |port: u16| Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let servers = [url(1), url(2)];
        assert_eq!(pick(&servers, &[]), Some(&servers[0]));
        assert_eq!(pick(&servers, &[url(1)]), Some(&servers[1]));
        // The order has changed meanwhile.
        assert_eq!(pick(&servers, &[url(2)]), Some(&servers[0]));
        assert_eq!(pick(&servers, &[url(1), url(2)]), Some(&servers[0]));
        assert_eq!(pick(&servers, &[url(1), url(2), url(1)]), Some(&servers[1]));
        assert_eq!(pick(&[], &[url(1)]), None);
    }

    #[test]
    fn pauses_double_within_a_half() {
        for (tries, plain) in [(1, 100), (2, 200), (3, 400)] {
            let plain = Duration::from_millis(plain);
            for salt in [0, 511, 1023, u64::MAX] {
                let pause = pause(tries, salt);
                assert!(pause >= plain / 2 && pause < plain * 3 / 2, "{tries} {salt}: {pause:?}");
            }
        }
        assert!(pause(usize::MAX, 0) < Duration::from_secs(2));
    }
}
