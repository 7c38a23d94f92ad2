//! cgroup v2: one folder a job, in a subtree that was delegated to us.
//!
//! Only a delegated subtree is used (systemd: `Delegate=yes`; a container's own tree), since another
//! manager would undo what we do elsewhere. The daemon's own processes move into a leaf, because a
//! folder with processes cannot pass controllers on.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use super::{Caps, FILE_PAGES_BYTES, claim::Claim};

/// Where the daemon's own processes are.
const LEAF: &str = "braindrill-daemon";

/// `braindrill-<instance>`.
#[derive(Debug)]
pub(crate) struct Tree {
    claim: Claim,
    /// What all jobs together weigh against the machine's other work, where CPU is shared out by
    /// cgroups: a job as much as a process, however many it has.
    weight: Option<u32>,
}

impl Tree {
    pub(super) fn find(
        mounts: &str,
        own: &str,
        instance: &str,
        slots: u32,
    ) -> Result<Tree, String> {
        let mut folder =
            super::own_folder(mounts, own, None).ok_or_else(|| "no cgroup v2".to_owned())?;
        let mut path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        // A launcher that is started later, or another daemon of the same shell, begins where the
        // first has moved everybody to.
        if let Some(above) = path.strip_suffix(&format!("/{LEAF}")) {
            path = if above.is_empty() { "/" } else { above };
            folder.pop();
        }
        // The root of a cgroup namespace is a container's own tree; the true root has no type.
        let own_root = path == "/" && folder.join("cgroup.type").exists();
        Tree::below(&folder, instance, slots, own_root)
    }

    /// Works in `folder`, the cgroup of this process.
    fn below(folder: &Path, instance: &str, slots: u32, own_root: bool) -> Result<Tree, String> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let controllers = read("cgroup.controllers");
        for needed in ["memory", "pids"] {
            if !controllers.split_whitespace().any(|controller| controller == needed) {
                return Err(format!("cgroup v2 passes no {needed} controller to this process"));
            }
        }
        if !own_root && !is_delegated(folder) {
            return Err("this process's cgroup v2 is not delegated to it: under systemd set \
                        Delegate=yes, by hand start with systemd-run -p Delegate=yes"
                .to_owned());
        }
        let refuse = |error: io::Error| format!("no right to the cgroup v2 tree: {error}");
        let leaf = folder.join(LEAF);
        super::create_or_keep(&leaf).map_err(refuse)?;
        for pid in read("cgroup.procs").lines() {
            fs::write(leaf.join("cgroup.procs"), pid).map_err(refuse)?;
        }
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids").map_err(refuse)?;
        let shares_cpu = controllers.split_whitespace().any(|controller| controller == "cpu");
        if shares_cpu {
            fs::write(folder.join("cgroup.subtree_control"), "+cpu").map_err(refuse)?;
        }
        let claim = Claim::make(folder, instance).map_err(refuse)?;
        let tree = Tree { claim, weight: shares_cpu.then(|| (100 * slots).clamp(100, 10_000)) };
        tree.make().map_err(|error| {
            tree.claim.give_up();
            refuse(error)
        })?;
        Ok(tree)
    }

    /// Makes the instance's folder, if it is not there, to be divided among jobs.
    fn make(&self) -> io::Result<()> {
        let folder = self.claim.folder();
        super::create_or_keep(folder)?;
        let Some(weight) = self.weight else {
            return fs::write(folder.join("cgroup.subtree_control"), "+memory +pids");
        };
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        fs::write(folder.join("cpu.weight"), weight.to_string())
    }

    pub(super) fn claims(&self) -> &[Claim] {
        std::slice::from_ref(&self.claim)
    }

    pub(super) fn create(&self, name: &str) -> io::Result<Group> {
        let folder = self.claim.folder().join(name);
        super::create_folder(&folder, || self.make())?;
        self.open(name, &folder)
    }

    /// Opens what is written and read later of a new folder, and lets it swap nothing out.
    fn open(&self, name: &str, folder: &Path) -> io::Result<Group> {
        if folder.join("memory.swap.max").exists() {
            fs::write(folder.join("memory.swap.max"), "0")?;
        }
        Ok(Group {
            name: name.to_owned(),
            parent: File::open(self.claim.folder())?,
            memory_limit: super::open_for_writing(&folder.join("memory.max"))?,
            processes_limit: super::open_for_writing(&folder.join("pids.max"))?,
            cpu: File::open(folder.join("cpu.stat"))?,
            charged: File::open(folder.join("memory.current"))?,
            peak: File::open(folder.join("memory.peak")).ok(),
            stat: File::open(folder.join("memory.stat"))?,
            events: File::open(folder.join("memory.events"))?,
            folder: File::open(folder)?,
        })
    }
}

/// A folder is ours to divide when systemd marked it so (`Delegate=yes` sets the attribute), or when
/// it was given to an ordinary user.
fn is_delegated(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let owned = folder.metadata().is_ok_and(|data| data.uid() != 0);
    let marked = ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|name| crate::sandbox::sys::has_attribute(folder, name));
    owned || marked
}

