//! From a dispatch to its result, or to its end without one.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_dispatched_and_its_events_come_back() {
    let script = "cp $NOMAD_TASK_DIR/request $DIR/request; cat $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(b"42\n");
    stage.lay_out("events", &events);
    let request = request("print(6*7)");

    let mut execution = stage.backend.start(request.clone()).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(events_of(&updates), events);
    let sent = std::fs::read(stage.path("request")).unwrap();
    assert_eq!(payload::decode(&sent).unwrap(), *request);
    let Some(Update::Placement(Placement::Nomad { job_id, allocation_id, node_id, .. })) =
        updates.first()
    else {
        panic!("{updates:?}")
    };
    assert_eq!(*job_id, self::job_id(&execution.placement));
    let workers = stage.backend.workers().await.unwrap();
    assert_eq!(node_id.as_ref(), Some(&workers[0].id));
    assert!(workers[0].healthy && allocation_id.is_some());

    // The result is kept until it is released, and that may be done twice.
    assert!(!stage.is_gone(&execution.placement).await);
    for _ in 0..2 {
        stage.backend.release(&execution.placement).await.unwrap();
        assert!(stage.is_gone(&execution.placement).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_much_output_as_is_ever_kept_comes_back_whole() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    let output: Vec<u8> = (0..16u32 << 20).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let events = events(&output);
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("yes")).await.unwrap();

    // Not assert_eq: a difference would print it all.
    assert!(events_of(&collect(&mut execution).await) == events);
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runners_own_copy_is_read_when_its_log_is_not_whole() {
    let script = "cp $DIR/events $NOMAD_ALLOC_DIR/data/events.jsonl; head -c 300 $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(&[7; 200_000]);
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("yes")).await.unwrap();

    assert_eq!(events_of(&collect(&mut execution).await), events);
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_ends_without_a_result_is_a_lost_attempt() {
    let Some(stage) = Stage::new("head -n 1 $DIR/events; exit 3").await else { return };
    let events = events(b"");
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("exit 3")).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(events_of(&updates), events[..1]);
    assert_eq!(lost(&updates), "its runner ended with exit code 3 without a result");
    assert!(stage.is_gone(&execution.placement).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_runner_is_a_lost_attempt_that_names_no_path() {
    let missing = |job: &mut JobSettings| job.runner_path = "/nonexistent/runner".into();
    let Some(stage) = Stage::with("", missing).await else { return };

    let mut execution = stage.backend.start(request("true")).await.unwrap();
    let updates = collect(&mut execution).await;

    assert_eq!(lost(&updates), "its runner could not be started by Nomad (Driver Failure)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_events_stops_the_child() {
    let script = "sleep 1000 & echo $! > $DIR/pid; mv $DIR/pid $DIR/began; wait";
    let Some(stage) = Stage::new(script).await else { return };

    let execution = stage.backend.start(request("sleep 1000")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let pid = std::fs::read_to_string(stage.path("began")).unwrap();
    assert!(is_alive(&pid));
    drop(execution.events);

    until("the child is gone", async || stage.is_gone(&execution.placement).await).await;
    assert!(!is_alive(&pid));
    stage.backend.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releasing_a_running_attempt_returns_when_nothing_of_it_runs() {
    let script = "trap '' INT; sleep 1000 & echo $! > $DIR/pid; mv $DIR/pid $DIR/began; wait; wait";
    let Some(stage) = Stage::new(script).await else { return };

    let mut execution = stage.backend.start(request("sleep 1000")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let pid = std::fs::read_to_string(stage.path("began")).unwrap();
    stage.backend.release(&execution.placement).await.unwrap();

    assert!(!is_alive(&pid));
    assert!(stage.is_gone(&execution.placement).await);
    assert!(!lost(&collect(&mut execution).await).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_attempt_has_said_comes_before_its_end() {
    let script = "head -n 2 $DIR/events; while [ ! -e $DIR/go ]; do sleep 0.05; done; \
                  tail -n +3 $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(b"42\n");
    stage.lay_out("events", &events);

    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
    let mut first = Vec::new();
    while first.len() < 2 {
        let update = tokio::time::timeout(DEADLINE, execution.events.recv()).await.unwrap();
        first.extend(events_of(&[update.unwrap()]));
    }
    std::fs::write(stage.path("go"), "").unwrap();

    assert_eq!(first, events[..2]);
    assert_eq!(events_of(&collect(&mut execution).await), events[2..]);
    stage.backend.release(&execution.placement).await.unwrap();
}
