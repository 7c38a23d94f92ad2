//! Memory, output, files and descriptors.

use super::*;

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
        if ["memfd", "sysv", "anonymous"].contains(&name) && !cgroups().await {
            // There is none where it would not be counted, and who goes on without fails at once.
            memory = matches!(measured.end, End::Exited(1) | End::Signaled(11));
        }
        assert!(memory, "{name}: {ran:?}");
    }
    let mut untouched = python(
        "import mmap\nm = mmap.mmap(-1, 1 << 33, mmap.MAP_PRIVATE, mmap.PROT_READ)\nprint(len(m))",
    );
    untouched.caps.memory_bytes = 48 << 20;
    assert_eq!(run(&sandbox, untouched).await.unwrap().stdout, "8589934592\n");
}

#[tokio::test]
async fn nothing_of_ipc_or_files_is_left_for_the_next_run() {
    let sandbox = sandbox().await;
    let leave = python(
        "import ctypes, os\nl = ctypes.CDLL(None)\nl.shmget(77, 4096, 0o1666)\n\
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
import array, fcntl
os.unlink("/tmp/0"); os.unlink("/tmp/1")
f = open("/tmp/kept", "w")
for flag in (0x10, 0x20): # immutable, append-only
    attempt(flag, lambda: fcntl.ioctl(f, 0x40086602, array.array("l", [flag])))
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGABRT)
os.wait()
print(os.path.exists("/box/core"))
"#;
    let mut files = attempts(body);
    files.caps.inodes = 100;
    assert_eq!(lines(files).await, ["True ENOSPC", "True EMFILE", "16 EPERM", "32 EPERM", "False"]);
}

#[tokio::test]
async fn a_deep_tree_is_cleaned_up_with_the_rest() {
    let deep =
        python("import os\nfor _ in range(3000):\n  os.mkdir('d'); os.chdir('d')\nprint('deep')");
    assert_eq!(run(&sandbox().await, deep).await.unwrap().stdout, "deep\n");
}
