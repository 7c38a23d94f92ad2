//! Programs that were compiled before, with the reports on their compiles: a folder of the daemon's (or
//! the worker's) with a file for each, named by its key. No jail is ever shown it: a hit is a copy of
//! its own, as a compile would have left it.
//!
//! ```text
//!  key (whatever reaches the compile step) ── find ──> a copy in a fresh program folder, checked
//!                                    │ none
//!                                    └── compile ── keep ──> N.new ── rename ──> <key>
//! ```
//!
//! Two that compile the same at once both do so, and the first to end is kept: to wait for another's
//! compile would hold a slot for nothing when that one fails or is cancelled. Nothing is synced to the
//! disk: what a power failure leaves is told from a program by its digest, and costs a compile.

mod entry;
mod index;
mod key;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};

use self::{entry::Unusable, index::Index};
pub(super) use self::{
    index::Bounds,
    key::{Ingredients, Key},
};
use super::folder::{ProgramFolder, WorkDir};
use crate::submission::CompileReport;

/// What the name of an entry ends with while it is written.
const UNFINISHED: &str = ".new";

/// Digits of the name of an entry.
const DIGITS: usize = 2 * blake3::OUT_LEN;

/// The kept programs of an engine. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct CompileCache {
    /// Absent where nothing is kept.
    kept: Option<Arc<Kept>>,
}

#[derive(Debug)]
struct Kept {
    folder: PathBuf,
    bounds: Bounds,
    index: Mutex<Index>,
    /// Held while an entry is written: the bound holds at every instant then.
    writing: Mutex<()>,
    /// Of the next entry that is written.
    next: AtomicU64,
    /// Whether the last one could not be kept, and it was said.
    is_failing: AtomicBool,
}

impl CompileCache {
    /// One that keeps nothing.
    pub(super) fn off() -> CompileCache {
        CompileCache::default()
    }

