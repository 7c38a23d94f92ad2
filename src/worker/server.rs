//! The worker's end: takes attempts into its slots and says what happens.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{self, Stream, StreamExt as _};
use poem::{
    Body, Endpoint, EndpointExt as _, IntoResponse as _, Request, Response, Route,
    endpoint::{make, make_sync},
    http::{StatusCode, header},
};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Facts, NoSlot, RELEASE, RefusalKind, Run, Slots, WorkerSecret,
    exchange::{
        EXECUTIONS, HEALTH, HEARTBEAT, INPUT, LEASE_HEADER, RELEASE_HEADER, Refusal, UNREAD, WORKER,
    },
    leases::{Ends, Lease, Leases},
};
use crate::{
    connections::{self, Patience},
    protocol::{
        Event, ExecutionRequest, Input, InputDecoder, lines,
        payload::{self, MAX_REQUEST_BYTES},
    },
};

/// How long a request may take to come. A daemon that goes in the midst of one leaves its connection open.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// Requests that may be on their way beyond as many as there are slots; each may be as long as requests get.
const MORE_UPLOADS: usize = 4;

/// How long a request that is refused unread may take to come to its end, so that whoever sends it gets to
/// read why.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Refused requests that are read to their end at once; further ones are cut off.
const DISCARDS: usize = 16;

/// Events of a run that may wait for the daemon to take them; past it the program waits.
const CHANNEL: usize = 16;

/// What a worker is and has.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// 8 hex digits that no other worker has, nor this one after a restart.
    pub id: String,
    /// For people.
    pub name: String,
    /// What daemons must show.
    pub secret: WorkerSecret,
    /// The languages whose tool chains are here, by id.
    pub languages: Vec<String>,
}

/// Serves the slots of this machine to daemons. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerServer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: WorkerSettings,
    slots: Slots,
    leases: Leases,
    uploads: Semaphore,
    discards: Semaphore,
    draining: CancellationToken,
    /// Each gives a lease back when its run is over.
    runs: TaskTracker,
}

impl WorkerServer {
    /// Over these slots. Takes nothing new once `draining` is cancelled.
    pub fn new(settings: WorkerSettings, slots: Slots, draining: CancellationToken) -> Self {
        let leases = Leases::new(&settings.id, slots.count());
        let uploads = Semaphore::new(slots.count() + MORE_UPLOADS);
        let (discards, runs) = (Semaphore::new(DISCARDS), TaskTracker::new());
        WorkerServer(Arc::new(Inner { settings, slots, leases, uploads, discards, draining, runs }))
    }

