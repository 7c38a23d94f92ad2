//! The logs of tasks: plain or in frames, to their end or for ever.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::body::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    exchange::{Reply, Request},
    files, rotation,
    routes::Site,
    run::Log,
};

/// The most that one frame holds.
const FRAME: usize = 64 << 10;

/// How often a file that is followed is looked at, as Nomad does.
const POLL: Duration = Duration::from_millis(250);

/// How often a framed answer with nothing new says `{}`.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Where bytes come from.
#[derive(Debug)]
enum Source {
    /// A task's log, over all files that are kept: folder and base name.
    Rotated(PathBuf, String),
    /// One file, and how it is named.
    Single(PathBuf, String),
}

impl Source {
    /// The files, with their numbers, oldest first.
    fn files(&self) -> Vec<(u64, PathBuf)> {
        match self {
            Source::Rotated(folder, base) => rotation::files(folder, base),
            Source::Single(path, _) => vec![(0, path.clone())],
        }
    }

    fn name(&self, index: u64) -> String {
        match self {
            Source::Rotated(_, base) => format!("alloc/logs/{base}.{index}"),
            Source::Single(_, name) => name.clone(),
        }
    }
}

/// A place in a source.
#[derive(Debug)]
struct Reader {
    source: Source,
    index: u64,
    offset: u64,
}

impl Reader {
    fn new(source: Source, offset: u64, from_end: bool) -> Reader {
        let files = source.files();
        let length = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
        let total: u64 = files.iter().map(|(_, path)| length(path)).sum();
        let mut left = if from_end { total.saturating_sub(offset) } else { offset };
        let last = files.last().map_or(0, |(index, _)| *index);
        for (index, path) in &files {
            if left < length(path) || *index == last {
                return Reader { source, index: *index, offset: left };
            }
            left -= length(path);
        }
        Reader { source, index: 0, offset: left }
    }

    /// The next bytes and where they are from; None at the end, for now. What is deleted between
    /// two readings is missing without a mark.
    fn next(&mut self, last: Option<u64>) -> Option<(Vec<u8>, String, u64)> {
        let files = self.source.files();
        let files = files.iter().filter(|(index, _)| last.is_none_or(|last| *index <= last));
        let from = self.index;
        for (index, path) in files.filter(|(index, _)| *index >= from) {
            if *index > self.index {
                (self.index, self.offset) = (*index, 0);
            }
            // One that was deleted after it was listed is passed over.
            let Ok(mut file) = File::open(path) else { continue };
            file.seek(SeekFrom::Start(self.offset)).ok()?;
            let mut bytes = Vec::new();
            file.take(FRAME as u64).read_to_end(&mut bytes).ok()?;
            if !bytes.is_empty() {
                self.offset += bytes.len() as u64;
                return Some((bytes, self.source.name(*index), self.offset));
            }
        }
        None
    }
}

/// `logs`: of a task, by its name and type.
pub(super) fn logs(site: &Site, request: &Request, allocation: &str) -> Reply {
    let refusal = |status, text: &str| Reply::refusal(status, text).with("Vary", "Origin");
    if allocation.is_empty() {
        return refusal(400, "must provide a valid alloc id");
    }
    let task = request.query("task").unwrap_or_default();
    if task.is_empty() {
        return refusal(400, "must provide task name");
    }
    let kind = request.query("type").unwrap_or_default();
    if !matches!(kind, "stdout" | "stderr") {
        return refusal(400, "must provide log type (stdout/stderr)");
    }
    let plain = request.flag("plain");
    let content_type = if plain { "text/plain" } else { "application/json" };
    // By now it has said which type its answer is of, whatever the answer.
    let late = |status, text: &str| {
        let reply = Reply::bytes(content_type, text.to_owned()).with("Vary", "Origin");
        Reply { status, ..reply }
    };
    let run = match files::locate(site, allocation) {
        Ok(run) => run,
        Err((status, text)) => return late(status, &text),
    };
    match run.log(task) {
        Log::NoSuchTask => return late(400, &format!("unknown task name {task:?}")),
        Log::NotStarted => {
            return late(404, &format!("task {task:?} not started yet. No logs available"));
        }
        Log::There => {}
    }
    let folder = run.dir.join("alloc/logs");
    if !folder.exists() {
        let folder = folder.display();
        let text = format!("failed to list entries: open {folder}: no such file or directory");
        return late(500, &text);
    }
    let source = Source::Rotated(folder, format!("{task}.{kind}"));
    pumped(site, request, source, content_type, plain, request.flag("follow"))
}

/// `stream`: of one file, in frames; follows unless told not to.
pub(super) fn stream(site: &Site, request: &Request, allocation: &str) -> Reply {
    let path = match files::file(site, request, allocation) {
        Ok(path) => path,
        Err((500, text)) if !text.starts_with("alloc lookup") => {
            return Reply::refusal(400, &text).with("Vary", "Origin");
        }
        Err((status, text)) => return Reply::refusal(status, &text).with("Vary", "Origin"),
    };
    let name = request.query("path").unwrap_or_default().to_owned();
    let follows = request.query("follow") != Some("false");
    let content_type = "text/plain; charset=utf-8";
    pumped(site, request, Source::Single(path, name), content_type, false, follows)
}

fn pumped(
    site: &Site,
    request: &Request,
    source: Source,
    content_type: &str,
    plain: bool,
    follow: bool,
) -> Reply {
    let offset = request.query("offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
    let from_end = request.query("origin") == Some("end");
    let last = source.files().last().map_or(0, |(index, _)| *index);
    let mut reader = Reader::new(source, offset, from_end);
    let framed = move |(bytes, name, offset): (Vec<u8>, String, u64)| match plain {
        true => Bytes::from(bytes),
        false => {
            let frame = json!({ "Data": STANDARD.encode(&bytes), "File": name, "Offset": offset });
            frame.to_string().into()
        }
    };
    let bound = (!follow).then_some(last);
    let first = reader.next(bound).map(framed);
    if first.is_none() && !follow {
        return Reply::bytes(content_type, "").with("Vary", "Origin");
    }
    let (sender, receiver) = mpsc::channel(2);
    let end = site.end.clone();
    let pump = async move {
        let mut next = first;
        let mut said = Instant::now();
        loop {
            match next {
                Some(bytes) => {
                    if sender.send(bytes).await.is_err() {
                        return;
                    }
                    said = Instant::now();
                }
                // The end of the task is no end of this.
                None if follow => {
                    tokio::select! {
                        () = tokio::time::sleep(POLL) => {}
                        () = sender.closed() => return,
                    }
                    if !plain && said.elapsed() >= HEARTBEAT {
                        if sender.send(Bytes::from_static(b"{}")).await.is_err() {
                            return;
                        }
                        said = Instant::now();
                    }
                }
                None => return,
            }
            next = reader.next(bound).map(framed);
        }
    };
    site.work.spawn(async move {
        tokio::select! {
            () = pump => {}
            () = end.cancelled() => {}
        }
    });
    Reply::stream(content_type, receiver).with("Vary", "Origin")
}
