//! A way to a server that can be made to fail.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What becomes of bytes on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They pass.
    Open,
    /// They pass, but the answer to a dispatch: its connection is cut instead.
    LosesAnswersToDispatches,
    /// Every connection is cut.
    Cut,
}

/// Passes connections on to a server. Ends with its value.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    server: watch::Sender<String>,
    way: watch::Sender<Way>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A way to the server at `HOST:PORT`.
    pub(crate) async fn to(server: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, watched) = watch::channel(Way::Open);
        let (server, current) = watch::channel(server);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, current, watched));
        Proxy { address, server, way, _tasks: tasks }
    }

    /// As an HTTP address.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Leads to another server from now on; connections that are there stay.
    pub(crate) fn turn_to(&self, server: String) {
        self.server.send_replace(server);
    }

    /// From now on, also for connections that are there.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn accept(
    listener: TcpListener,
    current: watch::Receiver<String>,
    way: watch::Receiver<Way>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = current.borrow().clone();
        let (way, mut cut) = (way.clone(), way.clone());
        connections.spawn(async move {
            tokio::select! {
                // First, so that nothing passes after it.
                biased;
                _ = cut.wait_for(|way| *way == Way::Cut) => {}
                _ = pass(client, server, way) => {}
            }
        });
    }
}

async fn pass(
    mut client: TcpStream,
    server: String,
    way: watch::Receiver<Way>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut dispatches = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
                dispatches |= head.starts_with("POST ") && head.contains("/dispatch?");
                server.write_all(bytes).await?;
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                if dispatches && *way.borrow() == Way::LosesAnswersToDispatches {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}
