//! The seccomp filter of every jailed program: default allow, with the calls that a program under
//! judgement has no use for and a kernel has had bugs in taken out.
//!
//! Written as classic BPF by hand, since the filter needs a comparison on the call's number ("above
//! the newest known"), which the filter crates do not offer. Calls without a rule stay in the kernel's
//! bitmap of always-allowed numbers (Linux 5.11) and cost nothing.

use nix::libc::{self, sock_filter};

/// The highest system call number known when this was written (Linux 6.18: file_setattr, 469).
/// Above it everything is ENOSYS, as on a kernel that does not have the call.
const NEWEST_SYSCALL: u32 = 469;

// Newer than the libc crate; numbers above 423 are the same on every architecture.
const SYS_QUOTACTL_FD: libc::c_long = 443;
const SYS_PROCESS_MRELEASE: libc::c_long = 448;
const SYS_CACHESTAT: libc::c_long = 451;
const SYS_STATMOUNT: libc::c_long = 457;
const SYS_LISTMOUNT: libc::c_long = 458;
const SYS_LSM_SET_SELF_ATTR: libc::c_long = 460;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Refused with EPERM whatever the arguments.
const REFUSED: &[libc::c_long] = &[
    // mounts
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_STATMOUNT,
    SYS_LISTMOUNT,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    SYS_QUOTACTL_FD,
    libc::SYS_acct,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    SYS_PROCESS_MRELEASE,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_setns,
    // kernel keyrings
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // programs inside the kernel, and ways to watch or halt it
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    // the kernel itself
    SYS_LSM_SET_SELF_ATTR,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    // files by handle walk past every mount
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // the machine's clock and names
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // left of older kernels
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// Answered as if the kernel did not have them: programs then take the older way. clone3 hides its
/// flags behind a pointer, where no filter can see them; io_uring does file and socket work that no
/// filter sees at all; cachestat tells what others have read of the files that all jails show.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret,
    SYS_CACHESTAT,
];

const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32
    | CLONE_NEWTIME;
const CLONE_NEWTIME: u32 = 0x80;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

/// x32 calls are the 64-bit ones with this bit in the number.
const X32_BIT: u32 = 0x4000_0000;

// Offsets in struct seccomp_data; arguments are 64-bit, little-endian on both architectures.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument_low(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const fn errno(code: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (code as u32 & libc::SECCOMP_RET_DATA)
}

/// What a rule looks at in an argument.
enum Test {
    /// The low 32 bits have one of these bits.
    AnyBit(u32),
    /// The low 32 bits are none of these.
    NoneOf(&'static [u32]),
    /// The low 32 bits are one of these.
    OneOf(&'static [u32]),
}

/// The filter for this machine's architecture. Where no cgroup counts memory, a memfd would be
/// memory that nobody sees, so there is none.
pub(super) fn filter(memory_is_counted: bool) -> Vec<sock_filter> {
    let mut code = vec![
        load(ARCH),
        jump_equal(ARCHITECTURE, 1, 0),
        answer(KILL),
        load(NUMBER),
        jump_at_least(X32_BIT, 0, 1),
        answer(KILL),
        jump_above(NEWEST_SYSCALL, 0, 1),
        answer(errno(libc::ENOSYS)),
    ];
    for &call in REFUSED {
        code.extend([jump_equal(call as u32, 0, 1), answer(errno(libc::EPERM))]);
    }
    for &call in ABSENT {
        code.extend([jump_equal(call as u32, 0, 1), answer(errno(libc::ENOSYS))]);
    }
    if !memory_is_counted {
        let call = libc::SYS_memfd_create as u32;
        code.extend([jump_equal(call, 0, 1), answer(errno(libc::ENOSYS))]);
    }
    let refuse = errno(libc::EPERM);
    rule(&mut code, libc::SYS_clone, 0, Test::AnyBit(NAMESPACE_FLAGS), refuse);
    rule(&mut code, libc::SYS_unshare, 0, Test::AnyBit(NAMESPACE_FLAGS), refuse);
    // Another process's limits: the init's are shared when the uid is. 0 means oneself.
    rule(&mut code, libc::SYS_prlimit64, 0, Test::NoneOf(&[0]), refuse);
    // READ_IMPLIES_EXEC and friends; 0 is the normal one and 0xffffffff asks.
    rule(&mut code, libc::SYS_personality, 0, Test::NoneOf(&[0, u32::MAX]), refuse);
    // Pushing input into a terminal.
    let terminal = Test::OneOf(&[libc::TIOCSTI as u32, libc::TIOCLINUX as u32]);
    rule(&mut code, libc::SYS_ioctl, 1, terminal, refuse);
    const FAMILIES: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32];
    let unsupported = errno(libc::EAFNOSUPPORT);
    rule(&mut code, libc::SYS_socket, 0, Test::NoneOf(FAMILIES), unsupported);
    rule(&mut code, libc::SYS_socketpair, 0, Test::NoneOf(&[libc::AF_UNIX as u32]), unsupported);
    code.push(answer(ALLOW));
    code
}

/// Appends a rule for one call: `verdict` where `test` holds of its argument, else allow. Falls
/// through for other calls with the number still loaded.
fn rule(code: &mut Vec<sock_filter>, call: libc::c_long, index: u32, test: Test, verdict: u32) {
    let mut body = vec![load(argument_low(index))];
    match test {
        Test::AnyBit(bits) => {
            body.extend([jump_any_bit(bits, 0, 1), answer(verdict), answer(ALLOW)]);
        }
        Test::NoneOf(values) => {
            for value in values {
                body.extend([jump_equal(*value, 0, 1), answer(ALLOW)]);
            }
            body.push(answer(verdict));
        }
        Test::OneOf(values) => {
            for value in values {
                body.extend([jump_equal(*value, 0, 1), answer(verdict)]);
            }
            body.push(answer(ALLOW));
        }
    }
    code.push(jump_equal(call as u32, 0, body.len() as u8));
    code.extend(body);
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn answer(verdict: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

fn jump_equal(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

fn jump_above(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, yes, no, value)
}

fn jump_at_least(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value)
}

fn jump_any_bit(bits: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits)
}

fn instruction(code: u32, yes: u8, no: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: yes, jf: no, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, on one call.
    fn judge(arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let code = filter(false);
        let mut accumulator = 0u32;
        let mut at = 0usize;
        loop {
            let op = code[at];
            let class = u32::from(op.code);
            at += 1;
            if class == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                accumulator = match op.k {
                    NUMBER => number,
                    ARCH => arch,
                    offset => {
                        let argument = arguments[(offset as usize - 16) / 8];
                        if (offset - 16).is_multiple_of(8) {
                            argument as u32
                        } else {
                            (argument >> 32) as u32
                        }
                    }
                };
            } else if class == libc::BPF_RET | libc::BPF_K {
                return op.k;
            } else {
                let holds = match class & !(libc::BPF_JMP | libc::BPF_K) {
                    libc::BPF_JEQ => accumulator == op.k,
                    libc::BPF_JGT => accumulator > op.k,
                    libc::BPF_JGE => accumulator >= op.k,
                    libc::BPF_JSET => accumulator & op.k != 0,
                    other => panic!("unknown jump {other}"),
                };
                at += usize::from(if holds { op.jt } else { op.jf });
            }
        }
    }

