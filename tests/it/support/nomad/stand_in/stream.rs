//! The stream of events over HTTP.

use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::{
    broker::{Dropped, Filter},
    cluster::Streams,
    exchange::{Reply, Request},
    routes::Site,
};

/// What Nomad says in the middle of an answer that began with 200.
const DROPPED: &str = "event dropped from buffer";

/// Answers when the first event or heartbeat is there: until then not even headers are sent, as
/// Nomad 1.1.0 did.
pub(super) async fn stream(site: &Site, request: &Request) -> Reply {
    match site.cluster.switches.streams() {
        Streams::Open => {}
        Streams::Say(words) => return Reply::bytes("application/json", words),
        Streams::Refused(status) => return Reply::refusal(status, "Permission denied"),
    }
    let index = match request.query("index").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(index)) => index,
        Some(Err(_)) => {
            let given = request.query("index").unwrap_or_default();
            let text =
                format!("Unable to parse index: strconv.Atoi: parsing {given:?}: invalid syntax");
            return Reply::refusal(400, &text);
        }
    };
    let cluster = site.cluster.clone();
    let filter = Filter::new(request.query_all("topic"));
    let mut reader = cluster.broker.subscribe(index, filter);
    let every = cluster.stream_heartbeat;
    let mut next =
        async move || match tokio::time::timeout(every, cluster.broker.next(&mut reader)).await {
            Ok(line) => line,
            Err(_elapsed) => Ok("{}\n".to_owned()),
        };
    let first = match next().await {
        Ok(line) => line,
        Err(Dropped) => return Reply::refusal(500, DROPPED),
    };
    // As little as possible is held back for a reader that is slow.
    let (sender, receiver) = mpsc::channel(1);
    let end = site.end.clone();
    let pump = async move {
        let mut line = first;
        while sender.send(Bytes::from(line)).await.is_ok() {
            line = tokio::select! {
                next = next() => match next {
                    Ok(line) => line,
                    Err(Dropped) => {
                        let _ = sender.send(Bytes::from_static(DROPPED.as_bytes())).await;
                        return;
                    }
                },
                () = sender.closed() => return,
            };
        }
    };
    site.work.spawn(async move {
        tokio::select! {
            () = pump => {}
            () = end.cancelled() => {}
        }
    });
    Reply::stream("application/json", receiver).with("Cache-Control", "no-cache")
}