    /// Answers requests. From when nothing new is taken it goes on until the last run is over, or until
    /// `hard` is cancelled, which ends what still runs.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub async fn serve(
        &self,
        listener: std::net::TcpListener,
        hard: CancellationToken,
    ) -> std::io::Result<()> {
        let served = CancellationToken::new();
        let until_drained = async {
            self.0.draining.cancelled().await;
            tokio::select! {
                () = self.0.leases.all_are_over() => {}
                () = hard.cancelled() => {}
            }
            self.0.slots.shut_down().await;
            served.cancel();
        };
        let patience = Patience { stalled_reader: UNREAD };
        let serving =
            connections::serve(listener, self.endpoint(), patience, served.clone(), hard.clone());
        let (served, ()) = tokio::join!(serving, until_drained);
        self.0.runs.close();
        self.0.runs.wait().await;
        served
    }

    fn endpoint(&self) -> impl Endpoint<Output = Response> + use<> {
        Route::new()
            .at(format!("/{HEALTH}"), poem::get(make_sync(|_| "ok\n")))
            .at(format!("/{WORKER}"), poem::get(make(facts)))
            .at(format!("/{EXECUTIONS}"), poem::post(make(execute)))
            .at(format!("/{EXECUTIONS}/:lease"), poem::delete(make(end)))
            .at(format!("/{EXECUTIONS}/:lease/{INPUT}"), poem::post(make(input)))
            .data(self.clone())
            .map_to_response()
    }

    /// What it says of itself.
    pub fn facts(&self) -> Facts {
        let Inner { settings, slots, leases, draining, .. } = &*self.0;
        Facts {
            id: settings.id.clone(),
            name: settings.name.clone(),
            release: RELEASE.to_owned(),
            slots: slots.count(),
            busy: leases.count(),
            draining: draining.is_cancelled(),
            languages: settings.languages.clone(),
            layers: slots.layers(),
        }
    }

    /// Whether whoever asks may.
    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let shown = request.header(header::AUTHORIZATION);
        if self.0.settings.secret.admits(shown) {
            return Ok(());
        }
        Err(refusal(RefusalKind::Secret, "the secret is not that of this worker".to_owned()))
    }

    /// Takes an attempt. The body is left where it is refused before it is looked at.
    async fn begin(
        &self,
        request: Request,
        body: &mut Option<Body>,
    ) -> Result<(Lease, Run<Event>), Refusal> {
        self.admit(&request)?;
        let theirs = request.header(RELEASE_HEADER).unwrap_or("of none");
        if theirs != RELEASE {
            let detail = format!("this worker is braindrill {RELEASE}, and the daemon {theirs}");
            return Err(refusal(RefusalKind::Release, detail));
        }
        // Before there is a lease: a request that never comes must not keep a slot.
        let request = self.receive(body).await?;
        if self.0.draining.is_cancelled() {
            return Err(is_draining());
        }
        let lease = self.0.leases.take().ok_or_else(|| {
            let slots = self.0.slots.count();
            refusal(RefusalKind::Busy, format!("all {slots} slots of this worker are taken"))
        })?;
        let run = self.0.slots.start(Arc::new(request), CHANNEL).await;
        match run {
            Ok(run) => Ok((lease, run)),
            Err(NoSlot::NoRoom(reason)) => Err(refusal(RefusalKind::NoRoom, reason)),
            Err(error @ NoSlot::ShuttingDown) => {
                Err(refusal(RefusalKind::Draining, error.to_string()))
            }
        }
    }

    /// The request, in full.
    async fn receive(&self, body: &mut Option<Body>) -> Result<ExecutionRequest, Refusal> {
        let malformed = |detail: String| refusal(RefusalKind::Malformed, detail);
        let full = || refusal(RefusalKind::Busy, "too many requests are on their way".to_owned());
        let _place = self.0.uploads.try_acquire().map_err(|_| full())?;
        let body = body.take().unwrap_or_else(Body::empty);
        let whole =
            tokio::time::timeout(UPLOAD_TIME, body.into_bytes_limit(MAX_REQUEST_BYTES as usize));
        let whole = tokio::select! {
            whole = whole => whole,
            () = self.0.draining.cancelled() => return Err(is_draining()),
        };
        let bytes = whole
            .map_err(|_| malformed(format!("it did not come within {UPLOAD_TIME:?}")))?
            .map_err(|error| malformed(error.to_string()))?;
        payload::decode(&bytes).map_err(|error| malformed(error.to_string()))
    }
}

