//! The daemon's handle on its launcher process.

use std::{
    io::{self, IoSlice, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use crate::sandbox::{
    SandboxConfig, launcher, sys,
    wire::{Facts, Seat},
};

/// How long the launcher may take to look around; running newuidmap is its slowest step.
const GREETING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the launcher may take to end: helpers kill, reap and remove a cgroup, no more.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(20);

/// The most that a greeting is long: three sentences.
const GREETING_BYTES: usize = 64 << 10;

/// The launcher process. It ends by itself when our end of its socket is closed.
#[derive(Debug)]
pub(super) struct Launcher {
    /// What it found when it looked around.
    pub(super) facts: Facts,
    /// `None` only while it is being dropped.
    orders: Option<OwnedFd>,
    child: Child,
}

impl Launcher {
    /// `bare`: for jobs without a jail. `first`: of this daemon, so that what it finds of an earlier one is to be ended.
    pub(super) fn start(
        config: &SandboxConfig,
        alive: &OwnedFd,
        bare: bool,
        first: bool,
    ) -> io::Result<Launcher> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let (theirs, alive) = (sys::above(&theirs)?, sys::above(alive)?);
        let settings = launcher::Settings {
            instance: config.instance.clone(),
            slots: config.slots,
            seats: config.seats(),
            first_uid: config.first_uid,
            without: config.without,
            bare: bare
                .then(|| std::env::temp_dir().join(format!("braindrill-{}-", config.instance))),
            first,
        };
        let mut command = Command::new(&config.executable);
        command
            .arg(launcher::ARGUMENT)
            .arg(serde_json::to_string(&settings)?)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        sys::pass_on(
            &mut command,
            [(&theirs, launcher::ORDERS_FD), (&alive, launcher::LIVENESS_FD)],
        );
        let child = command.spawn()?;
        drop((theirs, alive));
        let mut launcher = Launcher {
            facts: Facts {
                user_namespace: Err(String::new()),
                uid: Err(String::new()),
                cgroup: Err(String::new()),
            },
            orders: Some(ours.try_clone()?),
            child,
        };
        let socket = StdStream::from(ours);
        socket.set_read_timeout(Some(GREETING_TIMEOUT))?;
        let mut text = vec![0; GREETING_BYTES];
        let length = (&socket).read(&mut text)?;
        launcher.facts = serde_json::from_slice(&text[..length])
            .map_err(|_| io::Error::other("the launcher process ended at once"))?;
        Ok(launcher)
    }

    /// Asks for a helper that serves `control`.
    pub(super) fn fork_helper(&self, control: &OwnedFd, seat: &Seat) -> io::Result<()> {
        let orders = self.orders.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        send_descriptors(orders, &serde_json::to_vec(seat)?, &[control.as_raw_fd()])
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.orders = None;
        // It has read end-of-file and is on its way out, when its last helper has cleaned up.
        let begin = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if begin.elapsed() > FAREWELL_TIMEOUT {
                tracing::error!("the sandbox launcher does not end; killing it");
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sends a few bytes with descriptors, as
/// [`receive_descriptors`](crate::sandbox::wire::receive_descriptors) takes them.
pub(super) fn send_descriptors(
    socket: &impl AsRawFd,
    bytes: &[u8],
    descriptors: &[i32],
) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], &rights, flags, None)?;
    Ok(())
}