    fn call(number: libc::c_long, first: u64, second: u64) -> u32 {
        judge(ARCHITECTURE, number as u32, [first, second, 0, 0, 0, 0])
    }

    #[test]
    fn ordinary_calls_are_allowed() {
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_mmap, libc::SYS_futex] {
            assert_eq!(call(number, 0, 0), ALLOW);
        }
        assert_eq!(
            call(libc::SYS_clone, libc::CLONE_VM as u64 | libc::CLONE_THREAD as u64, 0),
            ALLOW
        );
        assert_eq!(call(libc::SYS_socket, libc::AF_UNIX as u64, 1), ALLOW);
        assert_eq!(call(libc::SYS_prlimit64, 0, 7), ALLOW);
    }

    #[test]
    fn namespaces_sockets_and_strangers_limits_are_refused() {
        assert_eq!(call(libc::SYS_clone, libc::CLONE_NEWUSER as u64, 0), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_unshare, libc::CLONE_NEWNS as u64, 0), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_socket, libc::AF_NETLINK as u64, 3), errno(libc::EAFNOSUPPORT));
        assert_eq!(call(libc::SYS_prlimit64, 1, 7), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_ioctl, 0, libc::TIOCSTI), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_personality, 0x0040_0000, 0), errno(libc::EPERM));
        assert_eq!(call(libc::SYS_ptrace, 0, 0), errno(libc::EPERM));
    }

    #[test]
    fn what_a_filter_cannot_see_through_is_absent() {
        assert_eq!(call(libc::SYS_clone3, 0, 0), errno(libc::ENOSYS));
        assert_eq!(call(libc::SYS_io_uring_setup, 0, 0), errno(libc::ENOSYS));
        assert_eq!(call(470, 0, 0), errno(libc::ENOSYS));
        assert_eq!(call(libc::SYS_memfd_create, 0, 0), errno(libc::ENOSYS));
    }

    #[test]
    fn every_way_to_mount_is_refused_up_to_the_newest() {
        // mount_setattr, open_tree_attr, statmount, and the six of the new mount interface
        for number in (428..=433).chain([442, 457, 458, 467]) {
            assert_eq!(call(number, 0, 0), errno(libc::EPERM), "{number}");
        }
        let listed = REFUSED.iter().chain(ABSENT);
        assert!(listed.clone().all(|call| (0..=i64::from(NEWEST_SYSCALL)).contains(call)));
        let distinct: std::collections::BTreeSet<_> = listed.clone().collect();
        assert_eq!(distinct.len(), listed.count());
    }

    #[test]
    fn foreign_architectures_and_x32_are_killed() {
        assert_eq!(judge(0x4000_0003, 1, [0; 6]), KILL);
        assert_eq!(judge(ARCHITECTURE, X32_BIT | 1, [0; 6]), KILL);
    }
}
