//! One request and its answer, as Nomad words them.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Method, Response,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{HeaderName, HeaderValue},
};
use reqwest::Url;
use serde_json::Value;
use tokio::sync::mpsc;

use super::server::Hold;

/// The most that a body may hold.
const MAX_BODY: usize = 16 << 20;

/// What was asked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Unescaped: ids of jobs hold slashes.
    pub(super) path: String,
    query: Vec<(String, String)>,
    pub(super) body: Bytes,
    /// The place among the connections. A query that outlives its connection keeps it.
    _hold: Hold,
}

impl Request {
    /// Reads it whole; None when the client went away meanwhile.
    pub(super) async fn read(request: hyper::Request<Incoming>, hold: Hold) -> Option<Request> {
        let (head, mut incoming) = request.into_parts();
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let url = Url::parse(&format!("http://nomad{target}")).ok()?;
        let mut body = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await
        {
            if let Ok(data) = frame.ok()?.into_data() {
                body.extend_from_slice(&data);
            }
            if body.len() > MAX_BODY {
                return None;
            }
        }
        Some(Request {
            method: head.method,
            path: unescaped(url.path()),
            query: url.query_pairs().into_owned().collect(),
            body: body.into(),
            _hold: hold,
        })
    }

    /// The first value of this name; empty when it is named without one.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value == "true")
    }

    pub(super) fn writes(&self) -> bool {
        self.method == Method::PUT || self.method == Method::POST
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Reply> {
        if self.body.is_empty() {
            return Err(Reply::refusal(400, "Request body is empty"));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            let text = if error.is_eof() { "unexpected EOF".into() } else { error.to_string() };
            Reply::refusal(400, &text)
        })
    }
}

/// `%2F` and the like; what is no such thing stays.
fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A time as Go writes it: `5s`, `1m30s`, `200ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|each: char| !each.is_ascii_digit() && each != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|each: char| each.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::from_secs_f64(number * unit);
        rest = &rest[letters..];
    }
    Some(total)
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Content,
}

/// A body, whole or as it comes.
#[derive(Debug)]
pub(super) enum Content {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Reply {
    /// 200 with JSON.
    pub(super) fn json(value: &Value) -> Reply {
        Reply::bytes("application/json", value.to_string())
    }

    /// 200 with these bytes.
    pub(super) fn bytes(content_type: &str, bytes: impl Into<Bytes>) -> Reply {
        Reply {
            status: 200,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: Content::Whole(Some(bytes.into())),
        }
    }

    /// 200 with bytes as they come.
    pub(super) fn stream(content_type: &str, stream: mpsc::Receiver<Bytes>) -> Reply {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Reply { status: 200, headers, body: Content::Stream(stream) }
    }

    /// A text with this status: how Nomad refuses.
    pub(super) fn refusal(status: u16, text: &str) -> Reply {
        Reply { status, ..Reply::bytes("text/plain; charset=utf-8", text.to_owned()) }
    }

    /// Of a read: with the index and what goes with it.
    pub(super) fn indexed(self, index: u64) -> Reply {
        self.written(index).with("X-Nomad-KnownLeader", "true").with("X-Nomad-LastContact", "0")
    }

    /// Of a write: with the index alone.
    pub(super) fn written(self, index: u64) -> Reply {
        self.with("X-Nomad-Index", &index.to_string())
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Reply {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// For the wire.
    pub(super) fn into_response(self) -> Response<Content> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status.try_into().expect("a status that we chose");
        let vary = ("Vary", "Accept-Encoding".to_owned());
        for (name, value) in self.headers.into_iter().chain([vary]) {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name that we chose");
            let value = HeaderValue::from_str(&value).expect("a value that we chose");
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        match self.get_mut() {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(frame)),
            Content::Stream(stream) => stream.poll_recv(context).map(|bytes| bytes.map(frame)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

#[test]
fn times_are_read_as_go_writes_them() {
    assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
    assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(duration("soon"), None);
}
