//! Recorded exchanges, as files.

use std::path::PathBuf;

use reqwest::Method;

/// A request and its answer.
#[derive(Debug)]
pub(super) struct Transcript {
    pub(super) method: Method,
    /// With its query.
    pub(super) path: String,
    pub(super) body: Option<Vec<u8>>,
    /// None where nothing came before the asker gave up.
    pub(super) answer: Option<Answer>,
    /// Whether the answer had an end.
    pub(super) ended: bool,
}

/// An answer, recorded or live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Those that say something, in lower case, sorted.
    pub(super) headers: Vec<String>,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

/// Headers of which the presence says something.
const TELLING: [&str; 6] = [
    "x-nomad-index",
    "x-nomad-knownleader",
    "x-nomad-lastcontact",
    "cache-control",
    "content-security-policy",
    "x-content-type-options",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/nomad-1.1.0")
}

/// The names of all that were recorded.
pub(super) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder().join("transcripts")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned)).collect()
}

/// A request's body that stands in a file of its own.
pub(super) fn request(name: &str) -> Vec<u8> {
    if name == "big.json" {
        let payload = "QUFB".repeat(20_000 / 3) + "QUE=";
        return format!("{{\"Payload\":\"{payload}\",\"Meta\":{{\"LANG_ID\":\"x\"}}}}").into();
    }
    std::fs::read(folder().join("requests").join(name)).unwrap()
}

impl Transcript {
    pub(super) fn read(name: &str) -> Transcript {
        let path = folder().join("transcripts").join(format!("{name}.txt"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let head = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let lines = std::str::from_utf8(&bytes[..head]).unwrap();
        let mut lines = lines.lines().map(|line| line.trim_start_matches("# "));
        let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
        let lines: Vec<_> = lines.collect();
        let data = lines.windows(2).find(|two| two[0] == "arg: -d").map(|two| &two[1][5..]);
        let body = data.map(|data| match data.strip_prefix('@') {
            Some(file) => request(file),
            None => data.as_bytes().to_vec(),
        });
        Transcript {
            method: method.parse().unwrap(),
            path: path.to_owned(),
            body,
            answer: answer(&bytes[head + 2..]),
            ended: lines.contains(&"curl exit=0"),
        }
    }
}

fn answer(bytes: &[u8]) -> Option<Answer> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let mut lines = text.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let fields: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value))
        .collect();
    let body = bytes[head + 4..].to_vec();
    let content_type = fields.iter().find(|(name, _)| name == "content-type");
    Some(Answer {
        status,
        headers: telling(fields.iter().map(|(name, _)| name.as_str())),
        content_type: content_type.map_or("", |(_, value)| value).to_owned(),
        body,
    })
}

/// The telling ones of these headers.
pub(super) fn telling<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<_> =
        names.filter(|name| TELLING.contains(name)).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}
