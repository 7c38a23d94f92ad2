//! A small HTTP server that answers as a test wants it to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::Url;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// It is answered.
    Answer(u16, &'static str),
    /// It is answered with these bytes.
    Raw(&'static str),
    /// It is read, and the connection is closed.
    Cut,
    /// It is answered with the beginning of a body, and the connection is closed.
    CutBody,
    /// It is answered with `[]` once [`Server::let_go`] lets one go.
    Hold,
    /// It is answered with a body that goes on until [`Server::let_go`] lets one go.
    Stream,
}

/// How many there are now, and how many there were at most.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn now(&self) -> usize {
        self.now.load(Ordering::SeqCst)
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// What the test sees of a server.
#[derive(Debug)]
pub(super) struct Seen {
    /// The first lines of the requests, without the protocol.
    requests: Mutex<Vec<String>>,
    pub(super) connections: Gauge,
    pub(super) under_way: Gauge,
    go: Semaphore,
}

/// A server on loopback; ends with its value.
pub(super) struct Server {
    address: SocketAddr,
    pub(super) seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `act` gets the first line of a request and its number in all, the first being 0.
    pub(super) async fn start(
        act: impl Fn(&str, usize) -> Act + Clone + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            requests: Mutex::default(),
            connections: Gauge::default(),
            under_way: Gauge::default(),
            go: Semaphore::new(0),
        });
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, act) = (shared.clone(), act.clone());
                connections.spawn(async move {
                    seen.connections.enter();
                    let _ = serve(stream, &seen, act).await;
                    seen.connections.leave();
                });
            }
        });
        Server { address, seen, _tasks: tasks }
    }

    /// One that does the same to every request.
    pub(super) async fn always(act: Act) -> Server {
        Server::start(move |_, _| act).await
    }

    pub(super) fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Lets so many of the requests go that are held.
    pub(super) fn let_go(&self, number: usize) {
        self.seen.go.add_permits(number);
    }
}

/// An address that refuses connections, and that nobody else gets as long as this lives.
pub(super) struct Closed(TcpSocket);

impl Closed {
    pub(super) fn new() -> Closed {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Closed(socket)
    }

    pub(super) fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.0.local_addr().unwrap())).unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    seen: &Seen,
    act: impl Fn(&str, usize) -> Act,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(line) = read_request(&mut stream).await? else { return Ok(()) };
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(line.clone());
            requests.len() - 1
        };
        seen.under_way.enter();
        let done = perform(&mut stream, seen, act(&line, number)).await;
        if !done.unwrap_or(false) {
            return Ok(());
        }
    }
}

/// Answers; says whether the connection stays open.
async fn perform(
    stream: &mut BufReader<TcpStream>,
    seen: &Seen,
    act: Act,
) -> std::io::Result<bool> {
    let (status, body) = match act {
        Act::Answer(status, body) => (status, body),
        Act::Raw(bytes) => {
            seen.under_way.leave();
            stream.write_all(bytes.as_bytes()).await?;
            return Ok(true);
        }
        Act::Cut => {
            seen.under_way.leave();
            return Ok(false);
        }
        Act::CutBody => {
            seen.under_way.leave();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[").await?;
            return Ok(false);
        }
        Act::Hold => {
            seen.go.acquire().await.unwrap().forget();
            (200, "[]")
        }
        Act::Stream => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[").await?;
            seen.go.acquire().await.unwrap().forget();
            seen.under_way.leave();
            stream.write_all(b"]").await?;
            return Ok(true);
        }
    };
    // Before the last byte is sent: with it the client may begin its next request.
    seen.under_way.leave();
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} S\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    Ok(true)
}

/// The first line of the next request, without its protocol; the rest of it is read too.
async fn read_request(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut first = String::new();
    if stream.read_line(&mut first).await? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(first.trim_end().trim_end_matches(" HTTP/1.1").to_owned()))
}
