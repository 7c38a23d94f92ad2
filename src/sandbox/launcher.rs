//! The long-lived, single-threaded process that forks a helper for each job.
//!
//! It is the daemon's own executable under another argument, so that forking copies a small, quiet
//! process and never one with threads. As an ordinary user it lives in a user namespace of its own,
//! in which it is root, and everything after is the same code as for real root.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    process::Command,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{getegid, geteuid, setgroups},
};
use serde::{Deserialize, Serialize};

use super::{
    Without, bare,
    cgroup::Tree,
    helper,
    network::Networks,
    sys,
    sys::Forked,
    wire::{self, Facts},
};

/// The first argument that makes the executable a launcher.
pub(super) const ARGUMENT: &str = "sandbox-launcher";
/// The descriptor of the socket that orders come by: a packet each, with the job's control socket.
pub(super) const ORDERS_FD: i32 = 3;
/// The read end of the pipe that tells of the daemon's death.
pub(super) const LIVENESS_FD: i32 = 4;

/// What to do where a jail cannot be built.
pub(super) const REMEDY: &str = "run the daemon as an ordinary user who may make user namespaces \
    (sysctl user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1, \
    kernel.apparmor_restrict_unprivileged_userns=0) or as root with all capabilities; in a \
    container see docs/docker.md";

/// How the launcher is started: its second argument, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) instance: String,
    /// Jobs at once.
    pub(super) slots: u32,
    /// Jails at once, those that wait included; each has a uid of its own.
    pub(super) seats: u32,
    pub(super) first_uid: u32,
    pub(super) without: Without,
    /// Without a floor: what the paths of jobs' folders begin with.
    pub(super) bare: Option<PathBuf>,
    /// Whether jobs of this instance that are found belong to a daemon that is gone.
    pub(super) first: bool,
}

/// What helpers need to know of this machine.
pub(super) struct Machine {
    pub(super) liveness: OwnedFd,
    pub(super) tree: Tree,
    /// Whether programs get a user namespace of their own.
    pub(super) user_namespace: bool,
    /// Real root, not root of a user namespace.
    pub(super) root: bool,
    pub(super) ticks_per_second: u64,
    pub(super) cores: u32,
    /// Without a floor: what the paths of jobs' folders begin with.
    pub(super) bare: Option<PathBuf>,
    first_jail_uid: u32,
    jail_uids: u32,
}

impl Machine {
    /// The uid and gid of a seat's programs, as seen from the launcher.
    pub(super) fn jail_uid(&self, seat: u32) -> u32 {
        self.first_jail_uid + seat.min(self.jail_uids - 1)
    }
}

/// Becomes the launcher when the process was started as one; returns otherwise. Call first in
/// `main`, before any thread exists.
pub fn launch_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != ARGUMENT) {
        return;
    }
    let settings = arguments.next().and_then(|text| serde_json::from_str(text.to_str()?).ok());
    match settings {
        Some(settings) => run(settings),
        None => {
            eprintln!("braindrill {ARGUMENT} is started by the daemon, not by hand");
            sys::exit(2)
        }
    }
}

fn run(settings: Settings) -> ! {
    let orders = sys::adopt(ORDERS_FD);
    let liveness = sys::adopt(LIVENESS_FD);
    // Jails are built for other users; what the daemon keeps to itself is not made by this process.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Ctrl-C on a terminal reaches the whole foreground group; jobs end when the daemon says so.
    let _ = nix::unistd::setsid();
    if sys::close_on_exec_from(ORDERS_FD).is_err() {
        sys::exit(1);
    }
    let (machine, facts) = look_around(&settings, liveness);
    let mut greeting = serde_json::to_vec(&facts).unwrap_or_default();
    greeting.push(b'\n');
    if nix::unistd::write(&orders, &greeting).is_err() {
        // The daemon is gone already.
        machine.tree.remove();
        sys::exit(0);
    }
    sys::ignore_child_ends();
    // Root of a user namespace could not come back to the network it is in.
    let mut networks = match machine.root && machine.bare.is_none() {
        true => Networks::new(settings.seats).ok(),
        false => None,
    };
    while serve_next(&orders, &machine, &mut networks) {}
    // The daemon is gone. Its helpers see that too; when the last has cleaned up, so do we.
    sys::wait_for_all();
    machine.tree.remove();
    sys::exit(0)
}

