//! PID 1 of a jail: mounts /proc, then reaps what nobody waits for, until it is killed.
//!
//! It has no result channel and takes no input; the program's exit status comes from its true
//! parent, the helper outside of the jail. Not dumpable, so a program with the same uid can neither
//! trace it nor read its memory. It ends when the daemon does (end-of-file on the liveness pipe) or
//! when its helper does (PDEATHSIG), and all processes of the jail end with it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use nix::{
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, signal::Signal},
};

use super::{jail, launcher, sys};

/// As root, the uid of every init: neither the daemon's nor any program's.
const NOBODY: u32 = 65534;

/// Files of /proc that tell of the machine or act on it, hidden under /dev/null.
const MASKED: &[&str] =
    &["cmdline", "kcore", "keys", "kallsyms", "sysrq-trigger", "timer_list", "sched_debug", "kmsg"];

/// What init needs from its helper.
pub(super) struct Init {
    /// Closed by the daemon's end, never written to.
    pub(super) liveness: OwnedFd,
    /// Init writes one byte when /proc is there, or the text of an error.
    pub(super) ready: OwnedFd,
    /// The helper writes one byte when the jail is closed.
    pub(super) go: OwnedFd,
    /// Whether uid 65534 can be had: as real root.
    pub(super) change_user: bool,
}

/// The whole life of PID 1.
pub(super) fn run(init: Init) -> ! {
    // First of all the helper's control socket: the daemon must see at once when the helper is gone.
    if keep_only(&init).is_err() {
        sys::exit(1);
    }
    let mut ready = File::from(init.ready);
    // Worth no jail: a program that reads it learns where the daemon's executable is.
    let _ = hide_command_line();
    match mount_proc() {
        Ok(()) => {
            if ready.write_all(&[0]).is_err() {
                sys::exit(1);
            }
        }
        Err(error) => {
            // The helper reports it; when it is gone nobody needs to know.
            let _ = ready.write_all(error.to_string().as_bytes());
            sys::exit(1);
        }
    }
    drop(ready);
    if settle(init.change_user).is_err() {
        sys::exit(1);
    }
    let mut byte = [0];
    if File::from(init.go).read(&mut byte).unwrap_or(0) == 0 {
        sys::exit(0); // the helper died before it could see our PDEATHSIG
    }
    sys::ignore_child_ends();
    loop {
        let mut fds = [PollFd::new(init.liveness.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            _ => sys::exit(0),
        }
    }
}

/// Leaves of the launcher's command line, which is ours by fork, only what tells nothing of the machine
/// but to its operator whose process this is: every program can read it in /proc/1/cmdline.
fn hide_command_line() -> io::Result<()> {
    let own = jail::on_host(Path::new("/proc/self"));
    let stat = fs::read_to_string(own.join("stat"))?;
    // Fields 48 and 49 of proc_pid_stat(5); the second, in parentheses, may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ends: Vec<u64> = fields.skip(48 - 3).take(2).flat_map(str::parse).collect();
    let [start, end] = ends[..] else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let settings = std::env::args().nth(2).unwrap_or_default();
    let launcher::Settings { instance, .. } = serde_json::from_str(&settings)?;
    let mut line = format!("braindrill\0{}\0{instance}\0", launcher::ARGUMENT).into_bytes();
    line.resize(end.saturating_sub(start) as usize, 0);
    File::options().write(true).open(own.join("mem"))?.write_all_at(&line, start)
}

/// Read-only: beside /proc/sys that keeps a program from lowering its oom_score_adj, which the kernel
/// allows where an ordinary user has raised it.
fn mount_proc() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
    for name in MASKED {
        let path = format!("/proc/{name}");
        match mount(Some("/dev/null"), path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
        {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Gives up what init no longer needs. PDEATHSIG comes after the change of user, which clears it.
fn settle(change_user: bool) -> io::Result<()> {
    sys::drop_privileges(change_user.then_some(NOBODY))?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// Closes every other descriptor: above all the control socket, by whose end the daemon sees that the
/// helper has ended.
fn keep_only(init: &Init) -> io::Result<()> {
    let mut kept = [&init.liveness, &init.ready, &init.go].map(AsRawFd::as_raw_fd);
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if first < fd {
            sys::close_between(first, fd - 1)?;
        }
        first = fd + 1;
    }
    sys::close_from(first)
}
