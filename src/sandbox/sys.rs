//! The system calls that no safe crate wraps. The only file with `unsafe` in it.
//!
//! Every function here is called from the single-threaded launcher and its children, except
//! [`adopt`], [`above`], [`pass_on`] and [`watch`], which the daemon calls.

#![allow(unsafe_code)]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::io::unix::AsyncFd;

/// Which side of a fork one is on.
pub(super) enum Forked {
    /// In the new process.
    Child,
    /// In the old one, with the pid of the new one in the caller's pid namespace.
    Parent(Pid),
}

/// fork(2) with more clone flags. The caller has one thread only, so the child may allocate.
///
/// # Errors
/// As clone(2): EPERM or ENOSPC where a namespace is not to be had.
pub(super) fn fork(namespaces: libc::c_int) -> io::Result<Forked> {
    let flags = (namespaces | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: without CLONE_VM the child has its own copy of the memory, and a null stack means
    // that it goes on on its copy of ours. No other thread exists whose locks could be held.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Ok(Forked::Parent(Pid::from_raw(pid as libc::pid_t))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// libc's constant of this name is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) with CLONE_INTO_CGROUP (Linux 5.7): the child begins in the cgroup of `cgroup`, a
/// folder of a v2 tree, without the wait for all of the machine that a move costs.
///
/// # Errors
/// As clone3(2).
pub(super) fn fork_into_cgroup(namespaces: libc::c_int, cgroup: RawFd) -> io::Result<Forked> {
    // SAFETY: all-zero is a valid clone_args: every field is an integer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64 | CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup as u64;
    // SAFETY: as in `fork`; the structure lives through the call and its size is passed with it.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Ok(Forked::Parent(Pid::from_raw(pid as libc::pid_t))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once: no destructors, no buffers.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A handle on a child that poll(2) wakes for when it ends (Linux 5.3).
///
/// # Errors
/// As pidfd_open(2).
pub(super) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; a fresh descriptor comes back.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Has the runtime watch a descriptor.
///
/// # Errors
/// As epoll_ctl(2).
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it owns its descriptor, which nobody closes or exchanges as long as it is watched.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Takes over a descriptor that came with a message or an exec.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number that the kernel has just handed to this process (SCM_RIGHTS)
    // or that `pass_on` put there, and never twice.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Marks every descriptor from `first` on to be closed at exec.
///
/// # Errors
/// As close_range(2) (Linux 5.11 for the flag).
pub(super) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    close_range(first, None, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// As close_range(2).
pub(super) fn close_from(first: RawFd) -> io::Result<()> {
    close_range(first, None, 0)
}

/// Closes every descriptor from `first` to `last`, both included.
///
/// # Errors
/// As close_range(2).
pub(super) fn close_between(first: RawFd, last: RawFd) -> io::Result<()> {
    close_range(first, Some(last), 0)
}

fn close_range(first: RawFd, last: Option<RawFd>, flags: libc::c_uint) -> io::Result<()> {
    let (first, last) = (first as libc::c_uint, last.map_or(u32::MAX, |last| last as libc::c_uint));
    // SAFETY: closing is the purpose; callers are children about to exec or to wait, and own
    // nothing in the range that would be closed again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(result)
}

/// Sets attributes of a mount and of all mounts below it (Linux 5.12).
///
/// # Errors
/// As mount_setattr(2); ENOSYS on an older kernel.
pub(super) fn set_mount_attributes(path: &CStr, attributes: u64) -> io::Result<()> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attr = MountAttr { set: attributes, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: path is NUL-terminated and attr has the layout of struct mount_attr, whose size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &attr,
            size_of::<MountAttr>(),
        )
    };
    check(result)
}

/// Gives up every capability, and the bounding set with them, then becomes one user and group: by raw
/// system calls, since glibc's would signal other threads.
///
/// The bounding set goes first, while there is still the right to; leaving uid 0 takes the rest.
///
/// # Errors
/// As prctl(2), setresuid(2), setresgid(2) and capset(2).
pub(super) fn drop_privileges(user: Option<u32>) -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes one integer.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if dropped < 0 {
            match Errno::last() {
                Errno::EINVAL => break, // past the last capability of this kernel
                error => return Err(error.into()),
            }
        }
    }
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes no argument.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if let Some(id) = user {
        // SAFETY: both take integers only.
        check(unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) })?;
        // SAFETY: as above.
        check(unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) })?;
    }
    drop_capabilities()
}

