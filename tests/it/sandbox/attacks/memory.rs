//! Memory that is not a program's own pages: what the kernel holds for it, and who goes first when
//! the machine itself runs out.

use super::*;

/// Children fill what `fill` makes until they have 16 MiB or no more is to be had, and hold it until
/// all are done. Prints how much all of them hold.
const HOLDERS: &str = r#"
import os, socket, struct, time
MUCH = 16 << 20
def pour(make):
    kept, held = [], 0
    while held < MUCH:
        try: ends, push = make()
        except OSError: break
        kept.append(ends); got = 0
        try:
            while held + got < MUCH: got += push()
        except OSError: pass
        held += got
        if not got: break
    return kept, held
def pipe():
    r, w = os.pipe(); os.set_blocking(w, False)
    return (r, w), lambda: os.write(w, bytes(65536))
def pair():
    a, b = socket.socketpair(); a.setblocking(False)
    return (a, b), lambda: a.send(bytes(32768))
def udp():
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(("127.0.0.1", 0)); a.setblocking(False)
    sent = 0
    def push():
        nonlocal sent
        if sent >= 3: raise BlockingIOError  # what the receiver cannot hold is dropped unsaid
        sent += 1; return a.sendto(bytes(32768), a.getsockname())
    return (a,), push
def tcp():
    l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen()
    a = socket.create_connection(l.getsockname()); b = l.accept()[0]; l.close(); a.setblocking(False)
    return (a, b), lambda: a.send(bytes(65536))
def message():
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    q = libc.msgget(0, 0o1600)
    def push():
        if libc.msgsnd(q, struct.pack("l", 1) + bytes(8000), 8000, 0o4000) != 0: raise BlockingIOError
        return 8000
    return q, push
make = globals()[os.environ["KIND"]]
r, w = os.pipe()
for _ in range(12):
    if os.fork() == 0:
        kept, held = pour(make)
        os.write(w, struct.pack("q", held))
        while True: time.sleep(1)
print(sum(struct.unpack("q", os.read(r, 8))[0] for _ in range(12)))
"#;

#[tokio::test]
async fn what_the_kernel_holds_for_a_program_counts() {
    let (sandbox, counted) = (sandbox().await, cgroups().await);
    for kind in ["pipe", "pair", "udp", "tcp", "message"] {
        let mut holders = python(HOLDERS);
        holders.env = vec![("KIND".to_owned(), kind.to_owned())];
        holders.caps.memory_bytes = 80 << 20;
        let ran = run(&sandbox, holders).await.unwrap();
        let measured = &ran.measured;
        if counted {
            let memory = measured.killed_for == Some(Cap::Memory) || measured.oom_kills > 0;
            // Of pipes the kernel gives a user less when others of that uid have much.
            let held = ran.stdout.trim().parse().unwrap_or(u64::MAX);
            assert!(memory || measured.memory_peak_bytes > held, "{kind}: {ran:?}");
        } else {
            // Nobody counts it, but the whole goes with the run.
            assert_eq!((measured.end, measured.killed_for), (End::Exited(0), None), "{kind}");
        }
    }
}

#[tokio::test]
async fn reading_many_files_is_no_use_of_memory() {
    let source = "import os\nn = 0\nfor d, _, names in os.walk('/usr/lib'):\n \
                  for name in names:\n  try: n += len(open(d + '/' + name, 'rb').read(1 << 20))\n  \
                  except OSError: pass\n if n > 200 << 20: break\nprint(n > 100 << 20)";
    let mut reader = python(source);
    reader.caps.memory_bytes = 32 << 20;
    let ran = run(&sandbox().await, reader).await.unwrap();
    assert_eq!((ran.measured.killed_for, ran.stdout.as_str()), (None, "True\n"), "{ran:?}");
}

#[tokio::test]
async fn a_program_goes_first_when_the_machine_runs_out_of_memory_and_cannot_change_that() {
    let body = r#"
def lower(n): open("/proc/self/oom_score_adj", "w").write(str(n))
for n in (-1000, 0, 999): attempt(n, lambda: lower(n))
attempt("old", lambda: open("/proc/self/oom_adj", "w").write("0"))
attempt("other", lambda: open("/proc/1/oom_score_adj", "w").write("1000"))
if os.fork(): os.wait() # what it starts has the same
print(open("/proc/self/oom_score_adj").read().strip(), flush=True)
"#;
    let refused =
        ["-1000 EROFS", "0 EROFS", "999 EROFS", "old EROFS", "other EROFS", "1000", "1000"];
    assert_eq!(lines(attempts(body)).await, refused);
}

#[tokio::test]
async fn memory_that_is_given_back_lazily_counts_until_it_is_gone() {
    // What is advised so and written again is in use, on the list of pages of files.
    let source = "import ctypes, mmap, time\nl = ctypes.CDLL(None, use_errno=True)\n\
                  m = mmap.mmap(-1, 44 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n\
                  p = ctypes.addressof(ctypes.c_char.from_buffer(m))\n\
                  for c in range(0, 44 << 20, 4 << 20):\n\
                   \x20for i in range(c, c + (4 << 20), 4096): m[i] = 1\n\
                   \x20l.madvise(ctypes.c_void_p(p + c), ctypes.c_size_t(4 << 20), 8)\n\
                   \x20for i in range(c, c + (4 << 20), 4096): m[i] = 2\n\
                  time.sleep(1)";
    let mut hoarder = python(source);
    hoarder.caps.memory_bytes = 32 << 20;
    let ran = run(&sandbox().await, hoarder).await.unwrap();
    assert_eq!(ran.measured.killed_for, Some(Cap::Memory), "{ran:?}");
}
