//! Files of the work directory, taken back to where we are.

use std::{
    fs,
    path::{Component, Path},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Args;
use crate::cli::client::{Server, path_of, table::plain, text};

/// How often a daemon is asked for a file that it does not send: it may be restarting.
const TRIES: u32 = 6;
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(500);

/// What became of the files that were wanted.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// What there is to say, a line each.
    pub(super) notes: Vec<String>,
    /// Whether one that is there was not saved.
    pub(super) is_incomplete: bool,
}

/// Saves the files that a daemon has taken of a submission.
pub(super) async fn fetch(server: &Server, submission: &Value, args: &Args) -> Saved {
    let mut saved = Saved::default();
    for file in of(submission) {
        if saved.is_there(file) {
            let name = text(file, "/path");
            let content = read(server, submission, name).await;
            saved.note(content.and_then(|content| save(args, name, &content)));
        }
    }
    saved
}

/// The same of what was run here.
pub(super) fn keep(submission: &Value, contents: &[Vec<u8>], args: &Args) -> Saved {
    let mut saved = Saved::default();
    for (index, file) in of(submission).enumerate() {
        if saved.is_there(file) {
            let content = contents.get(index).map_or(&[][..], Vec::as_slice);
            saved.note(save(args, text(file, "/path"), content));
        }
    }
    saved
}

async fn read(server: &Server, submission: &Value, name: &str) -> anyhow::Result<bytes::Bytes> {
    let path = format!("{}/files", path_of(text(submission, "/id"))?);
    let mut tries = 0;
    loop {
        tries += 1;
        match server.bytes(&path, &[("path", name.to_owned())]).await {
            Err(_) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            read => return read,
        }
    }
}

fn of(submission: &Value) -> impl Iterator<Item = &Value> {
    submission["outcome"]["files"].as_array().into_iter().flatten()
}

impl Saved {
    /// Whether it was taken; notes why not.
    fn is_there(&mut self, file: &Value) -> bool {
        let missed = file["missed"].as_str();
        if let Some(why) = missed {
            self.notes.push(format!("{} {}", plain(text(file, "/path")), plain(why)));
        }
        missed.is_none()
    }

    fn note(&mut self, saved: anyhow::Result<()>) {
        if let Err(error) = saved {
            self.is_incomplete = true;
            self.notes.push(format!("{error:#}"));
        }
    }
}

/// Saves one that was asked for, and no other: what is sent has its name from a stranger.
fn save(args: &Args, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let relative = Path::new(name);
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !is_plain || !args.collect.iter().any(|it| relative.starts_with(it)) {
        bail!("`{}` is no file that was asked for", plain(name));
    }
    let path = args.into.join(relative);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(&args.into))?;
        fs::write(&path, content)
    };
    write().with_context(|| format!("cannot write {}", plain(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn files_that_were_asked_for_are_saved_below_the_folder_and_no_others() {
        let folder = tempfile::tempdir().expect("tempdir");
        let into = folder.path().to_str().expect("text");
        let words = ["run", "--collect", "plots/", "--collect", "b", "--collect", "c"];
        let words = words.into_iter().chain(["--into", into, "x.py"]);
        let args = Line::try_parse_from(words).expect("a command line").args;
        let submission = json!({ "outcome": { "files": [
            { "path": "plots/a.png", "bytes": 3 },
            { "path": "b", "bytes": 0, "missed": "is not there" },
            { "path": "c/", "bytes": 1 },
            { "path": ".bashrc", "bytes": 1 },
            { "path": "c", "bytes": 1 },
        ] } });
        let contents = ["abc", "", "x", "evil", "c"].map(|text| text.as_bytes().to_vec());
        std::fs::create_dir(folder.path().join("c")).expect("in the way");
        let saved = keep(&submission, &contents, &args);
        assert_eq!(fs::read(folder.path().join("plots/a.png")).expect("there"), b"abc");
        assert!(saved.is_incomplete && saved.notes.len() == 4, "{saved:?}");
        assert_eq!(saved.notes[0], "b is not there");
        assert!(!folder.path().join(".bashrc").exists());
        for name in ["../x", "/tmp/x", "", "plots/../../x", "plots2", "plot"] {
            assert!(save(&args, name, b"x").is_err(), "{name}");
        }
    }
}
