//! A task's process: started for real, stopped as `raw_exec` stops it.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::rotation::Rotation;

/// How long the output may stay open after the end of the process: Nomad's
/// `processOutputCloseTolerance`.
const CLOSING: Duration = Duration::from_secs(2);

/// What to start.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) allocation: String,
    pub(super) command: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    pub(super) kill_signal: Signal,
    pub(super) kill_timeout: Duration,
    pub(super) stdout: Rotation,
    pub(super) stderr: Rotation,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: i32,
}

/// A process that runs.
#[derive(Debug)]
pub(super) struct Running {
    child: tokio::process::Child,
    pid: Pid,
    output: JoinSet<()>,
    allocation: String,
    kill_signal: Signal,
    kill_timeout: Duration,
}

impl Program {
    /// # Errors
    /// Nomad's words for it.
    pub(super) fn start(self) -> Result<Running, String> {
        let failed = |what: &str| {
            format!(
                "failed to launch command with executor: rpc error: code = Unknown desc = {what}"
            )
        };
        let Some(command) = found(&self.command, &self.folder, &self.environment) else {
            let command = self.command.display();
            return Err(failed(&format!("binary {:?} could not be found", command.to_string())));
        };
        let mut child = Command::new(&command)
            .args(&self.args)
            .env_clear()
            .envs(&self.environment)
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let command = command.display();
                failed(&format!("failed to start command path={command:?}: {error}"))
            })?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let mut output = JoinSet::new();
        output.spawn(copy(child.stdout.take().expect("it is piped"), self.stdout));
        output.spawn(copy(child.stderr.take().expect("it is piped"), self.stderr));
        Ok(Running {
            pid: pid.expect("it was not waited for"),
            child,
            output,
            allocation: self.allocation,
            kill_signal: self.kill_signal,
            kill_timeout: self.kill_timeout,
        })
    }
}

impl Running {
    /// Waits until it has ended and nothing of it runs; stops it when told to, saying so first.
    ///
    /// `at_once` ends its patience.
    pub(super) async fn ended(
        mut self,
        stop: &CancellationToken,
        at_once: &CancellationToken,
        says_killing: impl FnOnce(),
    ) -> Ended {
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = stop.cancelled() => {
                says_killing();
                // The process alone, not its group: a shell that waits for a program in the
                // foreground goes on, and is killed later.
                let _ = kill(self.pid, self.kill_signal);
                let in_time = tokio::select! {
                    status = self.child.wait() => Some(status),
                    () = tokio::time::sleep(self.kill_timeout) => None,
                    () = at_once.cancelled() => None,
                };
                match in_time {
                    Some(status) => status,
                    None => {
                        let _ = kill(self.pid, Signal::SIGKILL);
                        self.child.wait().await
                    }
                }
            }
        };
        kill_left(self.pid, &self.allocation);
        let closed = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(CLOSING, closed).await;
        let status = status.expect("it is our child");
        let signal = status.signal().unwrap_or(0);
        Ended { code: status.code().unwrap_or(128 + signal), signal }
    }
}

/// Kills what a task left: its group, and, in place of the cgroup by which Nomad knows them,
/// whatever has its allocation in its environment.
fn kill_left(group: Pid, allocation: &str) {
    let _ = killpg(group, Signal::SIGKILL);
    let mark = format!("NOMAD_ALLOC_ID={allocation}");
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|each| each == mark.as_bytes()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: Rotation) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // A folder that was collected takes no more.
            Ok(length) => drop(to.write(&buffer[..length])),
        }
    }
}

/// In the task's folder, or on the PATH.
fn found(command: &Path, folder: &Path, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    if command.components().count() > 1 {
        let path = folder.join(command);
        return path.is_file().then_some(path);
    }
    let local = folder.join("local").join(command);
    let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let on_path = std::env::split_paths(path).map(|dir| dir.join(command));
    std::iter::once(local).chain(on_path).find(|path| path.is_file())
}
