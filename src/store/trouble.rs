//! Whether the writer can write, as far as is known.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::StoreError;

/// Bytes that have to be free before a disk that was full is no more: on one without any, SQLite
/// still writes over what its log has set aside, so that a small change that was made says nothing
/// of the next.
const ROOM_BYTES: u64 = 4 << 20;

/// Why writing failed last.
#[derive(Debug)]
pub(super) struct Trouble {
    data_dir: PathBuf,
    failing: AtomicBool,
    last: Mutex<Option<StoreError>>,
}

impl Trouble {
    /// None yet.
    pub(super) fn new(data_dir: &Path) -> Trouble {
        let data_dir = data_dir.to_owned();
        Trouble { data_dir, failing: AtomicBool::new(false), last: Mutex::new(None) }
    }

    /// Takes note of what became of a transaction.
    pub(super) fn note(&self, result: &Result<(), StoreError>) {
        let failed = result.is_err();
        if !failed && !self.failing.load(Ordering::Acquire) {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !failed && *last == Some(StoreError::Full) && !self.has_room() {
            return;
        }
        if let Err(error) = result
            && last.as_ref() != Some(error)
        {
            tracing::error!(%error, "the store cannot write");
        } else if !failed {
            tracing::info!("the store can write again");
        }
        *last = result.clone().err();
        self.failing.store(failed, Ordering::Release);
    }

    /// Why writing failed, if nothing was written since that shows that it does no more.
    pub(super) fn now(&self) -> Option<StoreError> {
        if !self.failing.load(Ordering::Acquire) {
            return None;
        }
        self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn has_room(&self) -> bool {
        // Where it cannot be seen, what was written counts.
        nix::sys::statvfs::statvfs(&self.data_dir)
            .map_or(true, |disk| disk.blocks_available() * disk.fragment_size() >= ROOM_BYTES)
    }
}
