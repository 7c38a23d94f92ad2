//! A disk small enough to be filled.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::skip;

/// A tmpfs at a folder, until dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one; `None`, and the test is counted as skipped, where this process may not.
    pub(crate) fn mount(at: &Path, bytes: u64) -> Option<Disk> {
        let options = format!("size={bytes},mode=700");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options.as_str())) {
            Ok(()) => Some(Disk { at: at.to_owned() }),
            Err(error) => {
                skip(&format!("cannot mount a small disk ({error}): it needs root"));
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still has a file open there keeps it until then, and no path leads to it.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

/// Writes a file until the disk has no room for another byte.
pub(crate) fn fill(path: &Path) {
    let mut file = File::options().append(true).create(true).open(path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        loop {
            match file.write(&vec![b'x'; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
