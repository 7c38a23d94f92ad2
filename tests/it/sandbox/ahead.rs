//! Interpreters that are started before there is a program for them.

use std::os::unix::fs::PermissionsExt;

use braindrill::sandbox::{Ahead, End};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::*;
use crate::support::traces::{is_alive, with_word};

const DEADLINE: Duration = Duration::from_secs(30);

/// With room for this many bytes of interpreters.
async fn sandbox_with(prepared_bytes: u64) -> Sandbox {
    let instance = format!("{:08x}", rand_u32());
    start_with(instance, prepared_bytes).await.expect("this machine has the floor of the jail")
}

/// A Python program whose file no other test's has the name of.
fn program(name: &str, source: &str) -> Job {
    let mut job = job(&["/usr/bin/python3", "-B", name]);
    job.files = vec![JailFile { path: name.to_owned(), content: Blob::from(source) }];
    job.ahead = Some(Ahead {
        awaited: Path::new("/box").join(name),
        program: Vec::new(),
        memory_bytes: 10 << 20,
        identity: String::new(),
    });
    job
}

fn name() -> String {
    format!("main-{:08x}.py", rand_u32())
}

/// The interpreter that waits for this file.
async fn waiting(name: &str) -> i32 {
    let begin = std::time::Instant::now();
    loop {
        if let Some(pid) = with_word(name).pop() {
            return pid;
        }
        assert!(begin.elapsed() < DEADLINE, "no interpreter waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_interpreter_that_waits_runs_the_next_program_and_that_one_alone() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    let say = |word: &str| {
        let source = format!("import os; print('{word}', os.getpid(), os.listdir('.'))");
        program(&name, &source)
    };
    let expected = |word: &str| format!("{word} 2 ['{name}']\n");
    assert_eq!(run(&sandbox, say("first")).await.unwrap().stdout, expected("first"));
    assert_eq!(sandbox.handed_over(), 0);
    let mut seen = Vec::new();
    for (number, word) in (1..).zip(["second", "third", "fourth"]) {
        let pid = waiting(&name).await;
        assert!(!seen.contains(&pid), "used twice");
        seen.push(pid);
        assert_eq!(run(&sandbox, say(word)).await.unwrap().stdout, expected(word));
        assert_eq!(sandbox.handed_over(), number);
        assert!(!is_alive(pid), "it ended with its run");
    }
}

#[tokio::test]
async fn other_limits_command_variables_or_tools_are_another_interpreter() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    let plain = || program(&name, "print(1)");
    run(&sandbox, plain()).await.unwrap();
    waiting(&name).await;
    let mut others = vec![plain(), plain(), plain(), plain(), plain()];
    others[0].caps.memory_bytes -= 1 << 20;
    others[1].caps.cpu_time *= 2;
    others[2].env.push(("A".to_owned(), "b".to_owned()));
    others[3].command.insert(1, "-E".to_owned());
    others[4].ahead.as_mut().unwrap().identity = "updated".to_owned();
    for other in others {
        run(&sandbox, other).await.unwrap();
        assert_eq!(sandbox.handed_over(), 0);
    }
    let mut shorter = plain();
    shorter.caps.wall_time /= 2;
    run(&sandbox, shorter).await.unwrap();
    assert_eq!(sandbox.handed_over(), 1, "wall time begins with the program");
}

#[tokio::test]
async fn limits_hold_and_processor_time_counts_from_the_start_of_the_interpreter() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    let short = |source: &str| {
        let mut job = program(&name, source);
        job.caps.cpu_time = Duration::from_millis(500);
        job.caps.memory_bytes = 64 << 20;
        job.caps.output_keep = 1000;
        job.caps.output_kill = 1000;
        job
    };
    let mut cold = run(&sandbox, short("print(1)")).await.unwrap().measured;
    for _ in 0..4 {
        // On a busy machine one alone may have taken twice of what it needs.
        let mut plain = short("print(1)");
        plain.ahead = None;
        let again = run(&sandbox, plain).await.unwrap().measured;
        cold.cpu_time = cold.cpu_time.min(again.cpu_time);
        cold.memory_peak_bytes = cold.memory_peak_bytes.min(again.memory_peak_bytes);
    }
    for (source, cap) in [
        ("while True: pass", Cap::Cpu),
        ("import time; time.sleep(9)", Cap::Wall),
        ("x = bytearray(512 << 20)", Cap::Memory),
        ("while True: print('x' * 100)", Cap::Output),
    ] {
        waiting(&name).await;
        // Waiting is not running.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut job = short(source);
        if cap == Cap::Wall {
            job.caps.wall_time = Duration::from_secs(1);
        }
        let ran = run(&sandbox, job).await.unwrap();
        let is_oom = cap == Cap::Memory && ran.measured.oom_kills > 0;
        assert!(ran.measured.killed_for == Some(cap) || is_oom, "{cap:?}: {:?}", ran.measured);
    }
    waiting(&name).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let warm = run(&sandbox, short("print(1)")).await.unwrap().measured;
    assert_eq!(sandbox.handed_over(), 5);
    let counted = sandbox.layers().iter().any(|layer| layer.name == "cgroup" && layer.active);
    if counted {
        assert!(warm.cpu_time * 2 > cold.cpu_time, "{warm:?} after {cold:?}");
        assert!(warm.memory_peak_bytes * 2 > cold.memory_peak_bytes, "{warm:?} after {cold:?}");
    }
    assert!(warm.wall_time < Duration::from_secs(2), "{warm:?}");
}

