//! Connections: accepts them, bounds them, and ends them. For the daemon and for workers.
//!
//! Not poem's own server: that one gives a client any time it likes for the head of a request, spins
//! when the process is out of files, and spawns tasks that nobody waits for.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::{
    resource::{Resource, getrlimit},
    socket::{setsockopt, sockopt::TcpUserTimeout},
};
use poem::{
    Endpoint, Request, Response,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once, where the process may have so many files; more wait in the kernel's queue.
/// Each costs a file, some 20 KiB and what it has sent.
const MAX_CONNECTIONS: usize = 10_000;
/// The largest head of a request, and what is read of a body at once: the library would else keep a
/// buffer of 400 KiB for each connection that sent much.
const READ_BUFFER: usize = 32 << 10;
/// How long the head of a request may take, also the first one, and the next one after an answer;
/// longer than the 60 s after which proxies usually give an idle connection up.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// How long to wait when a connection cannot be accepted: the process is out of files, and becomes
/// no less so by asking at once.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// What clients are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a client may take nothing of an answer (TCP_USER_TIMEOUT, tcp(7)): its buffers would else
    /// be kept as long as it likes.
    pub stalled_reader: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { stalled_reader: Duration::from_secs(60) }
    }
}

/// The connection that a request came by, as the request's data.
#[derive(Debug, Clone)]
pub struct Connection {
    _permit: Arc<OwnedSemaphorePermit>,
    tasks: TaskTracker,
    hard: CancellationToken,
}

impl Connection {
    /// Goes on with a connection that is about to speak another protocol. It counts as before, and the server
    /// waits for it: what is cancelled when the server ends has to end it.
    pub fn go_on(&self, task: impl Future<Output = ()> + Send + 'static) {
        let held = self.clone();
        self.tasks.spawn(async move {
            held.hard.run_until_cancelled(task).await;
        });
    }
}

/// Answers requests until `soft` is cancelled, then those that are there until they are answered or
/// `hard` is cancelled.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: std::net::TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    patience: Patience,
    soft: CancellationToken,
    hard: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (endpoint, connections) = (Arc::new(endpoint), TaskTracker::new());
    let room = Arc::new(Semaphore::new(most()));
    while let Some((stream, peer, permit)) = accept(&listener, &room, &soft).await {
        let (endpoint, soft) = (endpoint.clone(), soft.clone());
        let (permit, tasks, hard) = (Arc::new(permit), connections.clone(), hard.clone());
        let held = Connection { _permit: permit, tasks, hard };
        connections.spawn(async move {
            if let Err(error) = serve_one(stream, peer, endpoint, patience, soft, held).await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Connections that are taken at once: half of the files that the process may have, at the most. Sandboxes
/// and the database need files too, and without them programs that were accepted would fail for the clients
/// that only connect.
pub fn most() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(usize::MAX, |(soft, _)| soft as usize);
    MAX_CONNECTIONS.min(files / 2)
}

/// The next connection; none once `soft` is cancelled.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    soft: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let next = async {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                // A client that left before it was accepted is nobody's trouble.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    };
    soft.run_until_cancelled(next).await
}

async fn serve_one(
    stream: TcpStream,
    peer: SocketAddr,
    endpoint: Arc<impl Endpoint<Output = Response> + 'static>,
    patience: Patience,
    soft: CancellationToken,
    held: Connection,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let local = LocalAddr(stream.local_addr()?.into());
    let remote = RemoteAddr(peer.into());
    stream.set_nodelay(true)?;
    setsockopt(&stream, TcpUserTimeout, &(patience.stalled_reader.as_millis() as u32))?;
    let hard = held.hard.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = Request::from((request, local.clone(), remote.clone(), Scheme::HTTP));
        request.set_data(held.clone());
        let endpoint = endpoint.clone();
        async move {
            let response = endpoint.get_response(request).await;
            Ok::<_, Infallible>(hyper::Response::from(response))
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(READ_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = hard.cancelled() => return Ok(()),
        () = soft.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = connection => Ok(ended?),
        () = hard.cancelled() => Ok(()),
    }
}