/// Forks a helper for the next job; false when there will be none.
fn serve_next(orders: &OwnedFd, machine: &Machine, networks: &mut Option<Networks>) -> bool {
    let mut text = [0; wire::MAX_SEAT_BYTES];
    let (length, control) = match wire::receive_descriptors(orders, &mut text) {
        Ok((length @ 1.., mut descriptors)) => (length, descriptors.pop()),
        Ok((0, _)) | Err(_) => return false,
    };
    let seat: Option<wire::Seat> = serde_json::from_slice(&text[..length]).ok();
    let Some((control, seat)) = control.zip(seat) else { return true };
    if let Some(networks) = networks {
        networks.lend(seat.slot);
    }
    match sys::fork(0) {
        Ok(Forked::Child) => {
            // Else the daemon could not see that the launcher is gone while a helper is there.
            let _ = nix::unistd::close(ORDERS_FD);
            sys::await_child_ends();
            match &machine.bare {
                Some(prefix) => bare::run(control, &seat, machine, prefix),
                None => {
                    let lent = networks.take().and_then(|networks| networks.lent_to(seat.slot));
                    helper::run(control, &seat, machine, lent)
                }
            }
        }
        Ok(Forked::Parent(_)) => {}
        Err(error) => refuse(control, &error),
    }
    true
}

fn refuse(control: OwnedFd, error: &io::Error) {
    let reply = wire::Reply::Broken(format!("cannot fork: {error}"));
    // The daemon sees end-of-file if even this fails.
    let _ = File::from(control).write_all(&serde_json::to_vec(&reply).unwrap_or_default());
}

/// Finds out what this machine gives, and takes it.
fn look_around(settings: &Settings, liveness: OwnedFd) -> (Machine, Facts) {
    let root = geteuid().is_root();
    let without = settings.without;
    let tree = if without.cgroup {
        Tree::Missing("left out by configuration".to_owned())
    } else {
        Tree::find(&settings.instance, settings.slots, settings.first)
    };
    let mut machine = Machine {
        liveness,
        tree,
        user_namespace: true,
        root,
        ticks_per_second: ticks_per_second(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        bare: settings.bare.clone(),
        first_jail_uid: settings.first_uid,
        jail_uids: settings.seats.max(1),
    };
    if let Some(prefix) = &settings.bare {
        machine.user_namespace = false;
        if settings.first {
            bare::clear(prefix);
        }
        let facts = Facts {
            user_namespace: Err(bare::LIFTED.to_owned()),
            uid: Ok("the daemon's own".to_owned()),
            cgroup: machine.tree.describe(),
        };
        return (machine, facts);
    }
    let uid = if root {
        // A jail keeps the groups it has no right to change.
        let groups =
            setgroups(&[]).map_err(|error| format!("cannot drop groups: {error}; {REMEDY}"));
        let last = settings.first_uid + settings.seats.max(1) - 1;
        let groups = groups.and_then(|()| belong_to_nobody(settings.first_uid, last));
        groups.map(|()| format!("own: {} to {last} on this machine", settings.first_uid))
    } else {
        enter_user_namespace(settings.seats).map(|ids| {
            (machine.first_jail_uid, machine.jail_uids) = ids;
            match ids {
                (0, _) => {
                    "shared: the daemon's own; install uidmap and a range in /etc/subuid for \
                           separate ones"
                        .to_owned()
                }
                (first, count) => format!("own: {count} of /etc/subuid, from number {first}"),
            }
        })
    };
    let tried = if without.user_namespace && root {
        Err(io::Error::other("left out by configuration"))
    } else {
        sys::fork(nix::libc::CLONE_NEWUSER)
    };
    let user_namespace = match tried {
        Ok(Forked::Child) => sys::exit(0),
        Ok(Forked::Parent(pid)) => {
            let _ = sys::wait(pid, true);
            Ok("one for each program".to_owned())
        }
        Err(error) => {
            machine.user_namespace = false;
            Err(format!("{error}; programs run under real uids instead"))
        }
    };
    let facts = Facts { user_namespace, uid, cgroup: machine.tree.describe() };
    (machine, facts)
}

/// Files of whoever has one of these uids would be the programs' own.
fn belong_to_nobody(first: u32, last: u32) -> Result<(), String> {
    let taken = (first..=last).find_map(|uid| nix::unistd::User::from_uid(uid.into()).ok()?);
    taken.map_or(Ok(()), |user| {
        Err(format!(
            "uid {} is {}'s on this machine, and jails need uids {first} to {last} for themselves; \
             --first-uid (BRAINDRILL_FIRST_UID) names another first one",
            user.uid, user.name
        ))
    })
}

fn ticks_per_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks.ok().flatten().map_or(100, |ticks| ticks as u64)
}

