//! Whoever dies takes what it started along: nothing of a job outlives its daemon, its launcher's
//! death costs no job that runs, and a helper's death is our fault and not the program's.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::*;
use crate::support::traces::{
    busy_cgroups, cgroups, helpers, is_alive, job_cgroups, parent_of, sandbox_processes, with_word,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process whose command line has this word.
fn find(word: &str) -> Option<i32> {
    with_word(word).pop()
}

/// A number that no other test sleeps for.
fn marker() -> String {
    format!("9{}", rand_u32())
}

/// A sandbox with one job in it that sleeps; gives the pid of the helper.
async fn sleeping(marker: &str, sandbox: &Sandbox) -> (tokio::task::JoinHandle<Outcome>, i32) {
    let (sandbox, word) = (sandbox.clone(), marker.to_owned());
    #[allow(clippy::disallowed_methods, reason = "the test awaits it")]
    let running = tokio::spawn(async move { run(&sandbox, job(&["/usr/bin/sleep", &word])).await });
    until("the program runs", || find(marker).is_some()).await;
    let helper = parent_of(find(marker).unwrap()).unwrap();
    (running, helper)
}

type Outcome = Result<Ran, SandboxError>;

#[tokio::test]
async fn a_killed_helper_is_our_fault_and_leaves_no_program() {
    let (sandbox, marker) = (sandbox().await, marker());
    let (running, helper) = sleeping(&marker, &sandbox).await;
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, SandboxError::Broken(_)), "{error}");
    until("the program is gone", || !anybody_runs(&marker)).await;
    assert_eq!(run(&sandbox, job(&["/usr/bin/echo", "on"])).await.unwrap().stdout, "on\n");
}

#[tokio::test]
async fn a_killed_launcher_costs_no_running_job_and_is_started_again() {
    let (sandbox, marker) = (sandbox().await, marker());
    let (running, helper) = sleeping(&marker, &sandbox).await;
    let launcher = parent_of(helper).unwrap();
    kill(Pid::from_raw(launcher), Signal::SIGKILL).unwrap();
    until("the launcher is gone", || parent_of(helper) != Some(launcher)).await;
    assert_eq!(run(&sandbox, job(&["/usr/bin/echo", "on"])).await.unwrap().stdout, "on\n");
    assert!(anybody_runs(&marker));
    running.abort();
    until("the program is gone", || !anybody_runs(&marker)).await;
}

#[tokio::test]
async fn dropping_a_run_ends_its_program() {
    let (sandbox, marker) = (sandbox().await, marker());
    let (running, _) = sleeping(&marker, &sandbox).await;
    running.abort();
    until("the program is gone", || !anybody_runs(&marker)).await;
}

#[tokio::test]
async fn a_sandbox_that_ends_leaves_no_process_and_no_cgroup() {
    let (instance, marker) = (format!("{:08x}", rand_u32()), marker());
    let sandbox = start(instance.clone()).await.unwrap();
    let (running, _) = sleeping(&marker, &sandbox).await;
    let had_cgroups = !cgroups(&instance).is_empty();
    let counted = sandbox.layers().iter().any(|layer| layer.name == "cgroup" && layer.active);
    assert_eq!(had_cgroups, counted);
    running.abort();
    drop(sandbox);
    until("everything is gone", || !anybody_runs(&marker) && cgroups(&instance).is_empty()).await;
}

#[tokio::test]
async fn what_a_killed_daemon_left_is_removed_by_the_next_of_its_instance() {
    let (instance, marker) = (format!("{:08x}", rand_u32()), marker());
    let sandbox = start(instance.clone()).await.unwrap();
    let (running, helper) = sleeping(&marker, &sandbox).await;
    // By number: the next daemon is this process too, and may use a name again.
    let number = |path: &PathBuf| std::fs::metadata(path).ok().map(|folder| folder.ino());
    let jobs: Vec<_> = busy_cgroups(&instance).iter().filter_map(number).collect();
    // Launcher and helper go without a word, as when all of a daemon's group is killed.
    kill(Pid::from_raw(parent_of(helper).unwrap()), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    assert!(running.await.unwrap().is_err());
    drop(sandbox);
    let next = start(instance.clone()).await.unwrap();
    let left = job_cgroups(&instance).iter().filter_map(number).find(|job| jobs.contains(job));
    assert_eq!(left, None);
    drop(next);
    until("everything is gone", || cgroups(&instance).is_empty()).await;
}

#[tokio::test]
async fn a_predecessor_that_clears_up_late_costs_its_successor_nothing() {
    let instance = format!("{:08x}", rand_u32());
    let sandbox = start(instance.clone()).await.unwrap();
    for _ in 0..5 {
        // As the launcher of a killed daemon does when its last helper has ended; it succeeds only
        // while the successor has no jail prepared.
        for folder in cgroups(&instance) {
            let _ = std::fs::remove_dir(folder);
        }
        assert_eq!(run(&sandbox, job(&["/usr/bin/echo", "on"])).await.unwrap().stdout, "on\n");
    }
}

#[tokio::test]
async fn the_cgroup_of_a_killed_helper_goes_with_the_next_job_of_its_slot() {
    let (instance, marker) = (format!("{:08x}", rand_u32()), marker());
    let sandbox = start(instance.clone()).await.unwrap();
    let (running, helper) = sleeping(&marker, &sandbox).await;
    let jobs = busy_cgroups(&instance);
    assert_eq!(!jobs.is_empty(), !cgroups(&instance).is_empty());
    kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    assert!(running.await.unwrap().is_err());
    // Slots are given out last come, first served.
    run(&sandbox, job(&["/usr/bin/echo", "on"])).await.unwrap();
    assert_eq!(jobs.into_iter().find(|job| job.exists()), None);
}

#[tokio::test]
async fn a_killed_helper_that_waited_costs_no_job() {
    let instance = format!("{:08x}", rand_u32());
    let sandbox = start(instance.clone()).await.unwrap();
    for _ in 0..5 {
        until("a jail is prepared", || !waiting_helpers(&instance).is_empty()).await;
        // With their inits: one on its way out has no command line any more, but its files.
        let mut seen = Vec::new();
        until("they are gone", || {
            let launcher = launcher(&instance);
            seen.extend(sandbox_processes(&instance));
            seen.retain(|&pid| Some(pid) != launcher && is_alive(pid));
            // One that came after the look above is killed too, and is still on its way out.
            let waiting = waiting_helpers(&instance);
            for helper in &waiting {
                let _ = kill(Pid::from_raw(*helper), Signal::SIGKILL);
            }
            seen.is_empty() && waiting.is_empty()
        })
        .await;
        assert_eq!(run(&sandbox, job(&["/usr/bin/echo", "on"])).await.unwrap().stdout, "on\n");
    }
    // Nor is there anything of a slot in which no job came after it.
    drop(sandbox);
    until("everything is gone", || cgroups(&instance).is_empty()).await;
}

/// The launcher of a sandbox of this process.
fn launcher(instance: &str) -> Option<i32> {
    let is_ours = |pid: &i32| parent_of(*pid) == Some(std::process::id() as i32);
    sandbox_processes(instance).into_iter().find(is_ours)
}

/// The helpers of a sandbox in which nothing runs.
fn waiting_helpers(instance: &str) -> Vec<i32> {
    helpers(instance, launcher(instance))
}