    /// What is kept in `folder`, within `bounds`. What an earlier process did not finish there is
    /// removed, and all of it when nothing may be kept.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub(super) fn open(folder: PathBuf, bounds: Bounds) -> io::Result<CompileCache> {
        if bounds.bytes == 0 {
            remove_all(&folder)?;
            return Ok(CompileCache::off());
        }
        make(&folder)?;
        let kept = Kept {
            index: Mutex::new(scan(&folder)?),
            folder,
            bounds,
            writing: Mutex::new(()),
            next: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
        };
        kept.give_way_to(0);
        Ok(CompileCache { kept: Some(Arc::new(kept)) })
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.kept.is_some()
    }

    /// A program that was compiled before, in a folder of its own, and how that went.
    pub(super) async fn find(
        &self,
        key: Key,
        work: &WorkDir,
    ) -> Option<(ProgramFolder, CompileReport)> {
        let kept = self.kept.clone().filter(|kept| kept.lock().contains(&key))?;
        let folder = work.new_folder().ok()?;
        let found = move || kept.take(&key, folder.path()).map(|report| (folder, report));
        // To copy up to 64 MiB takes a while, and the threads here attend to programs. An error says
        // that the runtime ends.
        tokio::task::spawn_blocking(found).await.ok().flatten()
    }

    /// Keeps what a successful compile made. A failure costs a warning.
    pub(super) async fn keep(
        &self,
        key: Key,
        program: &ProgramFolder,
        report: &CompileReport,
        work: &WorkDir,
    ) {
        let Some(kept) = self.kept.clone() else { return };
        // What others were promised stays free.
        let (program, report, spare) =
            (program.path().to_owned(), report.clone(), work.promised_bytes());
        let keep = move || kept.put(&key, &program, &report, spare);
        let _ = tokio::task::spawn_blocking(keep).await;
    }

    /// Gives up the entry that was not used for longest, where that frees something of the disk of
    /// `path`. Says whether it did.
    pub(super) fn give_way(&self, path: &Path) -> bool {
        let Some(kept) = &self.kept else { return false };
        let is_same = match (path.metadata(), kept.folder.metadata()) {
            (Ok(one), Ok(other)) => one.dev() == other.dev(),
            _ => false,
        };
        is_same && kept.remove_oldest()
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(key.to_hex().as_str())
    }

    fn take(&self, key: &Key, into: &Path) -> Option<CompileReport> {
        let path = self.path(key);
        match entry::unpack(&path, key, into) {
            Ok(report) => {
                self.lock().touch(key);
                // So that the order outlives this process.
                let now = TimeSpec::UTIME_NOW;
                let flags = UtimensatFlags::NoFollowSymlink;
                let _ = utimensat(AT_FDCWD, &path, &now, &now, flags);
                return Some(report);
            }
            // Whoever clears the cache may do so while it is in use.
            Err(Unusable::Host(error)) if error.kind() == io::ErrorKind::NotFound => {}
            // Not its own fault.
            Err(Unusable::Host(error)) if error.kind() == io::ErrorKind::StorageFull => {
                return None;
            }
            Err(Unusable::Host(error)) => {
                tracing::warn!(%error, "a kept program cannot be used; compiling it anew");
            }
            Err(Unusable::Damaged(what)) => {
                tracing::warn!(what, "a kept program is damaged; compiling it anew");
            }
        }
        self.remove(key);
        None
    }

    fn put(&self, key: &Key, program: &Path, report: &CompileReport, spare: u64) {
        let result = self.try_put(key, program, report, spare);
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        if let Err(error) = result
            && !was_failing
        {
            tracing::warn!(%error, folder = %self.folder.display(), "a compiled program cannot be kept");
        }
    }

    fn try_put(
        &self,
        key: &Key,
        program: &Path,
        report: &CompileReport,
        spare: u64,
    ) -> io::Result<()> {
        let contents = entry::Contents::of(program, key, report)?;
        let bytes = contents.bytes();
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > self.bounds.bytes || self.lock().contains(key) {
            return Ok(());
        }
        self.give_way_to(bytes);
        make(&self.folder)?;
        while free_bytes(&self.folder)? < bytes.saturating_add(spare) {
            if !self.remove_oldest() {
                // Not worth a warning: whoever has to do with the disk is told by others.
                tracing::debug!(bytes, "the disk has no room to keep a compiled program");
                return Ok(());
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let written =
            contents.write(&unfinished).and_then(|()| std::fs::rename(&unfinished, self.path(key)));
        match written {
            Ok(()) => self.lock().insert(*key, bytes),
            Err(_) => drop(std::fs::remove_file(&unfinished)),
        }
        written
    }

    /// Makes room within the bounds for another entry of so many bytes.
    fn give_way_to(&self, bytes: u64) {
        loop {
            let fits = self.lock().fits(bytes, self.bounds);
            if fits || !self.remove_oldest() {
                return;
            }
        }
    }

    /// Says whether there was one.
    fn remove_oldest(&self) -> bool {
        let oldest = self.lock().oldest();
        oldest.inspect(|key| self.remove(key)).is_some()
    }

    /// Whoever is copying it goes on: the file goes with the last that has it open.
    fn remove(&self, key: &Key) {
        // In this order: what is written anew meanwhile may be missing then, which shows when it is
        // looked for, but is never there uncounted.
        self.lock().remove(key);
        if let Err(error) = std::fs::remove_file(self.path(key))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %self.folder.display(), "a kept program cannot be removed");
        }
    }
}

/// Makes the folder where it is missing. Nobody else reads it.
fn make(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Takes stock: what was used last comes last. Removes what was not finished. What has another name is
/// not ours and stays.
fn scan(folder: &Path) -> io::Result<Index> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Of the entry itself, not of what a link names.
        let metadata = entry.metadata()?;
        if name.ends_with(UNFINISHED) {
            std::fs::remove_file(entry.path())?;
        } else if let Some(key) = key_of(name).filter(|_| metadata.is_file()) {
            found.push(((metadata.mtime(), metadata.mtime_nsec()), key, metadata.len()));
        }
    }
    found.sort_unstable_by_key(|(used, _, _)| *used);
    let mut index = Index::default();
    found.into_iter().for_each(|(_, key, bytes)| index.insert(key, bytes));
    Ok(index)
}

/// Removes all that is ours.
fn remove_all(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(UNFINISHED) || key_of(name).is_some()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn key_of(name: &str) -> Option<Key> {
    let is_ours = name.len() == DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit());
    Key::from_hex(name).ok().filter(|_| is_ours)
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = nix::sys::statvfs::statvfs(folder)?;
    Ok(disk.blocks_available() as u64 * disk.fragment_size() as u64)
}
