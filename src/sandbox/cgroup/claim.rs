//! The folders of instances, `braindrill-<instance>`, and whether anybody lives who works in them.
//!
//! Whoever works in one holds a shared lock of the folder itself (flock(2)): the launcher, and by fork
//! each of its helpers. The kernel lets go of it when the last of them is dead, however they died.
//! Whoever removes one holds the exclusive lock meanwhile. So what is removed has no owner; and a
//! folder that was just made and is still empty goes before its maker has the lock, who then sees that
//! and makes another, or not at all.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

const PREFIX: &str = "braindrill-";

/// How long somebody may take who removes a folder that we want. It is a matter of microseconds; whoever
/// holds the lock for longer is none of us, and keeps us all from removing the folder too.
const CLAIM_TIMEOUT: Duration = Duration::from_millis(500);

/// A folder of an instance that this process works in, and with it those that it forks.
#[derive(Debug)]
pub(super) struct Claim {
    folder: PathBuf,
    lock: File,
}

impl Claim {
    /// Makes the folder, or takes it as it is, and has it be ours.
    pub(super) fn make(parent: &Path, instance: &str) -> io::Result<Claim> {
        let folder = parent.join(format!("{PREFIX}{instance}"));
        let begin = Instant::now();
        loop {
            super::create_or_keep(&folder)?;
            let lock = match File::open(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            match lock.try_lock_shared() {
                Err(TryLockError::WouldBlock) if begin.elapsed() < CLAIM_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // Where we cannot lock, nobody can.
                Ok(()) | Err(_) if is_at(&lock, &folder) => return Ok(Claim { folder, lock }),
                // It was removed before we had it.
                Ok(()) | Err(_) => {}
            }
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder, with what killed helpers have left in it, unless somebody else works there:
    /// the next daemon of this instance, or a helper of a launcher that was killed.
    pub(super) fn give_up(&self) {
        // Else our own lock would be in the way. What stays is swept up by whoever starts next.
        let _ = self.lock.unlock();
        if let Some(_held) = lock_alone(&self.folder) {
            super::clear_folder(&self.folder, "");
            let _ = std::fs::remove_dir(&self.folder);
        }
    }
}

/// Removes the folders beside these that belong to nobody who lives. In one that still has a process,
/// dying as it must be, everything stays until the next time, as does what this user may not remove.
pub(super) fn sweep(claims: &[Claim]) {
    // Who lives does so in every hierarchy: it is enough to ask once.
    let mut kept = BTreeSet::new();
    for claim in claims {
        let siblings = claim.folder.parent().and_then(|parent| std::fs::read_dir(parent).ok());
        for sibling in siblings.into_iter().flatten().flatten() {
            let name = sibling.file_name();
            let ours = claim.folder.file_name() == Some(&name);
            if ours || !is_of_instance(&name) || kept.contains(&name) {
                continue;
            }
            if !remove_if_left(&sibling.path()) {
                kept.insert(name);
            }
        }
    }
}

/// Whether it was, to the end.
fn remove_if_left(folder: &Path) -> bool {
    let Some(_held) = lock_alone(folder) else { return false };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let jobs: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    // Not all who live hold a lock: a folder that somebody removed by hand was made again by a helper.
    let is_used = |job: &PathBuf| {
        job.file_name().and_then(OsStr::to_str).and_then(super::job_daemon).is_some_and(is_alive)
    };
    !jobs.iter().any(is_used)
        && jobs.iter().all(|job| std::fs::remove_dir(job).is_ok())
        && std::fs::remove_dir(folder).is_ok()
}

/// The exclusive lock of a folder that is still there; none while anybody works in it.
fn lock_alone(folder: &Path) -> Option<File> {
    let lock = File::open(folder).ok()?;
    (lock.try_lock().is_ok() && is_at(&lock, folder)).then_some(lock)
}

/// Whether an open folder is the one that is at this path now.
fn is_at(open: &File, path: &Path) -> bool {
    let number = |data: std::fs::Metadata| (data.dev(), data.ino());
    let there = path.symlink_metadata().map(number).ok();
    there.is_some() && there == open.metadata().map(number).ok()
}

/// Whether it is the name of an instance's folder: the processes of a daemon are in `braindrill-daemon`
/// (v2).
fn is_of_instance(name: &OsStr) -> bool {
    let instance = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    instance.is_some_and(|instance| {
        instance.len() == 8 && instance.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn is_alive(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_names_of_instances_are_of_instances() {
        let is = |name: &str| is_of_instance(OsStr::new(name));
        assert!(is("braindrill-0011aabb") && is("braindrill-0011AABB"));
        for other in [
            "braindrill-daemon",
            "braindrill-",
            "braindrill-0011aab",
            "0011aabb",
            "braindrill-0011aabbc",
        ] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn a_sweep_removes_what_belongs_to_nobody_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| fs::create_dir_all(place.path().join(name)).unwrap();
        let ours = Claim::make(place.path(), "00000001").unwrap();
        let lives = Claim::make(place.path(), "00000002").unwrap();
        // A pid of nobody: beyond what Linux gives out.
        make("braindrill-00000003/0-4194305-1");
        make("braindrill-00000003/1-4194305-2");
        make("braindrill-00000004");
        make(&format!("braindrill-00000005/0-{}-1", std::process::id()));
        // What the kernel refuses with EBUSY the folder of a test refuses for what is in it.
        make("braindrill-00000006/0-4194305-1/process");
        make("braindrill-daemon");
        make("another");
        sweep(&[ours]);
        let left = ["00000001", "00000002", "00000005", "00000006", "daemon"];
        let mut left: Vec<_> = left.map(|name| format!("braindrill-{name}")).into();
        left.insert(0, "another".to_owned());
        assert_eq!(names(place.path()), left);
        drop(lives);
        sweep(&[Claim::make(place.path(), "00000001").unwrap()]);
        left.retain(|name| name != "braindrill-00000002");
        assert_eq!(names(place.path()), left);
    }

    #[test]
    fn who_gives_up_leaves_the_folder_to_others_that_work_in_it() {
        let place = tempfile::tempdir().unwrap();
        let first = Claim::make(place.path(), "00000001").unwrap();
        let second = Claim::make(place.path(), "00000001").unwrap();
        fs::create_dir(second.folder().join("1-7-2")).unwrap();
        first.give_up();
        assert_eq!(names(second.folder()), ["1-7-2"]);
        second.give_up();
        assert!(!second.folder().exists());
    }

    #[test]
    fn instances_that_begin_at_once_never_lose_a_folder_to_each_other() {
        let place = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..4 {
                let place = place.path();
                scope.spawn(move || {
                    for _ in 0..500 {
                        let ours = Claim::make(place, &format!("{number:08x}")).unwrap();
                        sweep(std::slice::from_ref(&ours));
                        fs::create_dir(ours.folder().join("0-4194305-1")).unwrap();
                        ours.give_up();
                    }
                });
            }
        });
        assert_eq!(names(place.path()), [""; 0]);
    }
}