/// Gives up every capability that this process has, which anybody may. With no_new_privs none comes
/// back by an exec, not even for root.
///
/// # Errors
/// As capset(2).
pub(super) fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: header and data have the layouts that version 3 of capset(2) asks for.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, &none) })
}

/// Loads a seccomp filter into this process; needs no_new_privs.
///
/// # Errors
/// As prctl(2).
pub(super) fn load_seccomp(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program during the call and writes nothing to it.
    let result =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program, 0, 0) };
    check(result.into())
}

/// All signals to their defaults, none blocked: Rust's runtime ignores SIGPIPE, and what is ignored
/// stays ignored over an exec.
pub(super) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always a valid disposition; the two signals that refuse return an error.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is written by sigemptyset before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Makes ended children wait for their parent again, after [`ignore_child_ends`].
pub(super) fn await_child_ends() {
    // SAFETY: SIG_DFL is always a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Lets the kernel reap children by itself.
pub(super) fn ignore_child_ends() {
    // SAFETY: SIG_IGN is always a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Brings the loopback interface of this network namespace up.
///
/// # Errors
/// As ioctl(2).
pub(super) fn loopback_up() -> io::Result<()> {
    // SAFETY: plain socket creation; the descriptor is owned below.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let socket = adopt(fd);
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags set.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    check(result.into())
}

/// Waits for one child, WNOHANG when `block` is false; `None` while it runs.
///
/// # Errors
/// ECHILD when there is no such child.
pub(super) fn wait(pid: Pid, block: bool) -> io::Result<Option<(Pid, super::End)>> {
    wait_for(pid.as_raw(), if block { 0 } else { libc::WNOHANG })
}

/// Stops a child, and returns when none of its threads runs on; whether it was there to be stopped.
///
/// # Errors
/// As kill(2) and waitid(2).
pub(super) fn stop(pid: Pid) -> io::Result<bool> {
    kill(pid, Signal::SIGSTOP)?;
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::Stopped(..)) => return Ok(true),
            Ok(_) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until a child ends, whoever that is; `None` when there is none.
///
/// # Errors
/// As waitpid(2).
pub(super) fn wait_for_any() -> io::Result<Option<(Pid, super::End)>> {
    match wait_for(-1, libc::__WALL) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        ended => ended,
    }
}

fn wait_for(pid: i32, options: i32) -> io::Result<Option<(Pid, super::End)>> {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid place for an integer.
        let found = unsafe { libc::waitpid(pid, &mut status, options) };
        match found {
            0 => return Ok(None),
            found if found > 0 => {
                let end = if libc::WIFSIGNALED(status) {
                    super::End::Signaled(libc::WTERMSIG(status))
                } else {
                    super::End::Exited(libc::WEXITSTATUS(status))
                };
                return Ok(Some((Pid::from_raw(found), end)));
            }
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

/// Waits until no child is left; their ends are ignored.
pub(super) fn wait_for_all() {
    // SAFETY: a null status is allowed. With SIGCHLD ignored it returns when the last child is gone.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 || Errno::last() == Errno::EINTR
    {
    }
}

/// Whether a file has an extended attribute of this name, whatever its value.
pub(super) fn has_attribute(path: &std::path::Path, name: &str) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes());
    let (Ok(path), Ok(name)) = (path, std::ffi::CString::new(name)) else { return false };
    // SAFETY: both strings end in NUL; a null buffer of size 0 only asks for the length.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    length >= 0
}

/// Makes each descriptor survive the exec of `command` under the number beside it. The numbers are
/// free of the descriptors themselves: those come from [`above`].
pub(super) fn pass_on(command: &mut std::process::Command, pairs: [(&OwnedFd, RawFd); 2]) {
    use std::os::unix::process::CommandExt;
    let pairs = pairs.map(|(fd, number)| (fd.as_raw_fd(), number));
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls; the
    // caller keeps the descriptors open until the spawn is over. dup2 clears close-on-exec.
    unsafe {
        command.pre_exec(move || {
            pairs.iter().try_for_each(|&(fd, number)| check(libc::dup2(fd, number).into()))
        });
    }
}

/// The same descriptor under a number of 10 or more, closed at exec.
///
/// # Errors
/// As fcntl(2).
pub(super) fn above(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let arg = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(10);
    Ok(adopt(nix::fcntl::fcntl(fd, arg)?))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
