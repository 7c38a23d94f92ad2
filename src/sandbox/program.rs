//! The child that becomes the program: from fork to exec, in the jail.

use std::{
    ffi::CString,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        resource::{Resource, getrlimit, rlim_t, setrlimit},
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, setsid},
};

use super::{Caps, sys};

/// Environment of every program; a job's own variables override it.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ("HOME", "/box"),
    ("TMPDIR", "/tmp"),
    ("LANG", "C.UTF-8"),
    ("TZ", "UTC"),
];

/// Everything the child needs, made before the fork.
pub(super) struct Program {
    /// Words; empty when only the jail is tried.
    pub(super) command: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) stdio: [OwnedFd; 3],
    /// Whether that is a terminal, which is to be its own.
    pub(super) tty: bool,
    /// `tasks` of each v1 cgroup.
    pub(super) cgroups: Vec<OwnedFd>,
    pub(super) place: Place,
    pub(super) caps: Caps,
    /// Set where no cgroup counts memory.
    pub(super) data_limit: Option<u64>,
    /// How many processes its uid may have. The kernel counts those of the uid in its user namespace;
    /// without one, other jails' count too, so a cgroup's own limit is better where there is one.
    pub(super) processes: Option<u64>,
    /// One byte comes when the id maps are written.
    pub(super) mapped: OwnedFd,
    /// Closed by a good exec; else an errno in text comes.
    pub(super) failed: OwnedFd,
}

/// Where a program runs.
pub(super) enum Place {
    /// In a jail that is built.
    Jail {
        /// The uid and gid in the child's user namespace, or on the host where it has none.
        uid: u32,
        filter: Vec<nix::libc::sock_filter>,
    },
    /// On the machine itself as the daemon's user, in this folder.
    Bare(PathBuf),
}

/// The words and variables as exec wants them.
///
/// # Errors
/// One of them holds a NUL byte.
pub(super) fn strings(
    command: &[String],
    env: &[(String, String)],
) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let words = command.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
    let fixed = ENVIRONMENT.iter().filter(|(name, _)| !env.iter().any(|(own, _)| own == name));
    let own = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables = fixed
        .copied()
        .chain(own)
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    Ok((words, variables))
}

/// Becomes the program, or says why not and ends.
pub(super) fn run(program: Program) -> ! {
    let mut failed = match program.failed.try_clone() {
        Ok(failed) => std::fs::File::from(failed),
        Err(_) => sys::exit(1),
    };
    let text = match become_program(program) {
        Ok(()) => sys::exit(0), // only the jail was to be tried
        Err((step, error)) => format!("{step}\n{error}"),
    };
    // The helper reports it; when it is gone nobody needs to know.
    let _ = failed.write_all(text.as_bytes());
    sys::exit(1)
}

type Step = &'static str;

fn become_program(program: Program) -> Result<(), (Step, io::Error)> {
    let at = |step: Step| move |error: io::Error| (step, error);
    let errno = |step: Step| move |error: nix::errno::Errno| (step, io::Error::from(error));

    let mut byte = [0];
    let read = nix::unistd::read(&program.mapped, &mut byte).map_err(errno("id map"))?;
    if read == 0 {
        sys::exit(1); // the helper is gone
    }
    for cgroup in &program.cgroups {
        // "0" moves the calling thread, which is all there is: unlike a move of another process it
        // takes no lock that waits for every CPU (9.6 ms against 0.04 ms on Linux 6.18).
        nix::unistd::write(cgroup, b"0").map_err(errno("cgroup"))?;
    }
    // Else /proc/self/cgroup tells the daemon's place and how many jobs there were before. A kernel
    // without cgroups has no namespace for them.
    if let Place::Jail { .. } = &program.place {
        match unshare(CloneFlags::CLONE_NEWCGROUP) {
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(error) => return Err(errno("cgroup namespace")(error)),
        }
    }
    setsid().map_err(errno("session"))?;
    set_limits(&program).map_err(at("limits"))?;
    match &program.place {
        Place::Jail { uid, .. } => sys::drop_privileges(Some(*uid)),
        Place::Bare(_) => sys::drop_capabilities(),
    }
    .map_err(at("privileges"))?;
    prctl::set_no_new_privs().map_err(errno("no_new_privs"))?;
    umask(Mode::from_bits_truncate(0o022));
    match &program.place {
        Place::Jail { .. } => chdir("/box"),
        Place::Bare(folder) => {
            // A jail's init does this for all of it; here it is for the first process alone.
            prctl::set_pdeathsig(Signal::SIGKILL).map_err(errno("pdeathsig"))?;
            chdir(folder)
        }
    }
    .map_err(errno("work directory"))?;
    let [stdin, stdout, stderr] = &program.stdio;
    dup2_stdin(stdin).map_err(errno("stdin"))?;
    dup2_stdout(stdout).map_err(errno("stdout"))?;
    dup2_stderr(stderr).map_err(errno("stderr"))?;
    if program.tty {
        rustix::process::ioctl_tiocsctty(stdin).map_err(|error| at("terminal")(error.into()))?;
    }
    debug_assert!(program.failed.as_raw_fd() > 2);
    sys::close_on_exec_from(3).map_err(at("descriptors"))?;
    sys::reset_signals();
    if let Place::Jail { filter, .. } = &program.place {
        sys::load_seccomp(filter).map_err(at("seccomp"))?;
    }
    let Some(path) = program.command.first() else {
        return Ok(());
    };
    match execve(path, &program.command, &program.environment) {
        Err(error) => Err(("exec", error.into())),
    }
}

fn set_limits(program: &Program) -> io::Result<()> {
    let caps = &program.caps;
    let mut limits: Vec<(Resource, rlim_t)> = vec![
        // One more second than the limit: a backstop, should the helper be starved.
        (Resource::RLIMIT_CPU, caps.cpu_time.as_millis().div_ceil(1000) as rlim_t + 1),
        (Resource::RLIMIT_NOFILE, caps.open_files),
        (Resource::RLIMIT_STACK, caps.stack_bytes),
        // Not 0: a core_pattern with a pipe is started even then.
        (Resource::RLIMIT_CORE, 1),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 0),
    ];
    limits.extend(program.data_limit.map(|bytes| (Resource::RLIMIT_DATA, bytes)));
    limits.extend(program.processes.map(|most| (Resource::RLIMIT_NPROC, most)));
    let is_bare = matches!(program.place, Place::Bare(_));
    if is_bare {
        // In a jail the size of its tmpfs says so.
        limits.push((Resource::RLIMIT_FSIZE, caps.disk_bytes));
    }
    for (resource, value) in limits {
        // The daemon itself may have less, as under a `ulimit -n 256`, and nobody here can raise it.
        let (_, most) = getrlimit(resource)?;
        let value = value.min(most);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}
