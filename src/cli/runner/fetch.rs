//! A request that is too long for a payload, fetched from the daemon.
//!
//! The daemon may be restarting, or gone for good; the address may be of an attempt that has ended.
//! The address is as good as a password, so that no message has it.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, redirect};
use tracing::warn;

use crate::protocol::payload::MAX_REQUEST_BYTES;

/// How long the daemon may be away: a restart takes seconds, also one by a supervisor that waits first.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the next bytes of an answer may take.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Between the first try and the second; twice as long each time after.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Between tries at the most, so that a daemon that is back is soon noticed.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The daemon knows no such attempt, or none that still runs.
    #[error("the attempt is over: the daemon has no request for it any more")]
    Over,
    /// Something answers that is not the daemon, or not as it should.
    #[error("the daemon's address for requests answers {0}")]
    Refused(StatusCode),
    /// Something answers without end.
    #[error("the request is longer than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// The daemon did not answer in time.
    #[error("the daemon cannot be reached for the request, after {} s", .0.as_secs())]
    Away(Duration, #[source] Trouble),
    /// There is no HTTP client to be had.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}

/// What may be better in a moment.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        Trouble::Connection(error.without_url())
    }
}

/// The bytes at `url`, tried for as long as `patience`.
pub(super) async fn fetch(url: &str, patience: Duration) -> Result<Vec<u8>, FetchError> {
    let client = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        // The daemon never redirects, and nobody else is to have the token.
        .redirect(redirect::Policy::none())
        .build()
        .map_err(FetchError::Client)?;
    let begun = Instant::now();
    for tries in 0.. {
        let trouble = match get(&client, url).await? {
            Ok(bytes) => return Ok(bytes),
            Err(trouble) => trouble,
        };
        let wait = wait(tries);
        if begun.elapsed() + wait > patience {
            return Err(FetchError::Away(patience, trouble));
        }
        if tries == 0 {
            warn!(%trouble, "the request cannot be fetched now; trying again");
        }
        tokio::time::sleep(wait).await;
    }
    unreachable!("the loop has no end but its returns")
}

fn wait(tries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tries.min(16)).min(LONGEST_WAIT)
}

async fn get(client: &Client, url: &str) -> Result<Result<Vec<u8>, Trouble>, FetchError> {
    let mut response = match client.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Ok(Err(error.into())),
    };
    match response.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND => return Err(FetchError::Over),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Ok(Err(Trouble::Status(status)));
        }
        status => return Err(FetchError::Refused(status)),
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(Ok(bytes)),
            Err(error) => return Ok(Err(error.into())),
        }
        if bytes.len() as u64 > MAX_REQUEST_BYTES {
            return Err(FetchError::TooLong);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread::JoinHandle,
    };

    use super::*;
    use crate::error_chain::error_chain;

    /// Answers one connection with each of these, and returns how many came.
    fn server(answers: &'static [&'static [u8]]) -> (String, JoinHandle<usize>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/internal/secret-token", listener.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer).unwrap();
            }
            answers.len()
        });
        (url, answering)
    }

    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const GOOD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\x28\x00z";
    const CUT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\nConnection: close\r\n\r\nab";
    const GONE: &[u8] = b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const MOVED: &[u8] =
        b"HTTP/1.1 302 Moved\r\nLocation: /other\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_daemon_that_is_away_for_a_moment_is_asked_again() {
        let (url, answering) = server(&[b"", BUSY, CUT, GOOD]);
        assert_eq!(fetch(&url, PATIENCE).await.unwrap(), b"\x28\x00z");
        assert_eq!(answering.join().unwrap(), 4);
    }

    #[tokio::test]
    async fn an_attempt_that_is_over_is_not_asked_for_again() {
        let (url, answering) = server(&[GONE]);
        assert!(matches!(fetch(&url, PATIENCE).await, Err(FetchError::Over)));
        answering.join().unwrap();
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (url, answering) = server(&[MOVED]);
        assert!(matches!(fetch(&url, PATIENCE).await, Err(FetchError::Refused(_))));
        answering.join().unwrap();
    }

    #[tokio::test]
    async fn patience_ends_and_no_message_has_the_address() {
        let (url, answering) = server(&[GONE]);
        let error = fetch(&url.replace("secret-token", ""), PATIENCE).await.unwrap_err();
        assert!(matches!(error, FetchError::Over));
        answering.join().unwrap(); // and nobody listens there any more
        let error = fetch(&url, Duration::from_millis(150)).await.unwrap_err();
        assert!(matches!(error, FetchError::Away(..)), "{error}");
        let text = error_chain(&error);
        assert!(!text.contains("secret-token") && text.contains("connection failed"), "{text}");
    }

    #[test]
    fn tries_come_less_often_and_never_less_often_than_some_seconds() {
        let waits: Vec<_> = (0..8).map(|tries| wait(tries).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }
}
