//! Files of the work directory, taken back to where we are.

use std::{
    fs,
    path::{Component, Path},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::client::{Server, path_of, table::plain, text};

/// Saves the files that a daemon has taken of a submission below `folder`, and says what there is none of.
///
/// # Errors
/// One cannot be read or written.
pub(super) async fn fetch(
    server: &Server,
    submission: &Value,
    folder: &Path,
) -> anyhow::Result<()> {
    let path = format!("{}/files", path_of(text(submission, "/id"))?);
    for file in of(submission) {
        let name = text(file, "/path");
        if is_there(file) {
            let content = server.bytes(&path, &[("path", name.to_owned())]).await?;
            save(folder, name, &content)?;
        }
    }
    Ok(())
}

/// The same of what was run here.
///
/// # Errors
/// One cannot be written.
pub(super) fn keep(submission: &Value, contents: &[Vec<u8>], folder: &Path) -> anyhow::Result<()> {
    for (index, file) in of(submission).enumerate() {
        if is_there(file) {
            save(folder, text(file, "/path"), contents.get(index).map_or(&[], Vec::as_slice))?;
        }
    }
    Ok(())
}

fn of(submission: &Value) -> impl Iterator<Item = &Value> {
    submission["outcome"]["files"].as_array().into_iter().flatten()
}

/// Whether it was taken; says so if not.
fn is_there(file: &Value) -> bool {
    let missed = file["missed"].as_str();
    if let Some(why) = missed {
        eprintln!("braindrill: {} {}", plain(text(file, "/path")), plain(why));
    }
    missed.is_none()
}

fn save(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let relative = Path::new(name);
    if name.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        bail!("`{}` is no path of a file that would be saved here", plain(name));
    }
    let path = folder.join(relative);
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, content)
    };
    write().with_context(|| format!("cannot write {}", plain(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_saved_below_the_folder_and_nowhere_else() {
        let folder = tempfile::tempdir().expect("tempdir");
        let submission = json!({ "outcome": { "files": [
            { "path": "plots/a.png", "bytes": 3 },
            { "path": "b", "bytes": 0, "missed": "is not there" },
            { "path": "c", "bytes": 1 },
        ] } });
        let contents = [b"abc".to_vec(), Vec::new(), b"c".to_vec()];
        keep(&submission, &contents, folder.path()).expect("kept");
        assert_eq!(fs::read(folder.path().join("plots/a.png")).expect("there"), b"abc");
        assert_eq!(fs::read(folder.path().join("c")).expect("there"), b"c");
        assert!(!folder.path().join("b").exists());
        for name in ["../x", "/tmp/x", "", "a/../../x"] {
            assert!(save(folder.path(), name, b"x").is_err(), "{name}");
        }
    }
}
