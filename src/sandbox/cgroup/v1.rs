//! cgroup v1: three or four hierarchies, a folder in each.

use std::{fs::File, io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use super::{Caps, FILE_PAGES_BYTES, claim::Claim};

/// The controllers that are needed.
const CONTROLLERS: [&str; 3] = ["memory", "cpuacct", "pids"];

/// Where it is there, a job weighs as much as a process, however many it has. On many machines it
/// shares a hierarchy with cpuacct.
const SHARES: &str = "cpu";
/// What the kernel gives every process and every new folder.
const SHARES_OF_ONE: u32 = 1024;

/// Buffers of TCP and UDP sockets are counted apart from all other memory, and only in cgroups where
/// this was written once.
const SOCKETS_LIMIT: &str = "memory.kmem.tcp.limit_in_bytes";

/// `braindrill-<instance>` in each hierarchy, in the order of [`CONTROLLERS`], then that of [`SHARES`]
/// where it has one of its own.
#[derive(Debug)]
pub(crate) struct Tree {
    claims: Vec<Claim>,
}

impl Tree {
    pub(super) fn find(
        mounts: &str,
        own: &str,
        instance: &str,
        slots: u32,
    ) -> Result<Tree, String> {
        let own = |controller| super::own_folder(mounts, own, Some(controller));
        let mut claims = Vec::new();
        let made = CONTROLLERS.into_iter().try_for_each(|controller| {
            let own = own(controller)
                .ok_or_else(|| format!("no cgroup v1 hierarchy for {controller}"))?;
            let claim = Claim::make(&own, instance)
                .map_err(|error| format!("no right to the {controller} cgroup: {error}"))?;
            claims.push(claim);
            Ok::<(), String>(())
        });
        if let Err(why) = made {
            // Of no use without the others.
            claims.iter().for_each(Claim::give_up);
            return Err(why);
        }
        // Any value turns counting of sockets on, which patches the kernel's code the first time:
        // done here once, no job waits for it. Kernels without it have no such file.
        let _ = std::fs::write(claims[0].folder().join(SOCKETS_LIMIT), "-1");
        if let Some(own) = own(SHARES) {
            let known = claims.iter().any(|claim| claim.folder().parent() == Some(&own));
            if !known && let Ok(claim) = Claim::make(&own, instance) {
                claims.push(claim);
            }
            // All jobs together against the machine's other work. Only fairness is lost without it.
            if let Some(claim) = claims.iter().find(|it| it.folder().parent() == Some(&own)) {
                let shares = SHARES_OF_ONE.saturating_mul(slots).to_string();
                let _ = std::fs::write(claim.folder().join("cpu.shares"), shares);
            }
        }
        Ok(Tree { claims })
    }

    pub(super) fn claims(&self) -> &[Claim] {
        &self.claims
    }

    pub(super) fn create(&self, name: &str) -> io::Result<Group> {
        let instances = || self.claims.iter().map(Claim::folder);
        let made: Vec<PathBuf> = instances().map(|folder| folder.join(name)).collect();
        for (folder, instance) in made.iter().zip(instances()) {
            super::create_folder(folder, || super::create_or_keep(instance))?;
        }
        let [memory, cpuacct, pids] = [&made[0], &made[1], &made[2]];
        let open = |path: PathBuf| super::open_for_writing(&path);
        let parents = instances().map(File::open).collect::<io::Result<Vec<_>>>()?;
        Ok(Group {
            name: name.to_owned(),
            parents,
            tasks: made
                .iter()
                .map(|folder| open(folder.join("tasks")).map(OwnedFd::from))
                .collect::<io::Result<_>>()?,
            memory_limit: open(memory.join("memory.limit_in_bytes"))?,
            swap_limit: if_there(open(memory.join("memory.memsw.limit_in_bytes")))?,
            sockets_limit: if_there(open(memory.join(SOCKETS_LIMIT)))?,
            sockets: if_there(File::open(memory.join("memory.kmem.tcp.usage_in_bytes")))?,
            processes_limit: open(pids.join("pids.max"))?,
            cpu: File::open(cpuacct.join("cpuacct.usage"))?,
            charged: File::open(memory.join("memory.usage_in_bytes"))?,
            peak: File::open(memory.join("memory.max_usage_in_bytes"))?,
            stat: File::open(memory.join("memory.stat"))?,
            oom: File::open(memory.join("memory.oom_control"))?,
        })
    }
}

/// The folders of one job, and the files in them.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    parents: Vec<File>,
    tasks: Vec<OwnedFd>,
    memory_limit: File,
    /// Of memory and swap together; kernels without swap accounting have no such file.
    swap_limit: Option<File>,
    sockets_limit: Option<File>,
    sockets: Option<File>,
    processes_limit: File,
    cpu: File,
    charged: File,
    peak: File,
    stat: File,
    oom: File,
}

impl Group {
    pub(super) fn limit(&self, caps: &Caps) -> io::Result<()> {
        let hard = caps.memory_bytes.saturating_add(FILE_PAGES_BYTES).to_string();
        super::write(&self.memory_limit, &hard)?;
        for limit in [&self.swap_limit, &self.sockets_limit].into_iter().flatten() {
            super::write(limit, &hard)?;
        }
        super::write(&self.processes_limit, &caps.processes.to_string())
    }

    pub(super) fn entrances(&self) -> io::Result<Vec<OwnedFd>> {
        self.tasks.iter().map(OwnedFd::try_clone).collect()
    }

    pub(super) fn cpu_time(&self) -> io::Result<Duration> {
        super::read_number(&self.cpu).map(Duration::from_nanos)
    }

    pub(super) fn memory_charged(&self) -> io::Result<u64> {
        let sockets = self.sockets.as_ref().map_or(Ok(0), super::read_number)?;
        Ok(super::read_number(&self.charged)? + sockets)
    }

    pub(super) fn memory_stat(&self) -> io::Result<String> {
        super::read(&self.stat)
    }

    pub(super) fn memory_peak_charged(&self) -> Option<u64> {
        super::read_number(&self.peak).ok()
    }

    /// `oom_kill` of memory.oom_control: failcnt also counts what reclaim could satisfy.
    pub(super) fn oom_kills(&self) -> io::Result<u64> {
        Ok(super::field(&super::read(&self.oom)?, "oom_kill"))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        // In the opposite order as they were made: as long as there is any there is the first.
        self.parents.iter().rev().try_for_each(|parent| super::remove_folder(parent, &self.name))
    }
}

fn if_there(file: io::Result<File>) -> io::Result<Option<File>> {
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::Tree;

    #[test]
    fn a_machine_that_gives_one_hierarchy_of_three_is_left_as_it_was() {
        let root = tempfile::tempdir().expect("folder");
        let memory = root.path().join("memory");
        std::fs::create_dir(&memory).expect("folder");
        let mount = |name: &str| {
            let point = root.path().join(name);
            format!("1 1 0:1 / {} rw - cgroup cgroup rw,{name}\n", point.display())
        };
        let mounts = mount("memory") + &mount("cpuacct");
        let why =
            Tree::find(&mounts, "2:memory:/\n1:cpuacct:/\n", "00000001", 1).expect_err("half");
        assert!(why.starts_with("no right to the cpuacct cgroup"), "{why}");
        assert_eq!(std::fs::read_dir(&memory).expect("folder").count(), 0);
    }
}
