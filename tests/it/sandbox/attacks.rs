//! Hostile programs, each trying one thing in a real jail. Numbers are those of the table in
//! `docs/sandbox.md`.

mod border;
mod kernel;
mod memory;
mod network;
mod processes;
mod resources;

use std::time::{Duration, Instant};

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

/// Whether cgroups count in this mode on this machine.
async fn cgroups() -> bool {
    sandbox().await.layers().iter().any(|layer| layer.name == "cgroup" && layer.active)
}
