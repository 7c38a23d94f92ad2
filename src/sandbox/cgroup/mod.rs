//! One cgroup a job: fresh, since a used one would report the last run's page cache; gone after.
//!
//! [`Tree`] is found once by the launcher; [`Group`] is made by each helper before it enters the
//! jail, with every file it will need already open, since from inside no path leads here.

mod claim;
mod v1;
mod v2;

use std::{
    fs::{DirEntry, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::Path,
    time::{Duration, Instant},
};

use self::claim::Claim;
use super::Caps;

/// Memory for file pages on top of a job's own, in bytes: the kernel reclaims those before it kills,
/// so that we see the job's own memory pass its limit first.
const FILE_PAGES_BYTES: u64 = 32 << 20;

/// How long the last dying process may keep a cgroup busy.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The part of the machine's cgroup tree that this instance works in.
#[derive(Debug)]
pub(super) enum Tree {
    V1(v1::Tree),
    V2(v2::Tree),
    /// None, and why.
    Missing(String),
}

impl Tree {
    /// Finds a place for `braindrill-<instance>` in the tree that this process is in, and, when
    /// `first`, ends and removes what an earlier daemon of this instance left there, and removes what
    /// others have left that are dead: a runner that was killed has no successor of its instance.
    pub(super) fn find(instance: &str, slots: u32, first: bool) -> Tree {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let tree = match v2::Tree::find(&mounts, &own, instance, slots) {
            Ok(tree) => Tree::V2(tree),
            Err(why_not_v2) => match v1::Tree::find(&mounts, &own, instance, slots) {
                Ok(tree) => Tree::V1(tree),
                Err(why_not_v1) => Tree::Missing(format!("{why_not_v2}; {why_not_v1}")),
            },
        };
        if first {
            tree.clear("");
            claim::sweep(tree.claims());
        }
        tree
    }

    /// The folders that jobs' folders are made in.
    fn claims(&self) -> &[Claim] {
        match self {
            Tree::V1(tree) => tree.claims(),
            Tree::V2(tree) => tree.claims(),
            Tree::Missing(_) => &[],
        }
    }

    /// Whether there is one, in words for people.
    pub(super) fn describe(&self) -> Result<String, String> {
        match self {
            Tree::V1(_) => Ok("v1: memory, cpuacct and pids counted by the kernel".to_owned()),
            Tree::V2(_) => Ok("v2: memory, cpu and pids counted by the kernel".to_owned()),
            Tree::Missing(why) => Err(format!(
                "{why}; CPU and memory are summed over processes every 5 ms instead, which is weaker"
            )),
        }
    }

    /// Removes this instance's folders, unless somebody else of it lives.
    pub(super) fn remove(&self) {
        self.claims().iter().for_each(Claim::give_up);
    }

    /// Ends and removes the jobs whose names begin so. A job is in the first hierarchy as long as it is in any.
    fn clear(&self, prefix: &str) {
        let Some((first, others)) = self.claims().split_first() else { return };
        if has_jobs(first.folder(), prefix) {
            let clear = |claim: &Claim| clear_folder(claim.folder(), prefix);
            // Else it would not be seen that there is something in the others.
            if others.iter().all(clear) {
                clear(first);
            }
        }
    }

    /// Makes the cgroup of one job of a slot, without limits yet. What an earlier job there has left is
    /// removed: a slot has one at a time, and a helper that was killed could not clear up.
    pub(super) fn create(&self, slot: u32, name: &str) -> io::Result<Option<Group>> {
        self.clear(&job_prefix(slot));
        match self {
            Tree::V1(tree) => tree.create(name).map(|group| Some(Group::V1(group))),
            Tree::V2(tree) => tree.create(name).map(|group| Some(Group::V2(group))),
            Tree::Missing(_) => Ok(None),
        }
    }
}

/// What the names of all jobs of a slot begin with.
fn job_prefix(slot: u32) -> String {
    format!("{slot}-")
}

/// A name for a job's cgroup that no other has, not even of an earlier daemon whose last helper has
/// not ended yet.
pub(super) fn job_name(slot: u32, number: u64) -> String {
    format!("{}{}-{number}", job_prefix(slot), std::process::id())
}

/// The daemon that asked for a job of this name.
fn job_daemon(name: &str) -> Option<nix::unistd::Pid> {
    let mut numbers = name.split('-').map(str::parse::<i32>);
    let (Some(Ok(_)), Some(Ok(daemon @ 1..)), Some(Ok(_)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return None;
    };
    Some(nix::unistd::Pid::from_raw(daemon))
}

/// The cgroup of one job.
#[derive(Debug)]
pub(super) enum Group {
    V1(v1::Group),
    V2(v2::Group),
}

impl Group {
    /// Sets the limits that the kernel keeps.
    pub(super) fn limit(&self, caps: &Caps) -> io::Result<()> {
        match self {
            Group::V1(group) => group.limit(caps),
            Group::V2(group) => group.limit(caps),
        }
    }

    /// The files that the program's process writes "0" to, to enter.
    pub(super) fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        match self {
            Group::V1(group) => group.entrances(),
            Group::V2(_) => Ok(Vec::new()),
        }
    }

    /// The folder to begin a process in by clone3(2).
    pub(super) fn folder(&self) -> Option<&File> {
        match self {
            Group::V1(_) => None,
            Group::V2(group) => Some(group.folder()),
        }
    }

    /// User and system time of all its processes until now.
    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        match self {
            Group::V1(group) => group.cpu_time(),
            Group::V2(group) => group.cpu_time(),
        }
    }

    /// All its memory, file pages too: cheap to read, and never less than [`Group::memory_used`].
    pub(super) fn memory_charged(&self) -> io::Result<u64> {
        match self {
            Group::V1(group) => group.memory_charged(),
            Group::V2(group) => group.memory_charged(),
        }
    }

    /// Its memory without pages of files: anonymous, tmpfs, kernel.
    pub(super) fn memory_used(&self) -> io::Result<u64> {
        let stat = match self {
            Group::V1(group) => group.memory_stat()?,
            Group::V2(group) => group.memory_stat()?,
        };
        // On the lists of file pages is also memory that was given back lazily (MADV_FREE) and may be
        // in use again; among cached pages is what lies in tmpfs.
        let listed = field(&stat, "active_file") + field(&stat, "inactive_file");
        let cached = field(&stat, self.cached_pages()).saturating_sub(field(&stat, "shmem"));
        Ok(self.memory_charged()?.saturating_sub(listed.min(cached)))
    }

    /// The field that counts pages of files and of tmpfs.
    fn cached_pages(&self) -> &'static str {
        match self {
            Group::V1(_) => "cache",
            Group::V2(_) => "file",
        }
    }

    /// The most that was ever charged, where the kernel keeps it.
    pub(super) fn memory_peak_charged(&self) -> Option<u64> {
        match self {
            Group::V1(group) => group.memory_peak_charged(),
            Group::V2(group) => group.memory_peak_charged(),
        }
    }

    /// Processes killed by the kernel because this group's memory ran out.
    pub(super) fn oom_kills(&self) -> io::Result<u64> {
        match self {
            Group::V1(group) => group.oom_kills(),
            Group::V2(group) => group.oom_kills(),
        }
    }

    /// Removes it; its processes are dead, though the last may still be on its way out.
    pub(super) fn remove(self) -> io::Result<()> {
        self.remove_folders()
    }

    fn remove_folders(&self) -> io::Result<()> {
        match self {
            Group::V1(group) => group.remove(),
            Group::V2(group) => group.remove(),
        }
    }
}

