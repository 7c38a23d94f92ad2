//! CPU and memory of a job's processes where no cgroup counts them: read from /proc, a jail's own or,
//! without one, the machine's.
//!
//! Weaker than a cgroup, and reported so: what a process used between the last look and its end is
//! not seen, unless its parent waited for it.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    time::Duration,
};

use super::monitor;

/// Whose processes are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// All of the jail that this process's root is in, but its init.
    Jail,
    /// What this process started, and what that started.
    Own,
}

/// Sums over the processes of one job.
#[derive(Debug)]
pub(super) struct ProcTree {
    whose: Whose,
    /// CPU of each process as last seen, by pid and start time, those that are gone too.
    seen: HashMap<(i32, u64), Duration>,
}

/// One process as /proc shows it.
struct Process {
    is_zombie: bool,
    parent: i32,
    start: u64,
    own: Duration,
    waited_for: Duration,
}

impl ProcTree {
    pub(super) fn of(whose: Whose) -> ProcTree {
        ProcTree { whose, seen: HashMap::new() }
    }

    fn pids(&self) -> io::Result<Vec<i32>> {
        match self.whose {
            // Init reaps orphans: what it waited for was somebody's, and is counted as theirs.
            Whose::Jail => Ok(all_pids()?.into_iter().filter(|pid| *pid != 1).collect()),
            Whose::Own => Ok(descendants()?.into_iter().collect()),
        }
    }

    /// Anonymous and shared memory of all its processes, in bytes; pages that several share after a
    /// fork count for each. Of a jail also the files in its memory, and what nobody maps now.
    pub(super) fn memory_used(&self) -> io::Result<u64> {
        let sum = self.pids()?.into_iter().map(resident).sum();
        match self.whose {
            Whose::Jail => Ok(sum + unattached_shared_memory()? + monitor::work_space()?.0),
            Whose::Own => Ok(sum),
        }
    }

    /// User and system time until now: of the living, of what they waited for, and of those that
    /// were seen before they vanished.
    pub(super) fn cpu_time(&mut self, ticks_per_second: u64) -> io::Result<Duration> {
        let mut waited = Duration::ZERO;
        let mut alive = Vec::new();
        for pid in self.pids()? {
            let Some(process) = read_stat(pid, ticks_per_second) else { continue };
            waited += process.waited_for;
            alive.push((pid, process.start));
            self.seen.insert((pid, process.start), process.own);
        }
        let living: Duration = alive.iter().map(|key| self.seen[key]).sum();
        let gone: Duration =
            self.seen.iter().filter(|(key, _)| !alive.contains(key)).map(|(_, own)| *own).sum();
        // A vanished process is in its parent's sum when it was waited for, and in ours when it was
        // seen: the larger of the two is never more than what was used.
        Ok(living + waited.max(gone))
    }
}

/// Anonymous and shared memory of one process, in bytes; 0 when it is gone.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let in_line = |line: &str| {
        let rest = line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("RssShmem:"))?;
        Some(rest.trim().split(' ').next()?.parse::<u64>().ok()? * 1024)
    };
    status.lines().filter_map(in_line).sum()
}

/// System V shared memory that no process maps now, in bytes, see proc(5).
fn unattached_shared_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/sysvipc/shm")?;
    let segments = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let number = |fields: &[&str], index: usize| {
        fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0)
    };
    Ok(segments
        .filter(|fields| number(fields, ATTACHMENTS) == 0)
        .map(|fields| number(&fields, RESIDENT_BYTES))
        .sum())
}

/// Column of /proc/sysvipc/shm.
const ATTACHMENTS: usize = 6;
/// Column of /proc/sysvipc/shm, on 64-bit machines too.
const RESIDENT_BYTES: usize = 14;

/// All that this process started and what that started, by the lists of children that the kernel
/// keeps: cheap, but what moves meanwhile may be missed until the next look.
fn descendants() -> io::Result<HashSet<i32>> {
    let own = std::process::id() as i32;
    if !Path::new("/proc/thread-self/children").exists() {
        return Ok(living_and_dead()?.into_keys().collect());
    }
    let mut found = HashSet::new();
    let mut next = vec![own];
    while let Some(pid) = next.pop() {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
            next.extend(children.filter(|child| found.insert(*child)));
        }
    }
    Ok(found)
}

/// The same for the living alone, by a look at every process of the machine: it misses only what was
/// started during the look.
pub(super) fn living_descendants() -> io::Result<HashSet<i32>> {
    let found = living_and_dead()?.into_iter();
    Ok(found.filter(|(_, process)| !process.is_zombie).map(|(pid, _)| pid).collect())
}

fn living_and_dead() -> io::Result<HashMap<i32, Process>> {
    // Times are not asked for.
    let read = |pid| Some((pid, read_stat(pid, 1)?));
    let mut others: HashMap<i32, Process> = all_pids()?.into_iter().filter_map(read).collect();
    let mut found = HashMap::new();
    let mut parents = vec![std::process::id() as i32];
    while let Some(parent) = parents.pop() {
        let children = others.extract_if(|_, process| process.parent == parent);
        for (pid, process) in children.collect::<Vec<_>>() {
            parents.push(pid);
            found.insert(pid, process);
        }
    }
    Ok(found)
}

fn all_pids() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The fields of /proc/PID/stat behind the name in brackets, see proc(5): 3 state, 4 parent, 14
/// utime, 15 stime, 16 cutime, 17 cstime, 22 start time.
fn read_stat(pid: i32, ticks_per_second: u64) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_nanos(ticks * (1_000_000_000 / ticks_per_second));
    Some(Process {
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: number(4)? as i32,
        own: time(number(14)? + number(15)?),
        waited_for: time(number(16)? + number(17)?),
        start: number(22)?,
    })
}
