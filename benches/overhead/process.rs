//! Processes: bare, in braindrill's sandbox, in bubblewrap.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use braindrill::sandbox::{Caps, End, Job, Sandbox, SandboxConfig, Slot, Without};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The smallest program there is.
pub(crate) const TRUE: &[&str] = &["/bin/true"];

/// What the daemon's Python runs, without the daemon: the same interpreter with the same option.
pub(crate) const PYTHON_HELLO: &[&str] = &["/usr/bin/python3", "-B", "-c", "print('hello')"];

/// Runs a command to its end, from spawn to wait.
pub(crate) fn time(command: &[impl AsRef<str>]) -> Result<Duration> {
    let words: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = start.elapsed();
    ensure!(status.success(), "{} ended with {status}", words[0]);
    Ok(elapsed)
}

/// The processor time that a process has taken, with all that it started and waited for.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    // In hundredths of a second, whatever the kernel's own tick is.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc(5): after the name, which may hold anything, come the fields from the third on;
    // utime, stime, cutime and cstime are the 14th to the 17th.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(4).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}

/// What a process has in memory, in MiB.
pub(crate) fn memory_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|text| text.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// /bin/true under bubblewrap with about the namespaces and mounts of our jail.
pub(crate) fn bubblewrap() -> Option<Vec<&'static str>> {
    let program = "/usr/bin/bwrap";
    if !Path::new(program).exists() {
        return None;
    }
    let mut command = vec![program, "--unshare-all", "--die-with-parent"];
    for folder in ["/usr", "/bin", "/lib", "/lib64"] {
        if Path::new(folder).exists() {
            command.extend(["--ro-bind", folder, folder]);
        }
    }
    command.extend(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"]);
    Some(command)
}

/// braindrill's sandbox, with one slot.
pub(crate) struct Jail {
    sandbox: Sandbox,
    slot: Slot,
}

impl Jail {
    pub(crate) async fn start() -> Result<Self> {
        let instance = format!("{:08x}", std::process::id());
        let executable = env!("CARGO_BIN_EXE_braindrill").into();
        let sandbox = Sandbox::start(SandboxConfig {
            instance,
            slots: 1,
            first_uid: SandboxConfig::FIRST_UID,
            executable,
            for_one_request: false,
            prepared_bytes: 0,
            without: Without::default(),
        })
        .await?;
        let slot = sandbox.slot().await;
        Ok(Jail { sandbox, slot })
    }

    /// Runs a command to its end in a fresh jail, from asking for it to everything being gone.
    pub(crate) async fn time(&self, command: &[&str]) -> Result<Duration> {
        let job = Job {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            caps: caps(),
            ..Job::default()
        };
        // The channel closes with the job; a /bin/true writes nothing, so nobody needs to read.
        let (output, _unread) = mpsc::channel(1);
        let start = Instant::now();
        let measured =
            self.sandbox.run(&self.slot, job, None, output, &CancellationToken::new()).await?;
        let elapsed = start.elapsed();
        match measured.end {
            End::Exited(0) => Ok(elapsed),
            end => bail!("{command:?} ended with {end:?} in the sandbox"),
        }
    }
}

/// The default limits of a run.
fn caps() -> Caps {
    Caps {
        cpu_time: Duration::from_secs(5),
        wall_time: Duration::from_secs(10),
        memory_bytes: 256 << 20,
        processes: 64,
        output_keep: 1 << 20,
        output_kill: 1 << 20,
        disk_bytes: 64 << 20,
        inodes: 4_096,
        open_files: 512,
        stack_bytes: 64 << 20,
    }
}