impl Drop for Group {
    /// For where a jail is given up halfway.
    fn drop(&mut self) {
        // What stays is cleared by the next job of its slot.
        let _ = self.remove_folders();
    }
}

/// Where the cgroup filesystem with `controller` (v1; `None`: v2) is mounted, and the path of this
/// process in it, from the texts of /proc/self/mountinfo and /proc/self/cgroup.
fn own_folder(mounts: &str, own: &str, controller: Option<&str>) -> Option<std::path::PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        let fits = match controller {
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
            None => kind == "cgroup2",
        };
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        fits.then(|| (root.to_owned(), point.to_owned()))
    })?;
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = match controller {
            Some(name) => names.split(',').any(|own| own == name),
            None => names.is_empty(),
        };
        fits.then(|| path.to_owned())
    })?;
    let (root, point) = mount;
    // In a container the mount shows only a part of the tree.
    let below = path.strip_prefix(root.as_str()).unwrap_or(&path);
    Some(Path::new(&point).join(below.trim_start_matches('/')))
}

/// The number behind `name` in a file of "name number" lines; 0 when it is not there.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or(0)
}

/// Writes a whole value to a kernel file that has just been opened.
fn write(mut file: &File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    File::options().write(true).truncate(true).open(path)
}

/// Reads a small kernel file from its beginning.
fn read(file: &File) -> io::Result<String> {
    let mut buffer = [0; 4096];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Reads a file that holds one number.
fn read_number(file: &File) -> io::Result<u64> {
    read(file)?.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Removes the folder `name` of `parent`, waiting a little for the last process to leave.
fn remove_folder(parent: &File, name: &str) -> io::Result<()> {
    let begin = Instant::now();
    loop {
        match nix::unistd::unlinkat(parent, name, nix::unistd::UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => return Ok(()),
            Err(nix::errno::Errno::EBUSY) if begin.elapsed() < REMOVE_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a job's folder, and the instance's where it is gone: between jobs it can be empty, and whoever
/// tidies up the machine may have removed it.
fn create_folder(folder: &Path, instance: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let made = std::fs::create_dir(folder);
    if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::NotFound) {
        return made;
    }
    instance()?;
    std::fs::create_dir(folder)
}

fn create_or_keep(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The jobs below `folder` whose names begin so.
fn jobs(folder: &Path, prefix: &str) -> impl Iterator<Item = DirEntry> {
    let is_one = move |child: &DirEntry| {
        child.file_type().is_ok_and(|kind| kind.is_dir())
            && child.file_name().as_encoded_bytes().starts_with(prefix.as_bytes())
    };
    std::fs::read_dir(folder).into_iter().flatten().flatten().filter(is_one)
}

fn has_jobs(folder: &Path, prefix: &str) -> bool {
    jobs(folder, prefix).next().is_some()
}

/// Kills and removes the jobs below `folder` whose names begin so. Whether none is left.
fn clear_folder(folder: &Path, prefix: &str) -> bool {
    for child in jobs(folder, prefix) {
        let processes =
            std::fs::read_to_string(child.path().join("cgroup.procs")).unwrap_or_default();
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            // Already gone is just as well.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        if let (Ok(parent), Some(name)) = (File::open(folder), child.file_name().to_str()) {
            // What cannot be removed is reported by the next job that wants its name.
            let _ = remove_folder(&parent, name);
        }
    }
    !has_jobs(folder, prefix)
}

#[cfg(test)]
mod tests {
    use super::{job_daemon, job_name, own_folder};

    const MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
33 30 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory
34 30 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
";
    const OWN: &str = "5:cpu,cpuacct:/docker/abc/x\n4:memory:/user/one\n0::/init.scope\n";

    #[test]
    fn the_own_folder_is_found_in_each_hierarchy() {
        let found = |controller| own_folder(MOUNTS, OWN, controller).unwrap();
        assert_eq!(found(Some("memory")).to_str(), Some("/sys/fs/cgroup/memory/user/one"));
        assert_eq!(found(Some("cpuacct")).to_str(), Some("/sys/fs/cgroup/cpu,cpuacct/x"));
        assert_eq!(found(None).to_str(), Some("/sys/fs/cgroup/unified/init.scope"));
        assert_eq!(own_folder(MOUNTS, OWN, Some("pids")), None);
    }

    #[test]
    fn the_name_of_a_job_tells_whose_it_is() {
        let us = nix::unistd::Pid::this();
        assert_eq!(job_daemon(&job_name(3, 12)), Some(us));
        for other in ["", "3", "3-12", "3--12", "3-0-1", "3-x-1", "3-4-1-2"] {
            assert_eq!(job_daemon(other), None, "{other}");
        }
    }
}
