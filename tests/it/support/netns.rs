//! A network of a test's own: a network namespace, joined to this one by a pair of interfaces that go with it.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use super::skip;

/// Ends, with all that belongs to it, when dropped.
#[derive(Debug)]
pub(crate) struct OtherNetwork {
    namespace: String,
    /// The end of the pair that is on this side.
    here: String,
    subnet: u8,
}

impl OtherNetwork {
    /// One that can be reached from here; without the right to make one the test skips itself.
    pub(crate) fn join() -> Option<OtherNetwork> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let network = OtherNetwork {
            namespace: format!("bdtest-{pid}-{number}"),
            // 15 bytes at the most.
            here: format!("bd{pid}h{number}"),
            subnet: (pid as u8).wrapping_mul(7).wrapping_add(number),
        };
        if !nix::unistd::geteuid().is_root() || !ip(&["netns", "add", &network.namespace]) {
            // Nothing was made.
            std::mem::forget(network);
            skip("cannot make a network namespace: needs root and `ip`");
            return None;
        }
        let there = format!("bd{pid}t{number}");
        let [ours, theirs] =
            [network.address_here(), network.address()].map(|ip| format!("{ip}/30"));
        let words: [&[&str]; 3] = [
            &[
                "link",
                "add",
                &network.here,
                "type",
                "veth",
                "peer",
                "name",
                &there,
                "netns",
                &network.namespace,
            ],
            &["addr", "add", &ours, "dev", &network.here],
            &["link", "set", &network.here, "up"],
        ];
        let is_made = words.iter().all(|words| ip(words))
            && [&["addr", "add", &theirs, "dev", &there][..], &["link", "set", &there, "up"]]
                .into_iter()
                .all(|words| ip(&[&["-n", &network.namespace], words].concat()));
        if !is_made {
            skip("cannot join a network namespace by a pair of interfaces");
            return None;
        }
        Some(network)
    }

    /// Of those that are set aside for trying networks out (RFC 2544), which no route leads to.
    fn address_here(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 1)
    }

    /// Its own.
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 2)
    }

    /// A command that runs there the program whose words are added; all but the network is this side's.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--");
        command
    }

    /// Cuts it off: from now on nothing gets there or back, and nobody is told.
    pub(crate) fn cut(&self) {
        assert!(ip(&["link", "set", &self.here, "down"]));
    }

    /// Ends that.
    pub(crate) fn mend(&self) {
        assert!(ip(&["link", "set", &self.here, "up"]));
    }
}

impl Drop for OtherNetwork {
    fn drop(&mut self) {
        // The other end goes with it.
        ip(&["link", "del", &self.here]);
        ip(&["netns", "del", &self.namespace]);
    }
}

/// Whether it could be done.
fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
}
