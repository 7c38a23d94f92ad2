//! One connection to a daemon. As little as can be: on two cores whatever a client takes is missing to
//! the daemon that it measures.

use std::{net::SocketAddr, pin::Pin};

use anyhow::{Context, Result, ensure};
use hyper::{
    Method, Request, StatusCode,
    body::{Body as _, Bytes},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// Kept open between requests; closed when dropped.
pub(crate) struct Client {
    sender: http1::SendRequest<String>,
    host: String,
    /// Reads and writes, until dropped.
    _task: JoinSet<()>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut task = JoinSet::new();
        // What goes wrong on it shows at the request.
        task.spawn(async move { drop(connection.await) });
        Ok(Client { sender, host: address.to_string(), _task: task })
    }

    /// Sends JSON; gives the status and the whole body.
    pub(crate) async fn post(&mut self, path: &str, body: String) -> Result<(StatusCode, Vec<u8>)> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(body)?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            if let Ok(data) = frame?.into_data() {
                let data: Bytes = data;
                bytes.extend_from_slice(&data);
            }
        }
        Ok((status, bytes))
    }

    /// Has a submission accepted, and no more.
    pub(crate) async fn submit(&mut self, submission: String) -> Result<()> {
        let (status, answer) = self.post("/v1/submissions", submission).await?;
        let said = || String::from_utf8_lossy(&answer).into_owned();
        ensure!(status == StatusCode::CREATED, "{status}: {}", said());
        Ok(())
    }

    /// Has a submission run, and checks its first output.
    pub(crate) async fn run(&mut self, submission: String, stdout: &str) -> Result<()> {
        let (status, answer) = self.post("/v1/submissions?wait=60", submission).await?;
        ensure!(status == StatusCode::CREATED, "{status}: {}", String::from_utf8_lossy(&answer));
        let answer: serde_json::Value = serde_json::from_slice(&answer).context("no JSON")?;
        let outcome = &answer["outcome"];
        ensure!(outcome["verdict"] == "accepted", "not accepted: {answer}");
        ensure!(outcome["runs"][0]["stdout"]["data"] == stdout, "a wrong output: {answer}");
        Ok(())
    }
}
