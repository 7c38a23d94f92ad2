//! Hostile programs, each trying one thing in a real jail. Numbers are those of the table in
//! `docs/sandbox.md`.

use std::{
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr},
    time::{Duration, Instant},
};

use braindrill::sandbox::{Cap, End};

use super::*;

/// Prints, for each attempt, its name and "ok" or the error's name: for attempts that must fail.
const ATTEMPTS: &str = r#"
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def syscall(name, number, *args):
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    print(name, "ok" if r >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)
def attempt(name, f):
    try:
        f(); print(name, "ok", flush=True)
    except OSError as e:
        print(name, errno.errorcode[e.errno], flush=True)
"#;

fn attempts(body: &str) -> Job {
    python(&format!("{ATTEMPTS}\n{body}"))
}

async fn lines(job: Job) -> Vec<String> {
    let ran = run(&sandbox().await, job).await.unwrap();
    assert_eq!(ran.measured.end, End::Exited(0), "{ran:?}");
    ran.stdout.lines().map(str::to_owned).collect()
}

// 1, 2, 3: links planted for the engine to follow

#[tokio::test]
async fn links_left_by_a_compile_are_not_collected() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let mut compile = job(&[
        "/usr/bin/bash",
        "-c",
        "ln -s /etc/shadow /out/main; ln -s / /out/root; mkfifo /out/pipe; echo x > /out/real; \
         ln /out/real /out/twin; ln -s real /out/soft; mkdir /out/d; ln -s ../.. /out/d/up",
    ]);
    compile.collect = Some(folder.path().to_owned());
    run(&sandbox, compile).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["d", "real", "twin"]);
    assert_eq!(std::fs::read_dir(folder.path().join("d")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_compile_that_leaves_too_much_is_refused_and_a_sparse_giant_takes_no_disk() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let mut giant = job(&["/usr/bin/truncate", "-s", "60G", "/out/giant"]);
    giant.collect = Some(folder.path().to_owned());
    let error = run(&sandbox, giant).await.unwrap_err();
    assert!(matches!(error, SandboxError::Collect(_)), "{error}");
    use std::os::unix::fs::MetadataExt;
    let size = std::fs::metadata(folder.path().join("giant")).unwrap().size();
    assert!(size <= (64 << 20) + 1, "{size}");
}

#[tokio::test]
async fn host_files_cannot_be_hard_linked_or_changed() {
    let body = r#"
attempt("link", lambda: os.link("/usr/bin/passwd", "/box/passwd"))
attempt("write usr", lambda: open("/usr/bin/x", "w"))
attempt("write etc", lambda: open("/etc/passwd", "a"))
attempt("chmod", lambda: os.chmod("/usr/bin/true", 0o777))
attempt("write root", lambda: open("/x", "w"))
attempt("write exe", lambda: open("/proc/self/exe", "wb"))
attempt("shadow", lambda: open("/etc/shadow"))
attempt("root home", lambda: os.listdir("/root"))
attempt("program", lambda: open("/program/x", "w"))
"#;
    let seen = lines(attempts(body)).await;
    // Which of the two refusals comes first depends on whose the file is.
    let refusals = seen.into_iter().map(|line| line.replace("EACCES", "EROFS"));
    assert_eq!(
        refusals.collect::<Vec<_>>(),
        [
            "link EXDEV",
            "write usr EROFS",
            "write etc EROFS",
            "chmod EROFS",
            "write root EROFS",
            "write exe EROFS",
            "shadow ENOENT",
            "root home ENOENT",
            "program EROFS",
        ]
    );
}

// 9: network

#[tokio::test]
async fn there_is_no_network_but_an_own_loopback() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("braindrill-test-{port}");
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let body = format!(
        r#"
import socket
def connect(family, where):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(3); s.connect(where)
attempt("host", lambda: connect(socket.AF_INET, ("127.0.0.1", {port})))
attempt("host6", lambda: connect(socket.AF_INET6, ("::1", {port})))
attempt("metadata", lambda: connect(socket.AF_INET, ("169.254.169.254", 80)))
attempt("outside", lambda: connect(socket.AF_INET, ("192.0.2.1", 80)))
attempt("abstract", lambda: connect(socket.AF_UNIX, "\0{name}"))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM, 0))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen()
attempt("own loopback", lambda: connect(socket.AF_INET, a.getsockname()))
"#
    );
    let seen = lines(attempts(&body)).await;
    assert_eq!(
        seen,
        [
            "host ECONNREFUSED",
            "host6 ECONNREFUSED",
            "metadata ENETUNREACH",
            "outside ENETUNREACH",
            "abstract ECONNREFUSED",
            "netlink EAFNOSUPPORT",
            "packet EAFNOSUPPORT",
            "vsock EAFNOSUPPORT",
            "raw EPERM",
            "own loopback ok",
        ]
    );
}