impl WorkerServer {
    /// Reads a request that was refused to its end, and keeps nothing: an answer to one who still sends
    /// gets lost with the connection.
    async fn discard(&self, body: Body) {
        let Ok(_place) = self.0.discards.try_acquire() else { return };
        let reading = async {
            let (mut chunks, mut read) = (body.into_bytes_stream(), 0);
            while let Some(Ok(chunk)) = chunks.next().await {
                read += chunk.len() as u64;
                if read > MAX_REQUEST_BYTES {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(DISCARD_TIME, reading) => {}
            () = self.0.draining.cancelled() => {}
        }
    }
}

fn is_draining() -> Refusal {
    refusal(RefusalKind::Draining, "this worker is about to end".to_owned())
}

fn server(request: &Request) -> WorkerServer {
    request.data::<WorkerServer>().expect("the router has it").clone()
}

async fn facts(request: Request) -> poem::Result<Response> {
    let server = server(&request);
    Ok(match server.admit(&request) {
        Ok(()) => json(StatusCode::OK, &server.facts()),
        Err(refusal) => refuse(&refusal),
    })
}

async fn execute(mut request: Request) -> poem::Result<Response> {
    let server = server(&request);
    let mut body = Some(request.take_body());
    let (lease, mut run) = match server.begin(request, &mut body).await {
        Ok(begun) => begun,
        Err(refusal) => {
            tracing::debug!(reason = refusal.detail, "an attempt was not taken");
            if let Some(unread) = body {
                server.discard(unread).await;
            }
            return Ok(refuse(&refusal));
        }
    };
    let (name, ends) = (lease.name.clone(), lease.ends.clone());
    if let Some(input) = run.input.take() {
        server.0.leases.keep_input(&lease, input);
    }
    let over = run.over.clone();
    server.0.runs.spawn(async move {
        over.cancelled().await;
        drop(lease);
    });
    Ok(Response::builder()
        .content_type("application/x-ndjson")
        .header(LEASE_HEADER, name)
        .body(Body::from_bytes_stream(lines_of(run, ends))))
}

/// The events of a run as lines, with a line without one each second that nothing is said. Dropping it
/// ends the run.
fn lines_of(
    run: Run<Event>,
    ends: Ends,
) -> impl Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + 'static {
    stream::unfold((run, ends), async |(mut run, ends)| {
        let line = tokio::select! {
            biased;
            () = ends.wanted.cancelled() => return None,
            event = run.events.recv() => match event {
                Some(event) => lines::encode(&event),
                None => {
                    // The end of the answer says that the slot is free again.
                    ends.over.cancelled().await;
                    return None;
                }
            },
            () = tokio::time::sleep(HEARTBEAT) => b"\n".to_vec(),
        };
        Some((Ok(bytes::Bytes::from(line)), (run, ends)))
    })
}

/// Passes on what is sent to the program of a lease while it runs; answers at the end of either. Where it breaks
/// off the run ends, as where the connection of its events does: a program must not take that for the end of
/// its input.
async fn input(mut request: Request) -> poem::Result<Response> {
    let server = server(&request);
    if let Err(refusal) = server.admit(&request) {
        return Ok(refuse(&refusal));
    }
    let name: String = request.path_params()?;
    let Some((input, ends)) = server.0.leases.take_input(&name) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let passed = pass_input_on(request.take_body(), &input);
    Ok(match ends.over.run_until_cancelled(passed).await {
        Some(Err(broken)) => {
            ends.wanted.cancel();
            refuse(&refusal(RefusalKind::Malformed, broken))
        }
        Some(Ok(())) | None => StatusCode::NO_CONTENT.into_response(),
    })
}

async fn pass_input_on(body: Body, input: &mpsc::Sender<Input>) -> Result<(), String> {
    let (mut pieces, mut decoder) = (body.into_bytes_stream(), InputDecoder::default());
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        for one in decoder.push(&piece).map_err(|error| error.to_string())? {
            // Of no use to a program that has ended.
            let _ = input.send(one).await;
        }
    }
    Ok(())
}

/// Ends a run; answers when nothing of it is left, also when nothing of it was there.
async fn end(request: Request) -> poem::Result<Response> {
    let server = server(&request);
    if let Err(refusal) = server.admit(&request) {
        return Ok(refuse(&refusal));
    }
    let name: String = request.path_params()?;
    if let Some(Ends { wanted, over }) = server.0.leases.find(&name) {
        wanted.cancel();
        over.cancelled().await;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn refusal(refused: RefusalKind, detail: String) -> Refusal {
    Refusal { refused, detail }
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal.refused {
        RefusalKind::Secret => StatusCode::UNAUTHORIZED,
        RefusalKind::Release => StatusCode::CONFLICT,
        RefusalKind::Malformed => StatusCode::BAD_REQUEST,
        RefusalKind::Busy | RefusalKind::Draining | RefusalKind::NoRoom => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    json(status, refusal)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("it has no map with keys other than text");
    Response::builder().status(status).content_type("application/json").body(text)
}