/// The folder of one job, and the files in it.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    parent: File,
    folder: File,
    memory_limit: File,
    processes_limit: File,
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

    pub(super) fn limit(&self, caps: &Caps) -> io::Result<()> {
        let hard = caps.memory_bytes.saturating_add(FILE_PAGES_BYTES);
        super::write(&self.memory_limit, &hard.to_string())?;
        super::write(&self.processes_limit, &caps.processes.to_string())
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

    pub(super) fn remove(&self) -> io::Result<()> {
        super::remove_folder(&self.parent, &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the files of a systemd service's cgroup hold on Linux 6.1, as far as they are read.
    const RECORDED: &[(&str, &str)] = &[
        ("cpu.stat", "usage_usec 81235\nuser_usec 61206\nsystem_usec 20029\nnr_periods 0\n"),
        ("memory.current", "10485760\n"),
        ("memory.peak", "12582912\n"),
        (
            "memory.stat",
            "anon 4194304\nfile 5242880\nkernel 917504\nshmem 1048576\ninactive_anon 5046272\n\
             active_anon 102400\ninactive_file 4149248\nactive_file 40960\nunevictable 0\n",
        ),
        ("memory.events", "low 0\nhigh 0\nmax 14\noom 1\noom_kill 1\noom_group_kill 0\n"),
    ];

    const CAPS: Caps = Caps {
        cpu_time: Duration::from_secs(1),
        wall_time: Duration::from_secs(1),
        memory_bytes: 64 << 20,
        processes: 7,
        output_keep: 0,
        output_kill: 0,
        disk_bytes: 0,
        inodes: 0,
        open_files: 0,
        stack_bytes: 0,
    };

    fn service(controllers: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), controllers).unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        // As a unit of an ordinary user: ours to divide.
        std::os::unix::fs::chown(folder.path(), Some(65534), None)
            .or_else(|_| fs::metadata(folder.path()).map(drop))
            .unwrap();
        folder
    }

    #[test]
    fn a_delegated_subtree_is_divided_and_the_limits_are_written() {
        let folder = service("cpu io memory pids\n");
        let tree = Tree::below(folder.path(), "0011aabb", 2, false).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        // Of the real file each write adds to what is there.
        assert_eq!(read("cgroup.subtree_control"), "+cpu");
        assert_eq!(read("braindrill-0011aabb/cgroup.subtree_control"), "+memory +pids +cpu");
        assert_eq!(read("braindrill-0011aabb/cpu.weight"), "200");
        assert!(folder.path().join("braindrill-daemon").is_dir());

        let job = folder.path().join("braindrill-0011aabb/0-1");
        record(&tree, &job).limit(&CAPS).unwrap();
        assert_eq!(read("braindrill-0011aabb/0-1/memory.max"), ((64u64 + 32) << 20).to_string());
        assert_eq!(read("braindrill-0011aabb/0-1/memory.swap.max"), "0");
        assert_eq!(read("braindrill-0011aabb/0-1/pids.max"), "7");
    }

    #[test]
    fn who_begins_in_the_leaf_works_beside_it() {
        let root = service("memory pids\n");
        let folder = root.path().join("unit");
        fs::create_dir_all(folder.join(LEAF)).unwrap();
        for name in ["cgroup.controllers", "cgroup.procs"] {
            fs::copy(root.path().join(name), folder.join(name)).unwrap();
        }
        // As systemd and the kernel mark a container's own root.
        let mounts = format!("31 30 0:27 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let find = |own: &str| Tree::find(&mounts, own, "0011aabb", 2);
        fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        for (own, place) in [("0::/\n", root.path()), ("0::/braindrill-daemon\n", root.path())] {
            let tree = find(own).unwrap();
            assert_eq!(tree.claim.folder(), place.join("braindrill-0011aabb"), "{own}");
        }
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        }
        for own in ["0::/unit\n", "0::/unit/braindrill-daemon\n"] {
            let tree = find(own).unwrap();
            assert_eq!(tree.claim.folder(), folder.join("braindrill-0011aabb"), "{own}");
        }
    }

    /// The kernel fills a new folder with files; here the test does, between the two steps.
    fn record(tree: &Tree, job: &Path) -> Group {
        fs::create_dir(job).unwrap();
        for (name, text) in RECORDED {
            fs::write(job.join(name), text).unwrap();
        }
        for name in ["memory.max", "memory.swap.max", "pids.max"] {
            fs::write(job.join(name), "max\n").unwrap();
        }
        tree.open("0-1", job).unwrap()
    }

    #[test]
    fn use_is_read_from_the_recorded_files() {
        let folder = service("memory pids\n");
        let tree = Tree::below(folder.path(), "0011aabb", 2, false).unwrap();
        let group = record(&tree, &folder.path().join("braindrill-0011aabb/0-1"));
        assert_eq!(group.cpu_time().unwrap(), Duration::from_micros(81_235));
        assert_eq!(group.memory_peak_charged(), Some(12_582_912));
        assert_eq!(group.oom_kills().unwrap(), 1);
        let group = super::super::Group::V2(group);
        assert_eq!(group.memory_used().unwrap(), 10_485_760 - 4_149_248 - 40_960);
    }

    #[test]
    fn a_tree_that_is_not_ours_or_lacks_a_controller_is_missing_with_the_reason() {
        let folder = service("cpu io memory\n");
        let why = Tree::below(folder.path(), "0011aabb", 2, false).unwrap_err();
        assert!(why.contains("no pids controller"), "{why}");
        if nix::unistd::geteuid().is_root() {
            let folder = service("memory pids\n");
            std::os::unix::fs::chown(folder.path(), Some(0), None).unwrap();
            let why = Tree::below(folder.path(), "0011aabb", 2, false).unwrap_err();
            assert!(why.contains("Delegate=yes"), "{why}");
            assert!(!folder.path().join("braindrill-daemon").exists());
        }
    }
}
