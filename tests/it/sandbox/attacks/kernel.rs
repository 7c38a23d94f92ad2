//! The doors of the kernel, and what of it shows.

use super::*;

// 17: the kernel's doors

#[tokio::test]
async fn the_kernels_doors_are_closed() {
    let body = r#"
syscall("mount", 165, b"a", b"/tmp", b"tmpfs", 0, 0)
syscall("umount", 166, b"/usr", 2)
syscall("pivot_root", 155, b"/", b"/tmp")
syscall("chroot", 161, b"/tmp")
syscall("unshare user", 272, 0x10000000)
syscall("unshare mount", 272, 0x20000)
syscall("clone user", 56, 0x10000000 | 17, 0, 0, 0, 0)
syscall("clone3", 435, 0, 0)
syscall("setns", 308, 0, 0)
syscall("io_uring", 425, 1, 0)
syscall("keyctl", 250, 0, -3, 0)
syscall("add_key", 248, b"user", b"x", b"y", 1, -3)
syscall("bpf", 321, 0, 0, 0)
syscall("perf", 298, 0, 0, -1, -1, 0)
syscall("userfaultfd", 323, 0)
syscall("kexec", 246, 0, 0, 0, 0)
syscall("init_module", 175, 0, 0, b"")
syscall("handle", 304, 0, 0, 0)
syscall("personality", 135, 0x400000)
syscall("unknown", 1000)
syscall("fsopen", 430, b"tmpfs", 0)
syscall("syslog", 103, 3, 0, 0)
attempt("mknod", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
attempt("core_pattern", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("release_agent", lambda: os.listdir("/sys/fs/cgroup"))
attempt("setuid", lambda: os.setuid(0))
attempt("setgroups", lambda: os.setgroups([0]))
for name in ("kcore", "keys", "kallsyms", "timer_list", "sysrq-trigger"):
    path = "/proc/" + name # each is /dev/null, where this kernel has it at all
    print(not os.path.exists(path) or os.stat(path).st_rdev == os.makedev(1, 3))
print([line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))])
"#;
    let seen = lines(attempts(body)).await;
    let refused = |line: &str| line.ends_with("EPERM") || line.ends_with("ENOSYS");
    for line in &seen[..22] {
        assert!(refused(line), "{line}");
    }
    assert_eq!(
        seen[22..27],
        [
            "mknod EPERM",
            "core_pattern EROFS",
            "release_agent ENOENT",
            // In a user namespace of its own the number 0 means nobody.
            if modes::without().user_namespace { "setuid EPERM" } else { "setuid EINVAL" },
            "setgroups EPERM",
        ]
    );
    assert_eq!(seen[27..32], ["True"; 5]);
    assert!(seen[32].matches("0000000000000000").count() == 5, "{}", seen[32]);
    assert!(seen[32].contains("NoNewPrivs:\\t1") && seen[32].contains("Seccomp:\\t2"));
}

#[tokio::test]
async fn every_mount_is_nosuid_and_only_the_work_folders_are_writable() {
    let mounts =
        run(&sandbox().await, job(&["/usr/bin/cat", "/proc/self/mountinfo"])).await.unwrap();
    for line in mounts.stdout.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (place, options) = (fields[4], fields[5]);
        let device = place.starts_with("/dev/") && place != "/dev/shm";
        let masked = place.starts_with("/proc/");
        assert!(options.contains("nosuid") || device || masked, "{line}");
        let writable = options.split(',').any(|option| option == "rw");
        let may = ["/box", "/tmp", "/dev/shm"].contains(&place) || device || masked;
        assert!(!writable || may, "{line}");
    }
}

#[tokio::test]
async fn old_and_foreign_system_calls_kill() {
    let sandbox = sandbox().await;
    let source = "int main(int n, char **a) { int r; if (n > 1) __asm__ volatile(\"syscall\" : \
                  \"=a\"(r) : \"a\"(0x40000027) : \"rcx\", \"r11\"); else __asm__ volatile(\"int \
                  $0x80\" : \"=a\"(r) : \"a\"(20)); return 7; }";
    let folder = tempfile::tempdir().unwrap();
    let mut compile = job(&["/usr/bin/gcc", "-o", "/out/main", "main.c"]);
    compile.files = vec![JailFile { path: "main.c".into(), content: Blob::from(source) }];
    compile.collect = Some(folder.path().to_owned());
    run(&sandbox, compile).await.unwrap();
    for command in [&["/program/main"][..], &["/program/main", "x32"][..]] {
        let mut attack = job(command);
        attack.program = Some(folder.path().to_owned());
        let end = run(&sandbox, attack).await.unwrap().measured.end;
        assert!(matches!(end, End::Signaled(31 | 11)), "{end:?}");
    }
}

#[tokio::test]
async fn only_the_three_standard_descriptors_are_open() {
    let body = "print(sorted(os.listdir('/proc/self/fd')))\nprint([os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(3)])";
    assert_eq!(lines(attempts(body)).await, ["['0', '1', '2', '3']", "['pipe', 'pipe', 'pipe']"]);
}