/// Becomes root of a new user namespace. Returns the first uid for jails in it and how many there
/// are: a range of /etc/subuid by newuidmap where there is one, else (0, 1), the daemon's own.
fn enter_user_namespace(seats: u32) -> Result<(u32, u32), String> {
    let (uid, gid) = (geteuid(), getegid());
    let ranges = subordinate("/etc/subuid", uid.as_raw(), seats).zip(subordinate(
        "/etc/subgid",
        uid.as_raw(),
        seats,
    ));
    let describe = |error: io::Error| error.to_string();
    let (mut from_mapper, to_us) = io::pipe().map_err(describe)?;
    let (wait_for_us, to_mapper) = io::pipe().map_err(describe)?;
    let parent = std::process::id();
    // The tools must act from outside of the namespace: a child that stays there runs them.
    let mapper = match sys::fork(0).map_err(describe)? {
        Forked::Child => {
            drop((from_mapper, to_mapper));
            let mut byte = [0];
            let mut wait_for_us = wait_for_us;
            let asked = wait_for_us.read(&mut byte).unwrap_or(0) == 1;
            let good = asked
                && ranges.is_some_and(|(uids, gids)| {
                    map("newuidmap", parent, uid.as_raw(), uids, seats)
                        && map("newgidmap", parent, gid.as_raw(), gids, seats)
                });
            let mut to_us = to_us;
            // Our parent reads end-of-file, and knows, if this fails.
            let _ = to_us.write_all(&[u8::from(good)]);
            sys::exit(0)
        }
        Forked::Parent(pid) => pid,
    };
    drop((to_us, wait_for_us));
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|error| format!("no user namespace for an ordinary user: {error}; {REMEDY}"))?;
    let mut to_mapper = to_mapper;
    let mut answer = [0];
    to_mapper.write_all(&[1]).map_err(describe)?;
    let mapped = from_mapper.read(&mut answer).map_err(describe)? == 1 && answer == [1];
    let _ = sys::wait(mapper, true);
    if mapped {
        return Ok((1, seats));
    }
    fs::write("/proc/self/setgroups", "deny").map_err(describe)?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")).map_err(describe)?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")).map_err(describe)?;
    Ok((0, 1))
}

/// The first id of the range of at least `count` that /etc/subuid or /etc/subgid gives to `uid`.
fn subordinate(file: &str, uid: u32, count: u32) -> Option<u32> {
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.trim().split(':');
        let (who, first, length) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = Some(who) == name.as_deref() || who == uid.to_string();
        (ours && length.parse::<u32>().ok()? >= count).then(|| first.parse().ok())?
    })
}

/// Maps 0 to `own` and 1.. to the range from `first`, by one of Debian's two set-uid tools.
fn map(tool: &str, pid: u32, own: u32, first: u32, count: u32) -> bool {
    let words = [pid, 0, own, 1, 1, first, count].map(|word| word.to_string());
    Command::new(format!("/usr/bin/{tool}"))
        .args(words)
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
