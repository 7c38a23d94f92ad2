//! Asks a Nomad what was asked when it was recorded, and compares.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    shape::{Shape, states},
    transcript::{self, Answer, Transcript},
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long an answer that was recorded without an end is watched for one.
const NO_END: Duration = Duration::from_millis(1_500);

/// Of whom it is asked, in place of what was asked of when it was recorded.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub(super) job: String,
    pub(super) evaluation: String,
    pub(super) allocation: String,
    pub(super) node: String,
}

/// How much of an answer is to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Like {
    /// The bytes, up to ids.
    Text,
    /// The shape, and the states in it.
    States,
    /// The shape.
    Shape,
    /// Every value.
    Value,
}

pub(super) struct Stage {
    base: String,
    client: reqwest::Client,
    asked: BTreeSet<String>,
    differences: Vec<String>,
    /// Differences that may be: name of the exchange, where, and why.
    allowed: &'static [(&'static str, &'static str, &'static str)],
}

impl Stage {
    pub(super) fn new(
        base: String,
        allowed: &'static [(&'static str, &'static str, &'static str)],
    ) -> Stage {
        let client = reqwest::Client::new();
        Stage { base, client, asked: BTreeSet::new(), differences: Vec::new(), allowed }
    }

    /// Fails with all differences; also when something was recorded and never asked.
    pub(super) fn end(self, not_asked: &[(&str, &str)]) {
        let left: Vec<_> = transcript::names()
            .into_iter()
            .filter(|name| !self.asked.contains(name))
            .filter(|name| !not_asked.iter().any(|(known, _)| known == name))
            .collect();
        assert!(left.is_empty(), "recorded and never asked: {left:?}");
        assert!(self.differences.is_empty(), "not as recorded:\n{}", self.differences.join("\n"));
    }

    /// A call that was not recorded.
    pub(super) async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Value {
        let url = format!("{}{path}", self.base);
        let answer = self.client.request(method, url).body(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Vec::new()).await
    }

    /// Waits until this holds for what is at a path.
    pub(super) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let value = self.get(path).await;
            if holds(&value) {
                return value;
            }
            assert!(begun.elapsed() < DEADLINE, "{path}: still {value}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks the same again, and says what differs at the end. Returns the answer, when it is JSON.
    pub(super) async fn replay(&mut self, name: &str, subject: &Subject, like: Like) -> Value {
        self.asked.insert(name.to_owned());
        let recorded = Transcript::read(name);
        let path = about(&recorded.path, subject);
        let wanted = recorded.answer.as_ref().unwrap();
        let least = if recorded.ended { None } else { Some(wanted.body.len()) };
        let answer = self.ask(&recorded, &path, least).await;
        let mut found = Vec::new();
        let heads = |answer: &Answer| {
            format!("{} {:?} {:?}", answer.status, answer.content_type, answer.headers)
        };
        if heads(wanted) != heads(&answer) {
            found.push(format!("head: {}, recorded as {}", heads(&answer), heads(wanted)));
        }
        let json = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body);
        let text = |answer: &Answer| without_ids(&String::from_utf8_lossy(&answer.body));
        match (json(wanted), json(&answer)) {
            (Ok(wanted), Ok(live)) if like != Like::Text => {
                found.extend(Shape::of(&wanted).differences(&Shape::of(&live), ""));
                let (recorded, now) = (states(&wanted), states(&live));
                if like == Like::States && recorded != now {
                    found.push(format!("states: {now:?}, recorded as {recorded:?}"));
                }
                if like == Like::Value && wanted != live {
                    found.push(format!("value: {live}, recorded as {wanted}"));
                }
            }
            _ if text(wanted) == text(&answer) => {}
            _ => found.push(format!("body: {:?}, recorded as {:?}", text(&answer), text(wanted))),
        }
        let is_allowed = |difference: &String| {
            self.allowed
                .iter()
                .any(|(of, place, _)| name.starts_with(of) && difference.starts_with(place))
        };
        found.retain(|difference| !is_allowed(difference));
        self.differences.extend(found.iter().map(|difference| format!("{name}: {difference}")));
        json(&answer).unwrap_or_default()
    }

    async fn ask(&self, recorded: &Transcript, path: &str, least: Option<usize>) -> Answer {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(recorded.method.clone(), url);
        if let Some(body) = &recorded.body {
            request = request.body(body.clone());
        }
        let mut answer = request.send().await.unwrap();
        let content_type =
            answer.headers().get("content-type").map(|value| value.to_str().unwrap());
        let content_type = content_type.unwrap_or_default().to_owned();
        let headers = transcript::telling(answer.headers().keys().map(|name| name.as_str()));
        let mut body = Vec::new();
        let mut deadline = Instant::now() + DEADLINE;
        let mut enough = false;
        loop {
            if !enough && least.is_some_and(|least| body.len() >= least) {
                // Heartbeats may go on for ever: they do not put this off.
                (enough, deadline) = (true, Instant::now() + NO_END);
            }
            match tokio::time::timeout_at(deadline, answer.chunk()).await {
                Ok(Ok(Some(bytes))) => body.extend_from_slice(&bytes),
                Ok(Ok(None)) => {
                    assert!(least.is_none(), "{path}: it ended, and should not");
                    break;
                }
                Ok(Err(error)) => panic!("{path}: {error}"),
                Err(_elapsed) if enough => break,
                Err(_elapsed) => panic!("{path}: nothing more after {} bytes", body.len()),
            }
        }
        if let Some(least) = least {
            body.truncate(least);
        }
        Answer { status: answer.status().as_u16(), headers, content_type, body }
    }
}

/// A path with the ids of what it is about now.
fn about(path: &str, subject: &Subject) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    for at in 1..parts.len() {
        let id = match parts[at - 1].as_str() {
            "allocation" | "logs" | "cat" | "ls" | "stat" | "readat" | "stream" => {
                &subject.allocation
            }
            "evaluation" => &subject.evaluation,
            "node" => &subject.node,
            _ => continue,
        };
        if is_uuid(&parts[at]) && !parts[at].starts_with("00000000") {
            parts[at].clone_from(id);
        }
    }
    let mut path = parts.join("/");
    for separator in ["/", "%2F"] {
        let dispatch = format!("{separator}dispatch-");
        if let Some(at) = path.find(&dispatch).filter(|_| path.starts_with("/v1/job/")) {
            let end = at + dispatch.len() + "1795492712-3d21008e".len();
            let job = subject.job.replace('/', separator);
            path = format!("/v1/job/{job}{}", &path[end..]);
        }
    }
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.chars().all(|each| each.is_ascii_hexdigit() || each == '-')
}

/// A text with names in place of ids and of folders.
fn without_ids(text: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(|each: char| matches!(each, '"' | ':'));
        let is_child = bare.contains("/dispatch-");
        let named = match () {
            () if is_uuid(bare) => "<uuid>",
            () if is_child => "<child>",
            () if bare.starts_with('/') && bare.contains("/alloc/") => "<path>",
            () => return word.to_owned(),
        };
        word.replace(bare, named)
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
