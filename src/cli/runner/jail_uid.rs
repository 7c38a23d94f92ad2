//! The user that a runner's jail runs as: one that no other runner on this machine has now.
//!
//! Nomad starts runners that know nothing of each other. Each holds the lock of a file that stands
//! for a uid, for as long as it lives: the kernel lets go of it however the runner ends.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::unistd::geteuid;
use tracing::warn;

use crate::sandbox::SandboxConfig;

/// Only root writes to its parent.
const FOLDER: &str = "/run/braindrill-uids";

/// Beyond what a daemon's own slots take, and below what systemd hands out (61184 and up).
const FIRST: u32 = SandboxConfig::FIRST_UID + 256;

/// Far more than a node runs at once.
const COUNT: u32 = 512;

/// A uid of our own, until this is dropped.
#[derive(Debug)]
pub(super) struct JailUid {
    uid: u32,
    _lock: File,
}

impl JailUid {
    /// Takes a free one. None as an ordinary user, whose jails run as that user in any case; nor
    /// where none can be had, which is said: the jail then shares a uid, as its layers do not.
    pub(super) fn claim() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        match Self::claim_in(Path::new(FOLDER)) {
            Ok(claimed) => Some(claimed),
            Err(problem) => {
                warn!(%problem, "no uid of its own for this jail");
                None
            }
        }
    }

    fn claim_in(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for uid in FIRST..FIRST + COUNT {
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(folder.join(uid.to_string()))?;
            match lock.try_lock() {
                Ok(()) => return Ok(JailUid { uid, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(problem)) => return Err(problem),
            }
        }
        Err(io::Error::other(format!("all {COUNT} are taken")))
    }

    pub(super) fn uid(&self) -> u32 {
        self.uid
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_runners_have_the_same_uid_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("uids");
        let mut claimed: Vec<_> = (0..COUNT).map(|_| JailUid::claim_in(&folder).unwrap()).collect();
        let uids: BTreeSet<_> = claimed.iter().map(JailUid::uid).collect();
        assert_eq!(uids.len(), COUNT as usize);
        assert!(JailUid::claim_in(&folder).is_err());
        let given_back = claimed.pop().map(|last| last.uid());
        assert_eq!(Some(JailUid::claim_in(&folder).unwrap().uid()), given_back);
    }
}
