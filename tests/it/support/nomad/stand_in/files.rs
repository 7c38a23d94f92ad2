//! Files in an allocation's folder.

use std::{
    fs::Metadata,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    exchange::{Reply, Request},
    routes::{Refusal, Site, refused},
    run::Run,
    stamps,
};

/// The allocation as its node has it, from the node itself or through the server.
pub(super) fn locate(site: &Site, allocation: &str) -> Result<Arc<Run>, Refusal> {
    if allocation.is_empty() {
        return Err((400, "must provide a valid alloc id".to_owned()));
    }
    if allocation.len() != 36 {
        let text = "alloc lookup failed: index error: UUID must be 36 characters";
        return Err((500, text.to_owned()));
    }
    let unknown = || (404, format!("Unknown allocation {allocation:?}"));
    if let Some(run) = site.node.as_ref().and_then(|node| node.run(allocation)) {
        return Ok(run);
    }
    if !site.cluster.server_is_up() {
        return Err((500, "no servers".to_owned()));
    }
    let node = site
        .cluster
        .read(|tables| tables.allocations.get(allocation).map(|each| each.node_id.clone()));
    let node = node.ok_or_else(unknown)?;
    let node = site.cluster.node(&node).filter(|node| node.is_up());
    let node = node.ok_or_else(|| (404, "No path to node".to_owned()))?;
    node.run(allocation).ok_or_else(unknown)
}

/// A path in an allocation's folder.
pub(super) fn inside(run: &Run, path: &str) -> Result<PathBuf, Refusal> {
    let mut whole = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir if !whole.pop() => {
                return Err((500, "Path escapes the alloc directory".to_owned()));
            }
            _ => {}
        }
    }
    Ok(run.dir.join(whole))
}

/// As Go words it.
fn worded(call: &str, path: &Path, error: &std::io::Error) -> Refusal {
    let what = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => error.to_string(),
    };
    (500, format!("{call} {}: {what}", path.display()))
}

/// A file that is named and there.
pub(super) fn file(site: &Site, request: &Request, allocation: &str) -> Result<PathBuf, Refusal> {
    let name = request.query("path").unwrap_or_default();
    if name.is_empty() {
        return Err((400, "must provide a file name".to_owned()));
    }
    let run = locate(site, allocation)?;
    let path = inside(&run, name)?;
    let metadata = std::fs::metadata(&path).map_err(|error| worded("stat", &path, &error))?;
    if metadata.is_dir() {
        return Err((400, format!("file {name:?} is a directory")));
    }
    Ok(path)
}

/// `cat` and `readat`. Of an error only the lack of two headers tells: the status is 200.
pub(super) fn content(site: &Site, request: &Request, what: &str, allocation: &str) -> Reply {
    let read = || {
        let path = file(site, request, allocation)?;
        let number = |name: &str| {
            let given = request.query(name).unwrap_or_default();
            given.parse::<u64>().map_err(|_| {
                let parsing = format!("strconv.ParseInt: parsing {given:?}: invalid syntax");
                (400, format!("error parsing {name}: {parsing}"))
            })
        };
        let failed = |error: std::io::Error| worded("open", &path, &error);
        if what == "cat" {
            return std::fs::read(&path).map_err(failed);
        }
        let (offset, limit) = (number("offset")?, number("limit")?);
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    };
    match read() {
        Err((_, text)) => Reply { status: 200, ..Reply::refusal(200, &text) },
        Ok(bytes) => Reply::bytes(content_type(&bytes), bytes)
            .with(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; sandbox",
            )
            .with("X-Content-Type-Options", "nosniff")
            .with("X-XSS-Protection", "1; mode=block"),
    }
    .with("Vary", "Origin")
}

/// As Go's `DetectContentType`, of which only two answers matter here.
fn content_type(bytes: &[u8]) -> &'static str {
    let binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if bytes.iter().take(512).any(binary) {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

pub(super) fn list(site: &Site, request: &Request, allocation: &str) -> Reply {
    let list = || {
        let run = locate(site, allocation)?;
        let path = inside(&run, request.query("path").unwrap_or("/"))?;
        let entries = std::fs::read_dir(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotADirectory => worded("readdirent", &path, &error),
            _ => worded("open", &path, &error),
        })?;
        let described = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name.clone(), describe(&name, &entry.metadata().ok()?)))
        };
        let mut entries: Vec<_> = entries.flatten().filter_map(described).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(entries.into_iter().map(|(_, entry)| entry).collect::<Vec<Value>>().into())
    };
    list().map_or_else(refused, |list| Reply::json(&list)).with("Vary", "Origin")
}

pub(super) fn stat(site: &Site, request: &Request, allocation: &str) -> Reply {
    let stat = || {
        let name = request.query("path").unwrap_or_default();
        if name.is_empty() {
            return Err((400, "must provide a file name".to_owned()));
        }
        let path = inside(&*locate(site, allocation)?, name)?;
        let metadata = std::fs::metadata(&path).map_err(|error| worded("stat", &path, &error))?;
        let base = path.file_name().unwrap_or_default().to_string_lossy();
        let mut whole = describe(&base, &metadata);
        let head = std::fs::read(&path).unwrap_or_else(|_| vec![0]);
        whole["ContentType"] = content_type(&head).into();
        Ok(whole)
    };
    stat().map_or_else(refused, |stat| Reply::json(&stat)).with("Vary", "Origin")
}

fn describe(name: &str, metadata: &Metadata) -> Value {
    let mode = metadata.permissions().mode();
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_fifo() => 'p',
        kind if kind.is_symlink() => 'L',
        _ => '-',
    };
    let bit = |(place, letter): (usize, char)| {
        if mode & (0o400 >> place) == 0 { '-' } else { letter }
    };
    let letters: String = "rwxrwxrwx".chars().enumerate().map(bit).collect();
    let since = metadata.modified().ok();
    let since = since.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = since.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0);
    json!({
        "FileMode": format!("{kind}{letters}"), "IsDir": metadata.is_dir(),
        "ModTime": stamps::rfc3339(modified), "Name": name, "Size": metadata.len(),
    })
}
