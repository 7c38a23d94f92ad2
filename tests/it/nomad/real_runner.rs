//! The whole way: a real Nomad, the real executable, real jails.

use super::*;

/// A stage on which `braindrill runner` itself runs.
async fn stage() -> Option<Stage> {
    let real = |job: &mut JobSettings| job.runner_path = env!("CARGO_BIN_EXE_braindrill").into();
    Stage::with("", real).await
}

fn report(events: &[Event]) -> &Report {
    match &events.last().unwrap().kind {
        EventKind::Finished { result: ExecutionResult::Report(report) } => report,
        other => panic!("{other:?}"),
    }
}

fn stdout(events: &[Event]) -> Vec<u8> {
    let data = events.iter().filter_map(|event| match &event.kind {
        EventKind::Stdout { data, .. } => Some(data.to_vec()),
        _ => None,
    });
    data.flatten().collect()
}

/// Whether a process with this text among its arguments is there.
fn runs(text: &str) -> bool {
    let has = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    std::fs::read_dir("/proc").unwrap().flatten().any(has)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_run_in_a_jail_on_a_node_and_are_judged() {
    let Some(stage) = stage().await else { return };
    let sources = ["echo $((6*7)); echo $NOMAD_TASK_DIR", "echo 42; exit 3", "exec sleep 1000"];
    let mut requests = Vec::new();
    for source in sources {
        let mut request = (*request(source)).clone();
        request.request.limits.wall_time_ms = 1_000;
        requests.push(stage.backend.start(Arc::new(request)));
    }
    let mut executions = futures_util::future::try_join_all(requests).await.unwrap();
    let mut all = Vec::new();
    for execution in &mut executions {
        all.push(events_of(&collect(execution).await));
    }

    assert_eq!(report(&all[0]).verdict, Verdict::Accepted);
    assert_eq!(stdout(&all[0]), b"42\n\n");
    assert_eq!(report(&all[1]).verdict, Verdict::RuntimeError);
    assert_eq!(report(&all[1]).runs[0].exit_code, Some(3));
    assert_eq!(stdout(&all[1]), b"42\n");
    assert_eq!(report(&all[2]).verdict, Verdict::TimeLimitExceeded);
    for execution in &executions {
        stage.backend.release(&execution.placement).await.unwrap();
        assert!(stage.is_gone(&execution.placement).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releasing_a_running_attempt_leaves_no_process_of_its_jail() {
    let Some(stage) = stage().await else { return };
    let seconds = format!("{}", 1_000_000 + rand_u32() % 1_000_000);
    let source = format!("sleep {seconds} & wait");

    let execution = stage.backend.start(request(&source)).await.unwrap();
    until("the program runs", async || runs(&seconds)).await;
    stage.backend.release(&execution.placement).await.unwrap();

    assert!(!runs(&seconds));
    assert!(stage.is_gone(&execution.placement).await);
}
