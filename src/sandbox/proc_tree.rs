//! CPU and memory of a jail's processes where no cgroup counts them: read from its own /proc.
//!
//! Weaker than a cgroup, and reported so: what a process used between the last look and its end is
//! not seen, unless its parent waited for it.

use std::{collections::HashMap, fs, io, time::Duration};

/// Sums over the processes of the jail that this process's root is in.
#[derive(Debug, Default)]
pub(super) struct ProcTree {
    /// CPU of each process as last seen, by pid and start time, those that are gone too.
    seen: HashMap<(i32, u64), Duration>,
}

/// One process as /proc shows it.
struct Process {
    start: u64,
    own: Duration,
    waited_for: Duration,
}

impl ProcTree {
    /// User and system time until now: of the living, of what they waited for, and of those that
    /// were seen before they vanished.
    pub(super) fn cpu_time(&mut self, ticks_per_second: u64) -> io::Result<Duration> {
        let mut waited = Duration::ZERO;
        let mut alive = Vec::new();
        for pid in pids()? {
            let Some(process) = read_stat(pid, ticks_per_second) else { continue };
            // Init reaps orphans: what it waited for was somebody's, and is counted below.
            if pid == 1 {
                continue;
            }
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

/// Anonymous and shared memory of all processes of the jail, in bytes; pages that several share
/// after a fork count for each.
pub(super) fn memory_used() -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids()? {
        if pid == 1 {
            continue;
        }
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        for line in status.lines() {
            let rest = line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("RssShmem:"));
            let kib = rest.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
            sum += kib.unwrap_or(0) * 1024;
        }
    }
    Ok(sum + unattached_shared_memory()?)
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

fn pids() -> io::Result<Vec<i32>> {
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
        own: time(number(14)? + number(15)?),
        waited_for: time(number(16)? + number(17)?),
        start: number(22)?,
    })
}
