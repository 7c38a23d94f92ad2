//! Tells the daemon that the last word was said, so that it need not wait for Nomad's report. Whether
//! that succeeds matters to nobody's result.

use std::time::Duration;

use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tracing::debug;

/// How long it may take. On the way, so that a node that cannot reach the daemon loses no time by it: the
/// daemon would be told by Nomad after 200 ms.
const PATIENCE: Duration = Duration::from_millis(200);

/// Why the daemon was not told.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the address is none of http")]
    Address,
    #[error("the daemon cannot be reached")]
    Unreachable(#[from] std::io::Error),
    #[error("the daemon gives no answer")]
    Broken(#[from] hyper::Error),
}

/// Calls at the address of the attempt's request. Over https not: what that takes to set up costs more
/// than it saves.
pub(super) async fn call(url: &str) {
    let reason = match tokio::time::timeout(PATIENCE, post(url)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "it takes too long".to_owned(),
    };
    debug!(reason, "the daemon was not told of the end");
}

async fn post(url: &str) -> Result<(), CallError> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "http");
    let url = url.ok_or(CallError::Address)?;
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or(CallError::Address)?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(url.path())
        .header(HOST, format!("{host}:{port}"))
        .body(String::new())
        .map_err(|_| CallError::Address)?;
    tokio::select! {
        answered = sender.send_request(request) => drop(answered?),
        ended = connection => ended?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_call_is_a_post_to_the_address_of_the_request() {
        for host in ["127.0.0.1", "[::1]"] {
            let listener = TcpListener::bind(format!("{host}:0")).unwrap();
            let url = format!("http://{}/drill/internal/x", listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).unwrap();
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            });
            post(&url).await.unwrap();
            let asked = server.join().unwrap();
            assert!(asked.starts_with("POST /drill/internal/x HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("host: {host}:")), "{asked}");
        }
    }

    #[tokio::test]
    async fn a_daemon_that_cannot_be_told_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let deaf = format!("http://{}/", listener.local_addr().unwrap());
        call(&deaf).await;
        drop(listener);
        assert!(matches!(post(&deaf).await, Err(CallError::Unreachable(_))));
        assert!(matches!(post("https://localhost:1/").await, Err(CallError::Address)));
    }
}
