//! The seccomp filter of every jailed program: default allow, with the calls that a program under
//! judgement has no use for and a kernel has had bugs in taken out.
//!
//! Written as classic BPF by hand, since the filter needs a comparison on the call's number ("above
//! the newest known"), which the filter crates do not offer. Calls without a rule stay in the kernel's
//! bitmap of always-allowed numbers (Linux 5.11) and cost nothing.

mod code;

use nix::libc::{self, sock_filter};

use self::code::{
    ALLOW, ARCH, KILL, NUMBER, Test, answer, answer_whatever_the_arguments, errno, jump_above,
    jump_at_least, jump_equal, load, rule, rule_by_level, rule_of, rule_unless, unless,
};

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
/// filter sees at all; cachestat tells what others have read of the files that all jails show; a filter
/// of the program's own takes from what the whole machine has for compiled filters, ours included.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret,
    SYS_CACHESTAT,
    // of all the machine's asynchronous I/O there is one small pool
    libc::SYS_io_setup,
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

/// With it a child is the helper's and not the program's, and nobody in the jail can reap it.
const CLONE_PARENT: u32 = libc::CLONE_PARENT as u32;

/// Socket options that load a program into the kernel.
const SOCKET_FILTERS: &[u32] = &[
    libc::SO_ATTACH_FILTER as u32,
    libc::SO_ATTACH_BPF as u32,
    libc::SO_ATTACH_REUSEPORT_CBPF as u32,
    libc::SO_ATTACH_REUSEPORT_EBPF as u32,
];

/// Socket options of IP and of IPv6 that join a group. The machine would report it in its network, which is a
/// loopback alone, seconds later: when that may be another program's (see `network`).
const JOINS: &[u32] = &[
    libc::IP_ADD_MEMBERSHIP as u32,
    libc::IP_ADD_SOURCE_MEMBERSHIP as u32,
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
];
const JOINS_OF_IPV6: &[u32] = &[
    libc::IPV6_ADD_MEMBERSHIP as u32,
    IPV6_JOIN_ANYCAST,
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
];
// Of linux/in.h and linux/in6.h; the libc crate has them for some of its targets alone.
const MCAST_JOIN_GROUP: u32 = 42;
const MCAST_JOIN_SOURCE_GROUP: u32 = 46;
const IPV6_JOIN_ANYCAST: u32 = 27;

/// The same of what stays with a network namespace when its socket is gone, and no file shows: a key for fast
/// opens, and that there were flow labels for one user alone.
const KEPT_OF_TCP: &[u32] = &[libc::TCP_FASTOPEN as u32];
const KEPT_OF_IPV6: &[u32] = &[IPV6_FLOWLABEL_MGR];
const IPV6_FLOWLABEL_MGR: u32 = 32;

const FAMILIES: &[u32] = &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32];

/// Protocols of sockets: what each family has of its own, ICMP, TCP, UDP, UDP-Lite, raw. Others are modules with
/// a state of their own for each network namespace, and would be loaded into the kernel for whoever asks.
const PROTOCOLS: &[u32] = &[
    0,
    libc::IPPROTO_ICMP as u32,
    libc::IPPROTO_TCP as u32,
    libc::IPPROTO_UDP as u32,
    libc::IPPROTO_ICMPV6 as u32,
    libc::IPPROTO_UDPLITE as u32,
    libc::IPPROTO_RAW as u32,
];

/// Memory that nobody may ever write again: it moves to where pages of files are counted.
const MADV_FREE: u32 = libc::MADV_FREE as u32;

/// The filter for this machine's architecture. Where no cgroup counts memory, a memfd or a shared
/// mapping of no file would be memory that nobody sees, so there is none.
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
    let mut absent = vec![libc::SYS_seccomp];
    if !memory_is_counted {
        absent.extend([libc::SYS_memfd_create, libc::SYS_shmget]);
    }
    absent.extend(ABSENT);
    let refused = REFUSED.iter().map(|call| (*call as u32, errno(libc::EPERM)));
    answer_whatever_the_arguments(
        &mut code,
        refused.chain(absent.iter().map(|call| (*call as u32, errno(libc::ENOSYS)))).collect(),
    );
    let refuse = errno(libc::EPERM);
    rule(&mut code, libc::SYS_clone, 0, Test::AnyBit(NAMESPACE_FLAGS | CLONE_PARENT), refuse);
    rule(&mut code, libc::SYS_unshare, 0, Test::AnyBit(NAMESPACE_FLAGS), refuse);
    // Another process's limits: the init's are shared when the uid is. 0 means oneself.
    rule_unless(&mut code, libc::SYS_prlimit64, 0, &[0], refuse);
    // READ_IMPLIES_EXEC and friends; 0 is the normal one and 0xffffffff asks.
    rule_unless(&mut code, libc::SYS_personality, 0, &[0, u32::MAX], refuse);
    // As on a kernel without them; who asks for either goes on without.
    let unknown = errno(libc::EINVAL);
    let own_filter = Test::OneOf(&[libc::PR_SET_SECCOMP as u32]);
    rule(&mut code, libc::SYS_prctl, 0, own_filter, unknown);
    rule(&mut code, libc::SYS_madvise, 2, Test::OneOf(&[MADV_FREE]), unknown);
    // As where no interface knows of groups, which loopback does not.
    let no_device = errno(libc::ENODEV);
    let no_option = errno(libc::ENOPROTOOPT);
    rule_by_level(
        &mut code,
        libc::SYS_setsockopt,
        &[
            (libc::SOL_SOCKET, &[(SOCKET_FILTERS, refuse)]),
            (libc::IPPROTO_IP, &[(JOINS, no_device)]),
            (libc::IPPROTO_IPV6, &[(JOINS_OF_IPV6, no_device), (KEPT_OF_IPV6, no_option)]),
            (libc::IPPROTO_TCP, &[(KEPT_OF_TCP, no_option)]),
        ],
    );
    // Huge pages are of a pool that no limit of memory counts.
    let no_memory = errno(libc::ENOMEM);
    let huge = libc::MAP_HUGETLB as u32;
    let mapping = if memory_is_counted {
        Test::AnyBit(huge)
    } else {
        Test::AnyBitOrAll(huge, (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as u32)
    };
    rule(&mut code, libc::SYS_mmap, 3, mapping, no_memory);
    rule(&mut code, libc::SYS_memfd_create, 1, Test::AnyBit(libc::MFD_HUGETLB), unknown);
    rule(&mut code, libc::SYS_shmget, 2, Test::AnyBit(libc::SHM_HUGETLB as u32), no_memory);
    // Pushing input into a terminal; having the kernel load what speaks another protocol on it.
    let terminal =
        Test::OneOf(&[libc::TIOCSTI as u32, libc::TIOCLINUX as u32, libc::TIOCSETD as u32]);
    rule(&mut code, libc::SYS_ioctl, 1, terminal, refuse);
    let unsupported = errno(libc::EAFNOSUPPORT);
    let mut sockets = unless(0, FAMILIES, unsupported);
    sockets.extend(unless(2, PROTOCOLS, errno(libc::EPROTONOSUPPORT)));
    sockets.push(answer(ALLOW));
    rule_of(&mut code, libc::SYS_socket, sockets);
    rule_unless(&mut code, libc::SYS_socketpair, 0, &[libc::AF_UNIX as u32], unsupported);
    code.push(answer(ALLOW));
    code
}

#[cfg(test)]
mod tests;
