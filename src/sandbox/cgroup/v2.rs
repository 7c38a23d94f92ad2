//! cgroup v2: one folder a job, in a subtree that was delegated to us.
//!
//! Only a delegated subtree is used (systemd: `Delegate=yes`; a container's own tree), since another
//! manager would undo what we do elsewhere. The daemon's own processes move into a leaf, because a
//! folder with processes cannot pass controllers on.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Caps, FILE_PAGES_BYTES};

/// `braindrill-<instance>`.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    folder: PathBuf,
}

impl Tree {
    pub(super) fn find(mounts: &str, own: &str, instance: &str) -> Result<Tree, String> {
        let folder =
            super::own_folder(mounts, own, None).ok_or_else(|| "no cgroup v2".to_owned())?;
        Tree::below(&folder, instance)
    }

    /// Works in `folder`, the cgroup of this process.
    fn below(folder: &Path, instance: &str) -> Result<Tree, String> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let controllers = read("cgroup.controllers");
        for needed in ["memory", "pids"] {
            if !controllers.split_whitespace().any(|controller| controller == needed) {
                return Err(format!("cgroup v2 passes no {needed} controller to this process"));
            }
        }
        if !is_delegated(folder) {
            return Err("this process's cgroup v2 is not delegated to it: under systemd set \
                        Delegate=yes, by hand start with systemd-run -p Delegate=yes"
                .to_owned());
        }
        let refuse = |error: io::Error| format!("no right to the cgroup v2 tree: {error}");
        let leaf = folder.join("braindrill-daemon");
        create_or_keep(&leaf).map_err(refuse)?;
        for pid in read("cgroup.procs").lines() {
            fs::write(leaf.join("cgroup.procs"), pid).map_err(refuse)?;
        }
        let tree = folder.join(format!("braindrill-{instance}"));
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids").map_err(refuse)?;
        create_or_keep(&tree).map_err(refuse)?;
        super::clear(&tree);
        fs::write(tree.join("cgroup.subtree_control"), "+memory +pids").map_err(refuse)?;
        Ok(Tree { folder: tree })
    }

    pub(super) fn folders(&self) -> &[PathBuf] {
        std::slice::from_ref(&self.folder)
    }

    pub(super) fn create(&self, name: &str, caps: &Caps) -> io::Result<Group> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder)?;
        let hard = caps.memory_bytes.saturating_add(FILE_PAGES_BYTES);
        fs::write(folder.join("memory.max"), hard.to_string())?;
        if folder.join("memory.swap.max").exists() {
            fs::write(folder.join("memory.swap.max"), "0")?;
        }
        fs::write(folder.join("pids.max"), caps.processes.to_string())?;
        Ok(Group {
            name: name.to_owned(),
            parent: File::open(&self.folder)?,
            cpu: File::open(folder.join("cpu.stat"))?,
            charged: File::open(folder.join("memory.current"))?,
            peak: File::open(folder.join("memory.peak")).ok(),
            stat: File::open(folder.join("memory.stat"))?,
            events: File::open(folder.join("memory.events"))?,
            folder: File::open(&folder)?,
        })
    }
}

/// A folder is ours to divide when systemd marked it so, when it is the root of a container's own
/// tree, or when its owner is an ordinary user.
fn is_delegated(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owned = folder.metadata().is_ok_and(|data| data.uid() != 0);
    let marked = ["trusted.delegate", "user.delegate"].iter().any(|name| has_mark(folder, name));
    // The true root has no cgroup.type; a container's root looks like a folder of its own.
    owned || marked
}

fn has_mark(folder: &Path, name: &str) -> bool {
    super::super::sys::has_attribute(folder, name)
}

fn create_or_keep(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The folder of one job, and the files in it.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    parent: File,
    folder: File,
    cpu: File,
    charged: File,
    /// Since Linux 5.19.
    peak: Option<File>,
    stat: File,
    events: File,
}

impl Group {
    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        Ok(Duration::from_micros(super::field(&super::read(&self.cpu)?, "usage_usec")))
    }

    pub(super) fn memory_charged(&self) -> io::Result<u64> {
        super::read_number(&self.charged)
    }

    pub(super) fn memory_stat(&self) -> io::Result<String> {
        super::read(&self.stat)
    }

    pub(super) fn memory_peak_charged(&self) -> Option<u64> {
        self.peak.as_ref().and_then(|peak| super::read_number(peak).ok())
    }

    pub(super) fn oom_kills(&self) -> io::Result<u64> {
        Ok(super::field(&super::read(&self.events)?, "oom_kill"))
    }

    pub(super) fn remove(self) -> io::Result<()> {
        super::remove_folder(&self.parent, &self.name)
    }
}
