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
syscall("clone parent", 56, 0x8000 | 17, 0, 0, 0, 0)
syscall("io_setup", 206, 30000, 0)
syscall("seccomp", 317, 0, 0, 0)
import socket
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1) # the number of the next, elsewhere
for number in (26, 50, 51, 52): attempt("filter", lambda: s.setsockopt(socket.SOL_SOCKET, number, bytes(16)))
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
syscall("open_tree_attr", 467, -100, b"/usr", 1, 0, 0)
syscall("statmount", 457, 0, 0, 0, 0)
syscall("listmount", 458, 0, 0, 0, 0)
syscall("quotactl_fd", 443, 0, 0, 0, 0)
syscall("process_mrelease", 448, 0, 0)
syscall("fanotify_mark", 301, 0, 0, 0, 0, 0)
syscall("cachestat", 451, 0, 0, 0, 0)
syscall("move_pages", 279, 1, 0, 0, 0, 0, 0)
syscall("sethostname", 170, b"other", 5)
syscall("setdomainname", 171, b"other", 5)
syscall("swapon", 167, b"/tmp/x", 0)
syscall("swapoff", 168, b"/tmp/x")
syscall("tiocsti", 16, 0, 0x5412, b"x")
syscall("tioclinux", 16, 0, 0x541C, b"x")
attempt("mknod", lambda: os.mknod("/tmp/sda", 0o60600, os.makedev(8, 0)))
attempt("core_pattern", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("uid_map", lambda: open("/proc/self/uid_map", "w"))
attempt("sysctl hostname", lambda: open("/proc/sys/kernel/hostname", "w"))
for name in ("tty", "ptmx", "console"): attempt(name, lambda: open("/dev/" + name, "r+b"))
attempt("release_agent", lambda: os.listdir("/sys/fs/cgroup"))
attempt("setuid", lambda: os.setuid(0))
attempt("setgroups", lambda: os.setgroups([0]))
for name in ("kcore", "keys", "kallsyms", "timer_list", "sysrq-trigger", "cmdline"):
    path = "/proc/" + name # each is /dev/null, where this kernel has it at all
    print(not os.path.exists(path) or os.stat(path).st_rdev == os.makedev(1, 3))
print([line for line in open("/proc/self/status") if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))])
"#;
    let seen = lines(attempts(body)).await;
    let refused = |line: &str| line.ends_with("EPERM") || line.ends_with("ENOSYS");
    let (calls, seen) = seen.split_at(43);
    for line in calls {
        assert!(refused(line), "{line}");
    }
    assert_eq!(
        seen[..10],
        [
            "mknod EPERM",
            "core_pattern EROFS",
            "uid_map EROFS",
            "sysctl hostname EROFS",
            "tty ENOENT",
            "ptmx ENOENT",
            "console ENOENT",
            "release_agent ENOENT",
            // In a user namespace of its own the number 0 means nobody.
            if modes::without().user_namespace { "setuid EPERM" } else { "setuid EINVAL" },
            "setgroups EPERM",
        ]
    );
    assert_eq!(seen[10..16], ["True"; 6]);
    assert!(seen[16].matches("0000000000000000").count() == 5, "{}", seen[16]);
    assert!(seen[16].contains("NoNewPrivs:\\t1") && seen[16].contains("Seccomp:\\t2"));
}

#[tokio::test]
async fn setuid_programs_give_nobody_anything() {
    // The loader says which ids a program has, but not where the kernel has raised them.
    let body = r#"
import shutil, subprocess
def auxiliary(*command):
    ran = subprocess.run(command, env={"LD_SHOW_AUXV": "1"}, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = dict(line.split(":", 1) for line in ran.stdout.splitlines() if line.startswith("AT_"))
    ids = [int(found.get("AT_" + name, 0)) for name in ("UID", "EUID", "GID", "EGID")]
    return ids == [os.getuid(), os.getuid(), os.getgid(), os.getgid()] and int(found["AT_SECURE"]) == 0
for name in ("su", "passwd", "mount", "chfn", "newgrp", "gpasswd", "newuidmap"):
    path = "/usr/bin/" + name
    print(name, auxiliary(path, "--help") if os.path.exists(path) and os.stat(path).st_mode & 0o4000 else "absent")
shutil.copy("/usr/bin/env", "/tmp/own"); os.chmod("/tmp/own", 0o6755)
print("own", auxiliary("/tmp/own"))
print(subprocess.run(["/usr/bin/su", "-c", "id"], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0)
print(subprocess.run(["/usr/bin/unshare", "--user", "--map-root-user", "id"], capture_output=True).returncode != 0)
"#;
    let seen = lines(attempts(body)).await;
    let (programs, rest) = seen.split_at(7);
    assert!(programs[0] == "su True" && programs[1] == "passwd True", "{programs:?}");
    let sound = |line: &String| line.ends_with(" True") || line.ends_with(" absent");
    assert!(programs.iter().all(sound), "{programs:?}");
    assert_eq!(rest, ["own True", "True", "True"]);
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
async fn nothing_in_proc_tells_of_the_daemon_or_how_many_jobs_there_were() {
    let sandbox = sandbox().await;
    let init = run(&sandbox, job(&["/usr/bin/cat", "/proc/1/cmdline", "/proc/1/comm"])).await;
    let init = init.unwrap().stdout.replace('\0', " ");
    assert_eq!(
        init.split_whitespace().collect::<Vec<_>>()[..2],
        ["braindrill", "sandbox-launcher"]
    );
    assert!(!init.contains(['/', '{']), "{init}");
    let show = job(&["/usr/bin/cat", "/proc/self/cgroup", "/proc/1/cgroup"]);
    let ran = run(&sandbox, show).await.unwrap();
    for line in ran.stdout.lines() {
        let path = line.rsplit(':').next().unwrap();
        assert!(path.split('/').all(|part| part.is_empty() || part == ".."), "{line}");
    }
    assert_eq!(ran.measured.end, End::Exited(0), "{}", ran.stderr);
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
