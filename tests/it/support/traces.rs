//! What a daemon has on this machine beside its own process: launcher, helpers, programs, cgroups.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::unistd::Pid;

/// How long what a daemon leaves may take to go, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// All processes of the machine.
fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The words of a process's command line; empty for one that is gone or a zombie.
fn words(pid: i32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The parent of a process, if it is there.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process is there and no zombie, so that it may have files open.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The children of a process, zombies too.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    processes().filter(|&child| parent_of(child) == Some(pid)).collect()
}

/// The processes that have this word in their command lines.
pub(crate) fn with_word(word: &str) -> Vec<i32> {
    processes().filter(|&pid| words(pid).iter().any(|other| other == word)).collect()
}

/// The sandbox launcher of a daemon.
pub(crate) fn launcher_of(daemon: Pid) -> Option<i32> {
    children_of(daemon.as_raw())
        .into_iter()
        .find(|&child| words(child).get(1).is_some_and(|word| word == "sandbox-launcher"))
}

/// What a daemon tells its launcher.
fn settings_of(daemon: Pid) -> serde_json::Value {
    let launcher = launcher_of(daemon).expect("a daemon with a sandbox has a launcher");
    serde_json::from_str(&words(launcher)[2]).unwrap()
}

/// The name of a daemon's installation.
pub(crate) fn instance_of(daemon: Pid) -> String {
    settings_of(daemon)["instance"].as_str().unwrap().to_owned()
}

/// Every process that a daemon of this instance has started and that is still there: launchers and
/// helpers, and with a helper the programs below it.
pub(crate) fn sandbox_processes(instance: &str) -> Vec<i32> {
    let is_ours = |pid: &i32| {
        let words = words(*pid);
        words.get(1).is_some_and(|word| word == "sandbox-launcher")
            && words.get(2).is_some_and(|settings| settings.contains(instance))
    };
    processes().filter(is_ours).collect()
}

/// The helpers of an instance: children of its launcher, of an earlier one, or of nobody any more. A
/// helper's own children, which have its words until they exec, are not among them.
pub(crate) fn helpers(instance: &str, launcher: Option<i32>) -> Vec<i32> {
    let all = sandbox_processes(instance);
    let is_helper = |pid: &i32| {
        let parent = parent_of(*pid);
        Some(*pid) != launcher
            && (parent == launcher || parent.is_some_and(|parent| !all.contains(&parent)))
    };
    all.iter().copied().filter(is_helper).collect()
}

/// Every folder of the machine's cgroup trees that belongs to this instance.
pub(crate) fn cgroups(instance: &str) -> Vec<PathBuf> {
    fn search(folder: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                } else if depth > 0 {
                    search(&entry.path(), name, depth - 1, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), &format!("braindrill-{instance}"), 4, &mut found);
    found
}

/// The cgroups of this instance's jobs.
pub(crate) fn job_cgroups(instance: &str) -> Vec<PathBuf> {
    let folders = cgroups(instance);
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let entries = entries.flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

/// The places where a process sees something mounted, in the kernel's order.
pub(crate) fn mounts(pid: Pid) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

/// The cgroups of this instance's jobs in which somebody is.
pub(crate) fn busy_cgroups(instance: &str) -> Vec<PathBuf> {
    let mut folders = job_cgroups(instance);
    folders.retain(|folder| {
        let inside = std::fs::read_to_string(folder.join("cgroup.procs"));
        inside.is_ok_and(|pids| !pids.is_empty())
    });
    folders
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A process's own memory: what is neither of a file nor shared.
pub(crate) fn anonymous_bytes(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// What is in a folder; nothing when it is not there.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Waits until a reading is empty.
#[track_caller]
pub(crate) fn until_none<T: std::fmt::Debug>(what: &str, mut read: impl FnMut() -> Vec<T>) {
    let begin = Instant::now();
    loop {
        let left = read();
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} still there: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until nothing of a daemon that has ended is left on the machine: it was killed, so what it
/// started has to see by itself that it is alone.
#[track_caller]
pub(crate) fn until_gone(instance: &str, marker: &str) {
    until_none("processes of the sandbox", || sandbox_processes(instance));
    until_none("programs", || with_word(marker));
    until_none("cgroups", || cgroups(instance));
}

/// Waits until a daemon that has nothing to do has nothing either, beside one jail for the next job
/// of each slot (its helper and its init, and a cgroup in which nobody is) and the interpreters that wait,
/// which have seats of their own. No program, no folder of a
/// compiled program.
#[track_caller]
pub(crate) fn until_idle(daemon: Pid, data_dir: &Path, marker: &str) {
    const HIERARCHIES: usize = 4;
    let instance = instance_of(daemon);
    let setting = |name: &str| settings_of(daemon)[name].as_u64().unwrap() as usize;
    // Those beyond the slots are of interpreters that wait for a program.
    let (slots, seats) = (setting("slots"), setting("seats"));
    let seat_of = |cgroup: &Path| -> Option<usize> {
        cgroup.file_name()?.to_str()?.split('-').next()?.parse().ok()
    };
    let more_than = |most: usize, left: usize| if left > most { vec![left] } else { Vec::new() };
    until_none("more processes than those of prepared jails", || {
        let launcher = launcher_of(daemon);
        let left = sandbox_processes(&instance);
        let left = left.into_iter().filter(|&pid| Some(pid) != launcher).count();
        more_than(2 * seats, left)
    });
    until_none("programs", || with_word(marker));
    until_none("more cgroups than those of prepared jails", || {
        more_than(HIERARCHIES * seats, job_cgroups(&instance).len())
    });
    until_none("cgroups with programs in them", || {
        let mut busy = busy_cgroups(&instance);
        busy.retain(|cgroup| seat_of(cgroup).is_none_or(|seat| seat < slots));
        busy
    });
    until_none("compiled programs", || entries(&data_dir.join("programs")));
}
