//! Processes: bombs, survivors, signals, and two runs at once.

use super::*;

// 10: processes

#[tokio::test]
async fn a_fork_bomb_stays_within_its_processes_and_ends_with_its_time() {
    let sandbox = sandbox().await;
    let mut bomb = python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass");
    bomb.caps.cpu_time = Duration::from_millis(500);
    bomb.caps.wall_time = Duration::from_secs(3);
    // 64 of them come to about as much memory as there may be.
    bomb.caps.processes = 32;
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

#[tokio::test]
async fn a_limit_ends_a_program_with_all_that_it_has_started() {
    let sandbox = sandbox().await;
    let marker = format!("32{}", std::process::id());
    let mut tree = python(&format!(
        "import os, signal, subprocess, time\n\
         for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n\
         for _ in range(5): subprocess.Popen(['sleep', '{marker}'], start_new_session=True)\n\
         if os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)\n\
         print('up', flush=True)\nwhile True: time.sleep(1)"
    ));
    tree.caps.wall_time = Duration::from_millis(700);
    let ran = run(&sandbox, tree).await.unwrap();
    assert_eq!((ran.measured.killed_for, ran.stdout.as_str()), (Some(Cap::Wall), "up\n"));
    assert!(!anybody_runs(&marker));
}

#[tokio::test]
async fn a_program_cannot_signal_limit_or_trace_init_or_anybody_outside() {
    let body = r#"
import signal, resource
attempt("kill 1", lambda: os.kill(1, signal.SIGKILL))
attempt("term 1", lambda: os.kill(1, signal.SIGTERM))
attempt("prlimit 1", lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)))
attempt("environ 1", lambda: open("/proc/1/environ").read())
attempt("mem 1", lambda: open("/proc/1/mem", "rb"))
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
        [
            "abstract ECONNREFUSED",
            "port ECONNREFUSED",
            if cgroups().await { "shm ENOENT" } else { "shm ENOSYS" },
            "[] []",
            "2"
        ]
    );
}

#[tokio::test]
async fn a_run_of_many_sessions_does_not_starve_another() {
    if !cgroups().await {
        return; // each process then counts for itself, and docs/sandbox.md says so
    }
    let sandbox = sandbox().await;
    // Each session would be a scheduling group of its own, with the weight of everything else.
    let spread = "import os\nfor i in range(40):\n if os.fork() == 0:\n  os.setsid()\n  while True: pass\n\
                  print('all', flush=True)\nwhile True: pass";
    let mut greedy = python(spread);
    (greedy.caps.cpu_time, greedy.caps.wall_time) =
        (Duration::from_secs(60), Duration::from_secs(8));
    let mut modest = python("import time\nwhile time.process_time() < 1: pass\nprint('done')");
    modest.caps.wall_time = Duration::from_secs(60);
    let (greedy, modest) = tokio::join!(run(&sandbox, greedy), async {
        // On a machine with n processors, n at the most are the other's.
        tokio::time::sleep(Duration::from_millis(500)).await;
        run(&sandbox, modest).await
    });
    assert_eq!(greedy.unwrap().stdout, "all\n");
    let modest = modest.unwrap();
    assert_eq!(modest.stdout, "done\n", "{modest:?}");
    let wall = modest.measured.wall_time;
    println!("one second of CPU beside 41 spinning sessions took {wall:?}");
    assert!(wall < Duration::from_secs(6), "{modest:?}");
}