#[tokio::test]
async fn an_interpreter_that_was_killed_costs_no_job() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    let hello = || program(&name, "print(input())");
    let fed = |mut job: Job| {
        job.stdin = Blob::from("fed\n");
        job
    };
    run(&sandbox, fed(hello())).await.unwrap();
    for _ in 0..5 {
        kill(Pid::from_raw(waiting(&name).await), Signal::SIGKILL).unwrap();
        assert_eq!(run(&sandbox, fed(hello())).await.unwrap().stdout, "fed\n");
    }
}

#[tokio::test]
async fn without_room_for_it_or_a_sandbox_there_is_none() {
    for bytes in [0, 1 << 20] {
        let (sandbox, name) = (sandbox_with(bytes).await, name());
        for _ in 0..2 {
            run(&sandbox, program(&name, "print(1)")).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(with_word(&name), Vec::<i32>::new());
        assert_eq!(sandbox.handed_over(), 0);
    }
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    run(&sandbox, program(&name, "print(1)")).await.unwrap();
    let pid = waiting(&name).await;
    drop(sandbox);
    let begin = std::time::Instant::now();
    while is_alive(pid) {
        assert!(begin.elapsed() < DEADLINE, "it outlives its sandbox");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn programs_of_any_length_and_end_are_handed_over() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    run(&sandbox, program(&name, "")).await.unwrap();
    let long = format!("x = '{}'\nprint(len(x))\n", "y".repeat(900_000));
    let broken = format!("this is no Python\n# {}\n", "y".repeat(900_000));
    for (source, stdout, end) in [
        (long.as_str(), "900000\n", End::Exited(0)),
        (broken.as_str(), "", End::Exited(1)),
        ("", "", End::Exited(0)),
        ("import os; os.kill(os.getpid(), 9)", "", End::Signaled(9)),
    ] {
        waiting(&name).await;
        let ran = run(&sandbox, program(&name, source)).await.unwrap();
        assert_eq!((ran.stdout.as_str(), ran.measured.end), (stdout, end), "{}", ran.stderr);
    }
    assert_eq!(sandbox.handed_over(), 4);
}

/// A program that was compiled into this folder, which looks at it.
fn compiled(name: &str, folder: &Path, word: &str) -> Job {
    let path = format!("/program/{name}");
    let source = format!(
        "import os\n\
         for folder in '/program', '/program/inner':\n\
         \x20   print('{word}', [(f, oct(os.stat(folder + '/' + f).st_mode), os.path.isfile(folder + '/' + f) and os.stat(folder + '/' + f).st_size)\n\
         \x20       for f in sorted(os.listdir(folder))])\n\
         for path in __file__, '/program/new':\n\
         \x20   try: open(path, 'w')\n\
         \x20   except OSError as error: print(error)\n\
         print(os.stat(__file__).st_uid, len(open(__file__).read()), open('/box/beside').read())\n"
    );
    let file = |path: &str, content: &str| {
        let target = folder.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&target);
        std::fs::write(&target, content).unwrap();
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o555)).unwrap();
        JailFile { path: path.to_owned(), content: Blob::from(content) }
    };
    let program = vec![file(name, &source), file("inner/other", word)];
    let mut job = job(&["/usr/bin/python3", "-B", &path]);
    job.files = vec![JailFile { path: "beside".to_owned(), content: Blob::from("beside") }];
    job.program = Some(folder.to_owned());
    let (awaited, identity) = (path.into(), String::new());
    job.ahead = Some(Ahead { awaited, program, memory_bytes: 10 << 20, identity });
    job
}

#[tokio::test]
async fn a_compiled_program_is_written_into_the_jail_of_what_waits_for_it() {
    let (plain, sandbox, name) = (sandbox_with(0).await, sandbox_with(1 << 30).await, name());
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    run(&sandbox, compiled(&name, folder.path(), "first")).await.unwrap();
    for round in 0..20 {
        let word = format!("round {round}");
        let cold = run(&plain, compiled(&name, folder.path(), &word)).await.unwrap();
        // What has begun but not come to its file yet finds it there.
        if round % 2 == 0 {
            waiting(&format!("/program/{name}")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let warm = run(&sandbox, compiled(&name, folder.path(), &word)).await.unwrap();
        assert!(
            cold.stdout.contains(&word) && cold.stdout.contains("Read-only"),
            "{}",
            cold.stdout
        );
        assert_eq!((warm.stdout, warm.stderr), (cold.stdout, cold.stderr));
        assert_eq!(sandbox.handed_over(), round + 1);
    }
    assert_eq!(plain.handed_over(), 0);
}

#[tokio::test]
async fn what_an_interpreter_spends_on_waiting_is_not_its_programs() {
    let (sandbox, name) = (sandbox_with(1 << 30).await, name());
    // As a JVM does, but much more of it.
    let waits_busily = "import sys, threading\n\
                        waits = True\n\
                        def spin():\n\
                        \x20   while waits: pass\n\
                        threading.Thread(target=spin, daemon=True).start()\n\
                        source = open(sys.argv[1]).read()\n\
                        waits = False\n\
                        exec(source)\n";
    let job = || {
        let mut job = program(&name, "print('ran')");
        job.command = ["/usr/bin/python3", "-c", waits_busily, &name].map(str::to_owned).to_vec();
        job.caps.cpu_time = Duration::from_millis(2010);
        job
    };
    run(&sandbox, job()).await.unwrap();
    waiting(&name).await;
    // More than the limit, and less than the kernel's own, which is 4 s.
    tokio::time::sleep(Duration::from_millis(2400)).await;
    let ran = run(&sandbox, job()).await.unwrap();
    assert_eq!((sandbox.handed_over(), ran.stdout.as_str()), (1, "ran\n"), "{:?}", ran.measured);
    assert_eq!(ran.measured.killed_for, None);
    assert!(ran.measured.cpu_time < Duration::from_millis(2010), "{:?}", ran.measured);
}