// 10: processes

#[tokio::test]
async fn a_fork_bomb_stays_within_its_processes_and_ends_with_its_time() {
    let sandbox = sandbox().await;
    let mut bomb = python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass");
    bomb.caps.cpu_time = Duration::from_millis(500);
    bomb.caps.wall_time = Duration::from_secs(3);
    let ran = run(&sandbox, bomb).await.unwrap().measured;
    assert!(matches!(ran.killed_for, Some(Cap::Cpu | Cap::Wall)), "{ran:?}");
}

#[tokio::test]
async fn the_limit_of_processes_counts_threads_too() {
    let body = r#"
import threading, time
n = 0
try:
    while n < 200:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start(); n += 1
except RuntimeError: pass
print(n, flush=True)
os._exit(0)
"#;
    let mut threads = attempts(body);
    threads.caps.processes = 10;
    assert_eq!(lines(threads).await, ["9"]);
}

#[tokio::test]
async fn what_a_program_leaves_running_dies_with_it_and_holds_nobody_up() {
    let sandbox = sandbox().await;
    let marker = format!("31{}", std::process::id());
    let script = format!(
        "trap '' TERM HUP INT; (setsid sleep {marker} & ) ; (setsid bash -c 'trap \"\" TERM; sleep \
         {marker}' &) ; echo done"
    );
    let begin = Instant::now();
    let ran = run(&sandbox, job(&["/usr/bin/bash", "-c", &script])).await.unwrap();
    assert_eq!(ran.stdout, "done\n");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(!anybody_runs(&marker));
}

/// Whether cgroups count in this mode on this machine.
async fn cgroups() -> bool {
    sandbox().await.layers().iter().any(|layer| layer.name == "cgroup" && layer.active)
}

#[tokio::test]
async fn a_program_cannot_signal_limit_or_trace_init_or_anybody_outside() {
    let body = r#"
import signal, resource
attempt("kill 1", lambda: os.kill(1, signal.SIGKILL))
attempt("term 1", lambda: os.kill(1, signal.SIGTERM))
attempt("prlimit 1", lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)))
attempt("environ 1", lambda: open("/proc/1/environ").read())
attempt("mem 1", lambda: open("/proc/1/mem", "r+b"))
attempt("exe 1", lambda: os.readlink("/proc/1/exe"))
attempt("root 1", lambda: os.listdir("/proc/1/root"))
attempt("fds 1", lambda: os.listdir("/proc/1/fd"))
syscall("ptrace", 101, 16, 1, 0, 0)
syscall("vm_readv", 310, 1, 0, 0, 0, 0, 0)
print(sorted(int(p) for p in os.listdir("/proc") if p.isdigit()) == [1, os.getpid()])
print(os.getppid())
"#;
    let mut seen = lines(attempts(body)).await;
    // With a shared uid the kernel takes the signal and, since it comes from inside, drops it.
    assert!(seen[..2].iter().all(|line| line.ends_with("EPERM") || line.ends_with("ok")));
    assert_eq!(
        seen.split_off(2),
        [
            "prlimit 1 EPERM",
            "environ 1 EACCES",
            "mem 1 EACCES",
            "exe 1 EACCES",
            "root 1 EACCES",
            "fds 1 EACCES",
            "ptrace EPERM",
            "vm_readv EPERM",
            "True",
            "0",
        ]
    );
}

#[tokio::test]
async fn killing_everybody_or_stopping_oneself_ends_only_oneself() {
    let sandbox = sandbox().await;
    let all = python(
        "import os, time\nif os.fork() == 0: time.sleep(100)\nos.kill(-1, 9)\nprint(os.wait()[1])",
    );
    assert_eq!(run(&sandbox, all).await.unwrap().stdout, "9\n");
    let mut stopped = python("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)");
    stopped.caps.wall_time = Duration::from_millis(400);
    assert_eq!(run(&sandbox, stopped).await.unwrap().measured.killed_for, Some(Cap::Wall));
}

