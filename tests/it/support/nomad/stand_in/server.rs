//! A listener of the stand-in: HTTP/1.1, and the limit of connections with its bad manners.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use super::{
    exchange::{Reply, Request},
    routes::Site,
};

/// How many connections there are, and may be: Nomad's `http_max_conns_per_client`, which counts
/// by the client's address, and all of ours come from one.
#[derive(Debug)]
pub(super) struct Connections {
    open: AtomicUsize,
    limit: AtomicUsize,
}

impl Connections {
    pub(super) fn new(limit: usize) -> Arc<Connections> {
        Arc::new(Connections { open: AtomicUsize::new(0), limit: AtomicUsize::new(limit) })
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn admit(self: &Arc<Connections>) -> Option<Hold> {
        let limit = self.limit.load(Ordering::SeqCst);
        let count = |open| (open < limit).then_some(open + 1);
        self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).ok()?;
        Some(Hold(Arc::new(Place(self.clone()))))
    }
}

/// A place among the connections, until its last copy is dropped.
#[derive(Debug, Clone)]
pub(super) struct Hold(#[expect(dead_code, reason = "held for its end")] Arc<Place>);

#[derive(Debug)]
struct Place(Arc<Connections>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Serves until it is dropped; the connections end with it.
pub(super) async fn serve(listener: TcpListener, site: Site, connections: Arc<Connections>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                match connections.admit() {
                    Some(hold) => drop(open.spawn(talk(stream, site.clone(), hold))),
                    // Nomad 1.1 closes it so that the client sees a reset.
                    None => drop(stream.set_zero_linger()),
                }
            }
            Some(_) = open.join_next() => {}
        }
    }
}

/// What is asked is carried out to its end, whoever goes away meanwhile: Nomad 1.1 does not notice
/// that a client closed its connection, but for streams.
async fn talk(stream: TcpStream, site: Site, hold: Hold) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (site, hold) = (site.clone(), hold.clone());
        let (mut sender, receiver) = oneshot::channel();
        let streams = request.uri().path() == "/v1/event/stream";
        site.work.clone().spawn(async move {
            let end = site.end.clone();
            let answer = async {
                match Request::read(request, hold).await {
                    Some(request) => super::routes::answer(&site, request).await,
                    None => Reply::refusal(400, "unexpected EOF"),
                }
            };
            tokio::select! {
                reply = answer => drop(sender.send(reply)),
                () = sender.closed(), if streams => {}
                () = end.cancelled() => {}
            }
        });
        async { receiver.await.map(Reply::into_response) }
    });
    let connection = http1::Builder::new()
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away is no event.
    let _ = connection.await;
}
