//! The filter, run as the kernel would run it.

use super::*;

/// Runs the filter as the kernel would, on one call.
fn judge(arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    run(&filter(false), arch, number, arguments)
}

fn run(code: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
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
        } else if class == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K {
            accumulator &= op.k;
        } else if class == libc::BPF_RET | libc::BPF_K {
            return op.k;
        } else if class == libc::BPF_JMP | libc::BPF_JA {
            at += op.k as usize;
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
    assert_eq!(call(libc::SYS_clone, libc::CLONE_VM as u64 | libc::CLONE_THREAD as u64, 0), ALLOW);
    assert_eq!(call(libc::SYS_socket, libc::AF_UNIX as u64, 1), ALLOW);
    for family in FAMILIES {
        for protocol in PROTOCOLS {
            let arguments = [(*family).into(), 1, (*protocol).into(), 0, 0, 0];
            assert_eq!(judge(ARCHITECTURE, libc::SYS_socket as u32, arguments), ALLOW);
        }
    }
    assert_eq!(call(libc::SYS_prlimit64, 0, 7), ALLOW);
}

#[test]
fn every_number_has_the_verdict_that_its_list_says() {
    let code = filter(true);
    let looked_at = [
        libc::SYS_clone,
        libc::SYS_unshare,
        libc::SYS_prlimit64,
        libc::SYS_personality,
        libc::SYS_socket,
        libc::SYS_socketpair,
    ];
    for number in (0..=i64::from(NEWEST_SYSCALL)).filter(|number| !looked_at.contains(number)) {
        let verdict = if REFUSED.contains(&number) {
            errno(libc::EPERM)
        } else if ABSENT.contains(&number) || number == libc::SYS_seccomp {
            errno(libc::ENOSYS)
        } else {
            ALLOW
        };
        assert_eq!(run(&code, ARCHITECTURE, number as u32, [0; 6]), verdict, "{number}");
    }
}

#[test]
fn namespaces_sockets_and_strangers_limits_are_refused() {
    assert_eq!(call(libc::SYS_clone, libc::CLONE_NEWUSER as u64, 0), errno(libc::EPERM));
    assert_eq!(call(libc::SYS_unshare, libc::CLONE_NEWNS as u64, 0), errno(libc::EPERM));
    assert_eq!(call(libc::SYS_socket, libc::AF_NETLINK as u64, 3), errno(libc::EAFNOSUPPORT));
    for protocol in [libc::IPPROTO_SCTP, libc::IPPROTO_MPTCP, 256, 115, 1 << 20] {
        let arguments = [libc::AF_INET as u64, 1, protocol as u64, 0, 0, 0];
        let verdict = judge(ARCHITECTURE, libc::SYS_socket as u32, arguments);
        assert_eq!(verdict, errno(libc::EPROTONOSUPPORT), "{protocol}");
    }
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

#[test]
fn what_would_take_from_the_whole_machine_is_refused() {
    let judge = |code: &[sock_filter], number: libc::c_long, arguments: [u64; 6]| {
        run(code, ARCHITECTURE, number as u32, arguments)
    };
    for counted in [true, false] {
        let code = filter(counted);
        let clone = libc::CLONE_PARENT as u64 | libc::SIGCHLD as u64;
        assert_eq!(judge(&code, libc::SYS_clone, [clone, 0, 0, 0, 0, 0]), errno(libc::EPERM));
        assert_eq!(judge(&code, libc::SYS_io_setup, [1; 6]), errno(libc::ENOSYS));
        assert_eq!(judge(&code, libc::SYS_seccomp, [1; 6]), errno(libc::ENOSYS));
        let option = |level: i32, name: u64| [3, level as u64, name, 0, 0, 0];
        for name in SOCKET_FILTERS {
            let verdict =
                judge(&code, libc::SYS_setsockopt, option(libc::SOL_SOCKET, (*name).into()));
            assert_eq!(verdict, errno(libc::EPERM), "{name}");
        }
        for (level, name) in [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::IP_ADD_MEMBERSHIP),
            (libc::IPPROTO_TCP, libc::IP_ADD_MEMBERSHIP),
            // The same number as SO_ATTACH_FILTER.
            (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        ] {
            let verdict = judge(&code, libc::SYS_setsockopt, option(level, name as u64));
            assert_eq!(verdict, ALLOW, "{level} {name}");
        }
        for (level, names, error) in [
            (libc::IPPROTO_IP, JOINS, libc::ENODEV),
            (libc::IPPROTO_IPV6, JOINS_OF_IPV6, libc::ENODEV),
            (libc::IPPROTO_IPV6, KEPT_OF_IPV6, libc::ENOPROTOOPT),
            (libc::IPPROTO_TCP, KEPT_OF_TCP, libc::ENOPROTOOPT),
        ] {
            for &name in names {
                let verdict = judge(&code, libc::SYS_setsockopt, option(level, name.into()));
                assert_eq!(verdict, errno(error), "{level} {name}");
            }
        }
        let advice = |advice: i32| [0, 0, advice as u64, 0, 0, 0];
        let verdict = judge(&code, libc::SYS_madvise, advice(libc::MADV_FREE));
        assert_eq!(verdict, errno(libc::EINVAL));
        assert_eq!(judge(&code, libc::SYS_madvise, advice(libc::MADV_DONTNEED)), ALLOW);
        let flags = |flags: i32| [0, 0, 0, flags as u64, 0, 0];
        let map = |wanted: i32| judge(&code, libc::SYS_mmap, flags(wanted));
        assert_eq!(map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), ALLOW);
        assert_eq!(map(libc::MAP_SHARED), ALLOW);
        let huge = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        assert_eq!(map(huge), errno(libc::ENOMEM));
        let shared = map(libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        assert_eq!(shared, if counted { ALLOW } else { errno(libc::ENOMEM) });
        for (call, absent) in [(libc::SYS_memfd_create, !counted), (libc::SYS_shmget, !counted)] {
            let verdict = judge(&code, call, [0; 6]);
            assert_eq!(verdict, if absent { errno(libc::ENOSYS) } else { ALLOW }, "{call}");
        }
    }
}