// 12: memory

#[tokio::test]
async fn every_way_to_hold_memory_counts() {
    let sandbox = sandbox().await;
    for (name, source) in [
        ("tmp", "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()"),
        ("shm", "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()"),
        ("memfd", "import os\nf = os.memfd_create('x')\nwhile True: os.write(f, bytes(1 << 20))"),
        (
            "sysv",
            "import ctypes\nl = ctypes.CDLL(None)\nl.shmat.restype = ctypes.c_void_p\nwhile True:\n \
             p = l.shmat(l.shmget(0, 1 << 24, 0o1666), None, 0)\n ctypes.memset(p, 1, 1 << 24)",
        ),
        (
            "anonymous",
            "import mmap\na = []\nwhile True:\n m = mmap.mmap(-1, 1 << 20); m.write(bytes(1 << 20)); a.append(m)",
        ),
    ] {
        let mut hog = python(source);
        hog.caps.memory_bytes = 48 << 20;
        hog.caps.disk_bytes = 512 << 20;
        let ran = run(&sandbox, hog).await.unwrap();
        let measured = &ran.measured;
        let mut memory = measured.killed_for == Some(Cap::Memory) || measured.oom_kills > 0;
        if name == "memfd" && !cgroups().await {
            memory = measured.end == End::Exited(1); // there is none where it would not be counted
        }
        assert!(memory, "{name}: {ran:?}");
    }
    let mut untouched = python("import mmap\nm = mmap.mmap(-1, 1 << 33)\nprint(len(m))");
    untouched.caps.memory_bytes = 48 << 20;
    assert_eq!(run(&sandbox, untouched).await.unwrap().stdout, "8589934592\n");
}

#[tokio::test]
async fn nothing_of_ipc_or_files_is_left_for_the_next_run() {
    let sandbox = sandbox().await;
    let leave = python(
        "import ctypes, os\nl = ctypes.CDLL(None)\nassert l.shmget(77, 4096, 0o1666) >= 0\n\
         assert l.msgget(77, 0o1666) >= 0\nfor p in ('/box/x', '/tmp/x', '/dev/shm/x'): open(p, 'w')\n\
         os.mkdir('/tmp/locked'); open('/tmp/locked/x', 'w'); os.chmod('/tmp/locked', 0)",
    );
    assert_eq!(run(&sandbox, leave).await.unwrap().measured.end, End::Exited(0));
    let look = python(
        "import ctypes, os\nl = ctypes.CDLL(None)\nprint(l.shmget(77, 4096, 0), l.msgget(77, 0))\n\
         for p in ('/box', '/tmp', '/dev/shm'): print(os.listdir(p))",
    );
    let ran = run(&sandbox, look).await.unwrap();
    assert_eq!(ran.stdout, "-1 -1\n['main.py']\n[]\n[]\n", "{}", ran.stderr);
}

// 13: output

#[tokio::test]
async fn both_streams_are_capped_each_for_itself_and_exactly() {
    let sandbox = sandbox().await;
    let mut both = python(
        "import sys\nsys.stdout.write('o' * 1000); sys.stdout.flush()\nwhile True: sys.stderr.write('e' * 999)",
    );
    (both.caps.output_keep, both.caps.output_kill) = (1000, 1000);
    let ran = run(&sandbox, both).await.unwrap();
    assert_eq!(ran.measured.killed_for, Some(Cap::Output));
    assert_eq!((ran.stdout.len(), ran.stderr.len()), (1000, 1000));
    assert!(!ran.measured.stdout.truncated && ran.measured.stderr.truncated);
    let reopened =
        python("open('/proc/self/fd/1', 'w').write('again')\nopen('/dev/stdout', 'w').write('!')");
    assert_eq!(run(&sandbox, reopened).await.unwrap().stdout, "again!");
}

#[tokio::test]
async fn a_program_that_closes_its_output_goes_on() {
    let closed = python("import os\nos.close(1); os.close(2); os.close(0)\nos._exit(5)");
    let ran = run(&sandbox().await, closed).await.unwrap();
    assert_eq!(ran.measured.end, End::Exited(5));
}

// 14: files and descriptors

