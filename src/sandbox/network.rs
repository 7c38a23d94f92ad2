//! Network namespaces with a loopback alone, which are lent to one jail after the other as long as nobody has
//! used any of their network.
//!
//! To make one and to take it down costs the kernel about as much as all else of a jail's namespaces. The
//! launcher makes them and lends each to a helper; the helper says when its jail has left it as it was, else
//! it is thrown away:
//!
//! ```text
//!  launcher: make ── lend ──────────────────────────────────────── lend to the next, or throw away
//!  helper:            enter ── jail ── all of it dead ── untouched? ── give back
//! ```
//!
//! What decides is what the namespace tells of itself: its counters of packets, connects and sockets, its
//! groups and labels, byte for byte. Decision 15 in `docs/decisions/` says why nothing else can be left there.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    fcntl::{OFlag, openat},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
    unistd::pipe2,
};

use super::sys;

/// Below `/proc/self/net`: whatever a process without capabilities in a namespace with a loopback alone, whose
/// sockets are those that the seccomp filter lets it have, can change and leave behind.
const SEEN: &[&str] = &[
    // packets, connections, errors and routes that were not found, all counted for good
    "dev", "snmp", "netstat",
];

/// The same, where the kernel has IPv6 or knows of groups.
const SEEN_IF_THERE: &[&str] = &[
    "snmp6",
    // routes that were used, by a connect that sends nothing too
    "rt6_stats",
    "ipv6_route",
    "igmp",
    "igmp6",
    "ip6_flowlabel",
];

/// The same, of which the first line alone is this namespace's: how many sockets there are.
const SOCKETS: &str = "sockstat";

/// The namespaces that the launcher has.
pub(super) struct Networks {
    /// Its own, to come back to.
    home: OwnedFd,
    proc: File,
    /// By seat, what its helper has.
    lent: Vec<Option<Network>>,
    free: Vec<Network>,
    next: u64,
    /// Where helpers say which they give back: its number.
    returned: File,
    giving_back: File,
}

/// One of them.
struct Network {
    number: u64,
    namespace: OwnedFd,
    /// What it told of itself when it was new.
    fresh: Vec<u8>,
}

impl Networks {
    /// None yet, for so many seats.
    ///
    /// # Errors
    /// This process could not come back from one.
    pub(super) fn new(seats: u32) -> io::Result<Networks> {
        let home = File::open("/proc/self/ns/net")?.into();
        setns(&home, CloneFlags::CLONE_NEWNET)?;
        let (returned, giving_back) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Networks {
            home,
            proc: File::open("/proc")?,
            lent: (0..seats).map(|_| None).collect(),
            free: Vec::new(),
            next: 0,
            returned: returned.into(),
            giving_back: giving_back.into(),
        })
    }

    /// Has one for the next helper of a seat. What the last one did not give back is thrown away.
    pub(super) fn lend(&mut self, seat: u32) {
        self.take_back();
        let Some(place) = self.lent.get_mut(seat as usize) else { return };
        *place = None;
        let network = self.free.pop().or_else(|| self.make().ok());
        self.lent[seat as usize] = network;
    }

    /// In the helper of a seat: what it was lent, without all else, which it would keep alive.
    pub(super) fn lent_to(self, seat: u32) -> Option<Lent> {
        let network = self.lent.into_iter().nth(seat as usize)??;
        let Network { number, namespace, fresh } = network;
        Some(Lent { number, namespace: Some(namespace), fresh, giving_back: self.giving_back })
    }

    fn take_back(&mut self) {
        let mut numbers = [0; 64 * size_of::<u64>()];
        while let Ok(length @ 1..) = (&self.returned).read(&mut numbers) {
            for number in numbers[..length].chunks_exact(size_of::<u64>()) {
                let is_it = |network: &mut Network| network.number.to_ne_bytes() == *number;
                let network = self.lent.iter_mut().find_map(|place| place.take_if(is_it));
                self.free.extend(network);
            }
        }
    }

    fn make(&mut self) -> io::Result<Network> {
        let made = make().and_then(|()| {
            let namespace = File::open("/proc/self/ns/net")?.into();
            Ok((namespace, look(&self.proc)?))
        });
        setns(&self.home, CloneFlags::CLONE_NEWNET)?;
        let (namespace, fresh) = made?;
        self.next += 1;
        Ok(Network { number: self.next, namespace, fresh })
    }
}

/// Puts this process into a new one.
///
/// # Errors
/// As unshare(2), and as where its loopback cannot be brought up.
pub(super) fn make() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    sys::loopback_up()
}

/// What a helper has of its network.
pub(super) struct Lent {
    number: u64,
    /// Until it is in it.
    namespace: Option<OwnedFd>,
    fresh: Vec<u8>,
    giving_back: File,
}

impl Lent {
    /// Goes into it.
    ///
    /// # Errors
    /// As setns(2).
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let namespace = self.namespace.take().ok_or(io::ErrorKind::NotFound)?;
        Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?)
    }

    /// Gives it back if nobody has used it. Nobody may be in it any more but this process, whose own it is;
    /// `proc` is the host's /proc.
    pub(super) fn give_back(&self, proc: &File) {
        if look(proc).is_ok_and(|seen| seen == self.fresh) {
            // What is not given back is thrown away.
            let _ = (&self.giving_back).write(&self.number.to_ne_bytes());
        }
    }
}

/// What the network namespace of this process tells of itself.
fn look(proc: &File) -> io::Result<Vec<u8>> {
    let mut seen = Vec::with_capacity(16 << 10);
    for name in SEEN {
        read(proc, name, &mut seen)?;
        seen.push(0);
    }
    for name in SEEN_IF_THERE {
        match read(proc, name, &mut seen) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read?,
        }
        seen.push(0);
    }
    let mut sockets = Vec::new();
    read(proc, SOCKETS, &mut sockets)?;
    seen.extend(sockets.split(|byte| *byte == b'\n').next().unwrap_or_default());
    Ok(seen)
}

fn read(proc: &File, name: &str, into: &mut Vec<u8>) -> io::Result<()> {
    let path = format!("self/net/{name}");
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(proc.as_fd(), path.as_str(), flags, Mode::empty())?;
    File::from(file).read_to_end(into).map(drop)
}
