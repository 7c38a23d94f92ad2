//! The folder for a worker's compiled programs: named, a Nomad task's, or one of its own among the
//! temporary files, of which those go too that workers left when they were killed.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::unistd::geteuid;
use tracing::{info, warn};

/// How the names of workers' own folders begin.
const PREFIX: &str = "braindrill-worker-";

/// How often a folder is made anew that others removed before it was held.
const TRIES: u32 = 100;

/// Where compiled programs are kept. One of our own is removed when this is dropped.
#[derive(Debug)]
pub(super) struct WorkFolder {
    path: PathBuf,
    /// Held while this lives, so that others see that it is in use; of an own one alone.
    lock: Option<File>,
}

impl WorkFolder {
    /// The folder that was named, else that of a Nomad task, else an own one.
    ///
    /// # Errors
    /// An own one cannot be made.
    pub(super) fn open(named: Option<PathBuf>, id: &str) -> anyhow::Result<WorkFolder> {
        let in_task = || Some(PathBuf::from(std::env::var_os("NOMAD_TASK_DIR")?).join("work"));
        if let Some(path) = named.or_else(in_task) {
            return Ok(WorkFolder { path, lock: None });
        }
        WorkFolder::own(&std::env::temp_dir(), id)
    }

    fn own(parent: &Path, id: &str) -> anyhow::Result<WorkFolder> {
        for (left, _lock) in left_behind(parent).unwrap_or_default() {
            info!(folder = %left.display(), "removing what a worker left that was killed");
            remove(&left);
        }
        let path = parent.join(format!("{PREFIX}{id}"));
        for _ in 0..TRIES {
            // Fails where there is anything of this name, a link included.
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.with_context(|| format!("cannot make {}", path.display()))?;
            if let Some(lock) =
                locked(&path).with_context(|| format!("cannot lock {}", path.display()))?
            {
                return Ok(WorkFolder { path, lock: Some(lock) });
            }
        }
        anyhow::bail!("{} is removed again and again by workers that start", path.display())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.lock.is_some() {
            remove(&self.path);
        }
    }
}

/// Holds a folder that was just made; none where another worker took it, before it was held, for one that
/// was left, and has removed it.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let folder = match File::open(path) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // Waits for another that is about to remove it.
    folder.lock()?;
    Ok(is_at(&folder, path).then_some(folder))
}

/// Whether this is the folder of that name still, and not one that was removed.
fn is_at(folder: &File, path: &Path) -> bool {
    let [ours, there] = [folder.metadata(), std::fs::symlink_metadata(path)];
    ours.is_ok_and(|ours| there.is_ok_and(|there| there.ino() == ours.ino()))
}

/// The folders of workers of this user that nobody holds any more; held here, so that nobody takes one
/// up while it is removed.
fn left_behind(parent: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let mut left = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let Ok(entry) = entry else { continue };
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Of the entry itself, not of what a link names.
        let Ok(metadata) = entry.metadata() else { continue };
        if !is_one || !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        // Of those that are held here, nobody else removes one and has another take its name.
        if folder.try_lock().is_ok() && is_at(&folder, &entry.path()) {
            left.push((entry.path(), folder));
        }
    }
    Ok(left)
}

fn remove(path: &Path) {
    if let Err(problem) = std::fs::remove_dir_all(path)
        && problem.kind() != io::ErrorKind::NotFound
    {
        warn!(%problem, folder = %path.display(), "a folder stays behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_worker_left_goes_and_what_is_in_use_or_no_workers_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let used = WorkFolder::own(dir.path(), "used").unwrap();
        for name in ["braindrill-worker-left/programs", "other", "precious"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("precious"), path("braindrill-worker-link")).unwrap();
        let own = WorkFolder::own(dir.path(), "own").unwrap();
        assert!(used.path().is_dir() && own.path().is_dir() && path("other").is_dir());
        assert!(path("precious").is_dir() && !path("braindrill-worker-left").exists());
        assert!(WorkFolder::own(dir.path(), "own").is_err(), "it is there");
        let (used, own) = (used.path().to_owned(), own.path().to_owned());
        assert!(used.exists() && own.exists());
    }

    #[test]
    fn workers_that_start_at_once_leave_each_other_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let start = |worker: usize| {
            for number in 0..200 {
                let own = WorkFolder::own(dir.path(), &format!("{worker}-{number}")).unwrap();
                assert!(own.path().is_dir(), "{}", own.path().display());
                std::thread::yield_now();
                assert!(own.path().is_dir(), "{}", own.path().display());
            }
        };
        std::thread::scope(|scope| {
            (0..8).for_each(|worker| drop(scope.spawn(move || start(worker))));
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_own_folder_goes_and_a_named_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let own = WorkFolder::own(dir.path(), "own").unwrap();
        let path = own.path().to_owned();
        drop(own);
        assert!(!path.exists());
        let named = WorkFolder::open(Some(dir.path().to_owned()), "x").unwrap();
        drop(named);
        assert!(dir.path().is_dir());
    }
}
