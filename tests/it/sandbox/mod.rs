//! Jails with real programs in them, through the public interface of the sandbox.

mod ahead;
mod attacks;
mod basics;
mod kill_chain;
mod modes;
mod talk;

use std::{path::Path, time::Duration};

use braindrill::{
    sandbox::{Cap, Caps, JailFile, Job, Measured, Sandbox, SandboxConfig, SandboxError, Stream},
    submission::Blob,
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Starts a sandbox of its own for one test.
async fn sandbox() -> Sandbox {
    let instance = format!("{:08x}", rand_u32());
    start(instance).await.expect("this machine has the floor of the jail")
}

async fn start(instance: String) -> Result<Sandbox, SandboxError> {
    start_with(instance, 0).await
}

async fn start_with(instance: String, prepared_bytes: u64) -> Result<Sandbox, SandboxError> {
    Sandbox::start(SandboxConfig {
        instance,
        slots: 2,
        first_uid: SandboxConfig::FIRST_UID,
        executable: modes::executable(),
        for_one_request: false,
        prepared_bytes,
        without: modes::without(),
    })
    .await
}

fn rand_u32() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) as u32
}

fn caps() -> Caps {
    Caps {
        cpu_time: Duration::from_secs(5),
        wall_time: Duration::from_secs(10),
        memory_bytes: 256 << 20,
        processes: 64,
        output_keep: 1 << 20,
        output_kill: 1 << 20,
        disk_bytes: 64 << 20,
        inodes: 4096,
        open_files: 512,
        stack_bytes: 64 << 20,
    }
}

fn job(command: &[&str]) -> Job {
    Job {
        command: command.iter().map(ToString::to_string).collect(),
        caps: caps(),
        ..Job::default()
    }
}

fn python(source: &str) -> Job {
    let mut job = job(&["/usr/bin/python3", "main.py"]);
    job.files = vec![JailFile { path: "main.py".into(), content: Blob::from(source) }];
    job
}

/// What a job gave.
#[derive(Debug)]
struct Ran {
    measured: Measured,
    stdout: String,
    stderr: String,
}

async fn run(sandbox: &Sandbox, job: Job) -> Result<Ran, SandboxError> {
    let (sender, mut receiver) = mpsc::channel::<(Stream, Bytes)>(4);
    let collect = async {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((stream, chunk)) = receiver.recv().await {
            match stream {
                Stream::Stdout => stdout.extend_from_slice(&chunk),
                Stream::Stderr => stderr.extend_from_slice(&chunk),
            }
        }
        (stdout, stderr)
    };
    let slot = sandbox.slot().await;
    let cancel = CancellationToken::new();
    let (measured, (stdout, stderr)) =
        tokio::join!(sandbox.run(&slot, job, None, sender, &cancel), collect);
    Ok(Ran {
        measured: measured?,
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Whether a process with this word in its command line is on the machine.
pub(crate) fn anybody_runs(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes()))
    })
}
