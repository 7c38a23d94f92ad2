//! What a well-meaning program sees and gets.

use std::time::{Duration, Instant};

use braindrill::sandbox::{Cap, End, SandboxError, Space};

use super::*;

#[tokio::test]
async fn a_program_runs_and_its_output_and_exit_code_come_back() {
    let sandbox = sandbox().await;
    let ran = run(&sandbox, job(&["/usr/bin/bash", "-c", "echo out; echo err >&2; exit 3"])).await;
    let ran = ran.unwrap();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(ran.measured.end, End::Exited(3));
    assert_eq!(ran.measured.killed_for, None);
}

#[tokio::test]
async fn stdin_is_fed_to_its_last_byte_and_no_further() {
    let sandbox = sandbox().await;
    let mut cat = job(&["/usr/bin/cat"]);
    cat.stdin = Blob::from(vec![b'x'; 900_000]);
    let ran = run(&sandbox, cat).await.unwrap();
    assert_eq!(ran.stdout.len(), 900_000);
    let mut reopened = job(&["/usr/bin/cat", "/dev/stdin"]);
    reopened.stdin = Blob::from("again");
    assert_eq!(run(&sandbox, reopened).await.unwrap().stdout, "again");
}

#[tokio::test]
async fn the_first_process_is_not_pid_1_and_sees_a_small_world() {
    let sandbox = sandbox().await;
    let script = "echo $$; id -u; id -g; hostname; pwd; umask; ls /; env | sort; ls /proc/self/fd";
    let ran = run(&sandbox, job(&["/usr/bin/bash", "-c", script])).await.unwrap();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_ne!(lines[0], "1");
    let id = if modes::without().user_namespace { lines[1] } else { "1000" };
    assert_ne!(id, "0");
    assert_eq!(lines[1..6], [id, id, "sandbox", "/box", "0022"], "{}", ran.stderr);
    for secret in ["/root", "home", "CARGO", "sys"] {
        assert!(!ran.stdout.contains(secret), "{secret} in {}", ran.stdout);
    }
}

#[tokio::test]
async fn a_missing_command_is_an_error_of_its_own() {
    let sandbox = sandbox().await;
    let error = run(&sandbox, job(&["/usr/bin/no-such-thing"])).await.unwrap_err();
    assert!(
        matches!(&error, SandboxError::Exec(what) if what.contains("no-such-thing")),
        "{error}"
    );
}

#[tokio::test]
async fn each_limit_ends_a_program_that_passes_it() {
    let sandbox = sandbox().await;

    let mut spin = python("while True: pass");
    spin.caps.cpu_time = Duration::from_millis(300);
    let ran = run(&sandbox, spin).await.unwrap().measured;
    assert_eq!(ran.killed_for, Some(Cap::Cpu));
    assert!(
        ran.cpu_time >= Duration::from_millis(300) && ran.cpu_time < Duration::from_millis(400)
    );

    let mut sleep = job(&["/usr/bin/sleep", "100"]);
    sleep.caps.wall_time = Duration::from_millis(300);
    let ran = run(&sandbox, sleep).await.unwrap().measured;
    assert_eq!(ran.killed_for, Some(Cap::Wall));

    let mut bomb = python("a = []\nwhile True: a.append(bytearray(1 << 20))");
    bomb.caps.memory_bytes = 64 << 20;
    let ran = run(&sandbox, bomb).await.unwrap().measured;
    assert_eq!(ran.killed_for, Some(Cap::Memory), "{ran:?}");
    assert!(ran.memory_peak_bytes > 64 << 20);

    let mut flood = job(&["/usr/bin/yes"]);
    (flood.caps.output_keep, flood.caps.output_kill) = (1000, 1000);
    let ran = run(&sandbox, flood).await.unwrap();
    assert_eq!(ran.measured.killed_for, Some(Cap::Output));
    assert_eq!(ran.stdout.len(), 1000);
    assert!(ran.measured.stdout.truncated && ran.measured.stdout.bytes > 1000);

    let mut disk = job(&["/usr/bin/dd", "if=/dev/zero", "of=/box/full", "bs=1M"]);
    disk.caps.disk_bytes = 8 << 20;
    let ran = run(&sandbox, disk).await.unwrap();
    assert_eq!(ran.measured.end, End::Exited(1));
    assert_eq!(ran.measured.disk_full, Some(Space::Bytes));
    assert_eq!(ran.measured.disk_used_bytes, 8 << 20);
    assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
}

#[tokio::test]
async fn four_spinners_share_one_cpu_limit() {
    let sandbox = sandbox().await;
    let mut spinners = python("import os\nos.fork(); os.fork()\nwhile True: pass");
    spinners.caps.cpu_time = Duration::from_millis(1000);
    let ran = run(&sandbox, spinners).await.unwrap().measured;
    assert_eq!(ran.killed_for, Some(Cap::Cpu));
    assert!((900..=1600).contains(&ran.cpu_time.as_millis()), "{ran:?}");
}

#[tokio::test]
async fn cancelling_ends_a_program_at_once() {
    let sandbox = sandbox().await;
    let slot = sandbox.slot().await;
    let cancel = CancellationToken::new();
    let (sender, mut receiver) = mpsc::channel(4);
    let running = sandbox.run(
        &slot,
        job(&["/usr/bin/bash", "-c", "echo up; sleep 100"]),
        None,
        sender,
        &cancel,
    );
    let begin = Instant::now();
    let stop = async {
        receiver.recv().await;
        cancel.cancel();
        while receiver.recv().await.is_some() {}
    };
    let (result, ()) = tokio::join!(running, stop);
    assert!(matches!(result, Err(SandboxError::Cancelled)), "{result:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_left_in_out_is_collected_and_can_be_run() {
    let sandbox = sandbox().await;
    let folder = tempfile::tempdir().unwrap();
    let mut compile = job(&["/usr/bin/gcc", "-O2", "-o", "/out/main", "main.c"]);
    compile.files = vec![JailFile {
        path: "main.c".into(),
        content: Blob::from("#include <stdio.h>\nint main(void) { puts(\"42\"); }\n"),
    }];
    compile.collect = Some(folder.path().to_owned());
    let ran = run(&sandbox, compile).await.unwrap();
    assert_eq!(ran.measured.end, End::Exited(0), "{}", ran.stderr);
    let mut program = job(&["/program/main"]);
    program.program = Some(folder.path().to_owned());
    assert_eq!(run(&sandbox, program).await.unwrap().stdout, "42\n");
}
