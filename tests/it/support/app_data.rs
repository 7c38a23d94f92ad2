//! Where a daemon of a test keeps everything.

use std::path::PathBuf;

use tempfile::TempDir;

use super::disk::Disk;

/// Outlives the daemon; another may go on with it.
#[derive(Debug)]
pub(super) struct Data {
    /// Its disk, where it has one to itself. Unmounted first.
    pub(super) disk: Option<Disk>,
    pub(super) folder: TempDir,
}

impl Data {
    pub(super) fn new() -> Data {
        Data { disk: None, folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }
}