#[tokio::test]
async fn inodes_descriptors_and_core_files_are_bounded() {
    let body = r#"
import errno, signal
n = 0
try:
    while True: open(f"/tmp/{n}", "w").close(); n += 1
except OSError as e: print(n < 100, errno.errorcode[e.errno])
fds = []
try:
    while True: fds.append(os.dup(0))
except OSError as e: print(len(fds) + 3 <= 512, errno.errorcode[e.errno])
for f in fds: os.close(f)
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGABRT)
os.wait()
print(os.path.exists("/box/core"))
"#;
    let mut files = attempts(body);
    files.caps.inodes = 100;
    assert_eq!(lines(files).await, ["True ENOSPC", "True EMFILE", "False"]);
}

#[tokio::test]
async fn a_deep_tree_is_cleaned_up_with_the_rest() {
    let deep =
        python("import os\nfor _ in range(3000):\n  os.mkdir('d'); os.chdir('d')\nprint('deep')");
    assert_eq!(run(&sandbox().await, deep).await.unwrap().stdout, "deep\n");
}

// 15: compilers

#[tokio::test]
async fn compiler_bombs_end_in_their_limits_and_host_secrets_cannot_be_included() {
    let sandbox = sandbox().await;
    for (source, expected) in [
        ("int main[0x40000000] = {1};", None),
        ("#include \"/dev/zero\"\nint main(void) {}", None),
        ("__asm__(\".incbin \\\"/etc/shadow\\\"\");\nint main(void) {}", Some("shadow")),
        ("#include \"/etc/shadow\"\nint main(void) {}", Some("No such file")),
        ("#include \"/proc/1/environ\"\nint main(void) {}", Some("ermission")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut compile = job(&["/usr/bin/gcc", "-o", "/out/main", "main.c"]);
        compile.files = vec![JailFile { path: "main.c".into(), content: Blob::from(source) }];
        compile.collect = Some(folder.path().to_owned());
        compile.caps.cpu_time = Duration::from_secs(3);
        let ran = run(&sandbox, compile).await.unwrap();
        let failed = ran.measured.end != End::Exited(0) || ran.measured.killed_for.is_some();
        assert!(failed, "{source}: {ran:?}");
        assert!(expected.is_none_or(|text| ran.stderr.contains(text)), "{source}: {ran:?}");
        assert!(!ran.stderr.contains("root:"), "{}", ran.stderr);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

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
        let masked = place.starts_with("/proc/") && place != "/proc/sys";
        assert!(options.contains("nosuid") || device || masked, "{line}");
        let writable = options.split(',').any(|option| option == "rw");
        let may = ["/box", "/tmp", "/dev/shm", "/proc"].contains(&place) || device || masked;
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

// 18: between two runs at once

#[tokio::test]
async fn two_runs_at_once_cannot_see_or_reach_each_other() {
    let sandbox = sandbox().await;
    let first = python(
        "import socket, sys, ctypes, time\nopen('/tmp/secret', 'w').write('x')\nopen('/dev/shm/secret', 'w')\n\
         a = socket.socket(socket.AF_UNIX); a.bind('\\0secret'); a.listen()\n\
         b = socket.socket(); b.bind(('127.0.0.1', 7777)); b.listen()\n\
         ctypes.CDLL(None).shmget(99, 4096, 0o1666)\nprint('ready', flush=True)\nsys.stdin.read()\ntime.sleep(1.5)",
    );
    let second = attempts(
        "import socket\nimport time; time.sleep(0.5)\ndef reach(f, w):\n s = socket.socket(f); s.connect(w)\n\
         attempt('abstract', lambda: reach(socket.AF_UNIX, '\\0secret'))\n\
         attempt('port', lambda: reach(socket.AF_INET, ('127.0.0.1', 7777)))\n\
         syscall('shm', 29, 99, 4096, 0)\nprint(os.listdir('/tmp'), os.listdir('/dev/shm'))\n\
         print(len([p for p in os.listdir('/proc') if p.isdigit()]))",
    );
    let (first, second) = tokio::join!(run(&sandbox, first), run(&sandbox, second));
    assert_eq!(first.unwrap().stdout, "ready\n");
    assert_eq!(
        second.unwrap().stdout.lines().collect::<Vec<_>>(),
        ["abstract ECONNREFUSED", "port ECONNREFUSED", "shm ENOENT", "[] []", "2"]
    );
}
