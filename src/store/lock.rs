//! One daemon a data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::StoreError;

const LOCK_FILE: &str = "braindrill.lock";

/// The right to a data folder, until dropped. An flock(2): the kernel takes it back however the
/// process ends. It belongs to the open file, so no child process may inherit the descriptor (std
/// opens with O_CLOEXEC; a child that forks without exec closes it itself).
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the folder if need be and locks it.
    pub(super) fn take(data_dir: &Path) -> Result<DirectoryLock, StoreError> {
        let folder = |error: &std::io::Error| StoreError::folder(data_dir, error);
        std::fs::create_dir_all(data_dir).map_err(|error| folder(&error))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data_dir.join(LOCK_FILE))
            .map_err(|error| folder(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Empty, or of the one before, for an instant while its holder starts.
                let _ = file.read_to_string(&mut pid);
                let pid = match pid.trim() {
                    "" => "unknown".to_owned(),
                    pid => pid.to_owned(),
                };
                return Err(StoreError::InUse { path: data_dir.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(folder(&error)),
        }
        // Over what was there: on a full disk nothing that is given back would be had again.
        let pid = format!("{}\n", std::process::id());
        file.write_all_at(pid.as_bytes(), 0)
            .and_then(|()| file.set_len(pid.len() as u64))
            .map_err(|error| folder(&error))?;
        Ok(DirectoryLock { _file: file })
    }
}
