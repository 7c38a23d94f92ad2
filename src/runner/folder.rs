//! Folders of the host that hold compiled programs, each for as long as one attempt needs it.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{caches::Caches, compile_cache::CompileCache};
use crate::{
    sandbox::{JailFile, MAX_COLLECTED_BYTES},
    submission::Blob,
};

/// What the names of our folders begin with: nothing else is ever removed.
const PREFIX: &str = "program-";

/// Where an engine's program folders are.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
    pub(super) caches: Caches,
    /// Programs that were compiled before. They give way where there is no room for others.
    pub(super) compiled: CompileCache,
    next: AtomicU64,
    /// Programs that are being compiled: each may yet need [`MAX_COLLECTED_BYTES`].
    promised: watch::Sender<u64>,
}

/// Room for one more program of whatever size, until dropped.
#[derive(Debug)]
pub(super) struct Room<'a>(&'a watch::Sender<u64>);

/// One folder; removed with all it holds when dropped.
#[derive(Debug)]
pub(super) struct ProgramFolder {
    path: PathBuf,
}

impl WorkDir {
    /// Makes the folder where it is missing, and removes what an earlier process left in it. From
    /// here on it has its one true path: helpers have another working directory, and a jail is built
    /// where links of the host lead nowhere.
    pub(super) fn open(
        path: PathBuf,
        caches: PathBuf,
        compiled: CompileCache,
    ) -> io::Result<WorkDir> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let path = path.canonicalize()?;
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                // Links are removed, never followed: std opens each folder with O_NOFOLLOW.
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        let caches = Caches::at(std::path::absolute(caches)?);
        let (next, promised) = (AtomicU64::new(0), watch::Sender::new(0));
        Ok(WorkDir { path, caches, compiled, next, promised })
    }

    /// Whether another compiled program of whatever size has room.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(super) fn check_room(&self) -> Result<(), String> {
        match self.free_bytes(MAX_COLLECTED_BYTES) {
            Ok(free) if free >= MAX_COLLECTED_BYTES => Ok(()),
            Ok(free) => Err(format!(
                "the disk for compiled programs is full: {free} bytes are free, and \
                 {MAX_COLLECTED_BYTES} may be needed; free some space"
            )),
            Err(error) => {
                tracing::warn!(%error, "cannot see how full the disk for compiled programs is");
                Err("the disk for compiled programs cannot be used".to_owned())
            }
        }
    }

    /// What is free of the disk; less than `wanted` only where no kept program could give way.
    fn free_bytes(&self, wanted: u64) -> io::Result<u64> {
        loop {
            let disk = nix::sys::statvfs::statvfs(&self.path)?;
            let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
            if free >= wanted || !self.compiled.give_way(&self.path) {
                return Ok(free);
            }
        }
    }

    /// The most that programs which are being compiled may yet need.
    pub(super) fn promised_bytes(&self) -> u64 {
        *self.promised.borrow() * MAX_COLLECTED_BYTES
    }

    /// Waits until another program has room beside those that are being compiled. Where there are
    /// none, it gets what there is: nearly all programs are small.
    pub(super) async fn room(&self) -> Room<'_> {
        loop {
            // Subscribed before looking: what comes in between wakes the wait below.
            let mut changes = self.promised.subscribe();
            let is_given = self.promised.send_if_modified(|promised| {
                let free = self.free_bytes((*promised + 1) * MAX_COLLECTED_BYTES);
                let is_room =
                    *promised == 0 || free.is_ok_and(|free| free / MAX_COLLECTED_BYTES > *promised);
                *promised += u64::from(is_room);
                is_room
            });
            if is_given {
                return Room(&self.promised);
            }
            // The sender is in this struct, so the channel is open.
            let _ = changes.changed().await;
        }
    }

    /// Whether programs are likely to find no room.
    pub(super) fn is_full(&self) -> bool {
        self.free_bytes(MAX_COLLECTED_BYTES).is_ok_and(|free| free < MAX_COLLECTED_BYTES)
    }

    /// A new, empty folder that a jail may be shown.
    pub(super) fn new_folder(&self) -> io::Result<ProgramFolder> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&path)?;
        let folder = ProgramFolder { path };
        // Whatever the umask is: the jail's user has to read it.
        std::fs::set_permissions(&folder.path, std::fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }
}

impl ProgramFolder {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all its files.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        bytes_below(&self.path)
    }

    /// All its files, read; `None` where they are more than so many, or more bytes.
    pub(super) fn files(&self, (most, bytes): (usize, u64)) -> io::Result<Option<Vec<JailFile>>> {
        let (mut files, mut left) = (Vec::new(), bytes);
        let mut folders = vec![(self.path.clone(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { return Ok(None) };
                let (path, metadata) = (format!("{prefix}{name}"), entry.metadata()?);
                if metadata.is_dir() {
                    folders.push((entry.path(), format!("{path}/")));
                    continue;
                }
                let Some(rest) = left.checked_sub(metadata.len()).filter(|_| files.len() < most)
                else {
                    return Ok(None);
                };
                left = rest;
                files.push(JailFile { path, content: Blob::from(std::fs::read(entry.path())?) });
            }
        }
        Ok(Some(files))
    }
}

/// What is collected is at most a thousand files and sixteen folders deep. No link is followed.
fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|promised| *promised -= 1);
    }
}

impl Drop for ProgramFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "cannot remove the folder of a compiled program");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: PathBuf) -> io::Result<WorkDir> {
        let caches = path.with_file_name("caches");
        WorkDir::open(path, caches, CompileCache::off())
    }

    #[test]
    fn a_folder_goes_with_its_guard_and_links_in_it_are_not_followed() {
        let outside = tempfile::tempdir().expect("tempdir");
        let precious = outside.path().join("precious");
        std::fs::write(&precious, "x").expect("write");
        let root = tempfile::tempdir().expect("tempdir");
        let work = open(root.path().join("work")).expect("open");
        let folder = work.new_folder().expect("folder");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("dir")).expect("symlink");
        std::os::unix::fs::symlink(&precious, folder.path().join("file")).expect("symlink");
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert!(precious.exists());
    }

    #[test]
    fn a_folder_counts_the_bytes_of_its_files_at_any_depth() {
        let root = tempfile::tempdir().expect("tempdir");
        let work = open(root.path().to_owned()).expect("open");
        let folder = work.new_folder().expect("folder");
        assert_eq!(folder.bytes().expect("readable"), 0);
        std::fs::create_dir_all(folder.path().join("a/b")).expect("create");
        for (path, bytes) in [("one", 1), ("a/two", 20), ("a/b/three", 300)] {
            std::fs::write(folder.path().join(path), vec![b'x'; bytes]).expect("write");
        }
        assert_eq!(folder.bytes().expect("readable"), 321);
    }

    #[test]
    fn what_an_earlier_process_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(root.path().join("program-1-7/deep")).expect("create");
        std::fs::write(root.path().join("other"), "x").expect("write");
        open(root.path().to_owned()).expect("open");
        assert!(!root.path().join("program-1-7").exists());
        assert!(root.path().join("other").exists());
    }
}
