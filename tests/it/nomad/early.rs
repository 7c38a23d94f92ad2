//! Results that are there before Nomad has reported the end of their task.

use super::*;

/// Says all in the copy and nothing on stdout, and then stays until the file `end` is there.
const STAYS: &str = "
    until [ -e $DIR/go ]; do sleep 0.02; done
    cp $DIR/events $NOMAD_ALLOC_DIR/data/events.jsonl
    touch $DIR/said
    until [ -e $DIR/end ]; do sleep 0.02; done";

impl Stage {
    fn let_it(&self, name: &str) {
        std::fs::write(self.path(name), "").unwrap();
    }

    /// Whether something of a placement runs, as Nomad sees it.
    async fn runs(&self, placement: &Placement) -> bool {
        let allocations = self.agent.client().allocations(&job_id(placement), None).await;
        allocations.unwrap().value.iter().any(|allocation| !allocation.is_over())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_in_the_runners_copy_is_taken_while_its_task_still_runs() {
    let Some(stage) = Stage::new(STAYS).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    stage.let_it("go");

    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();

    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    assert!(stage.runs(&execution.placement).await);
    stage.let_it("end");
    stage.backend.release(&execution.placement).await.unwrap();
    assert!(stage.is_gone(&execution.placement).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_calls_is_looked_at_and_a_false_call_does_no_harm() {
    let Some(stage) = Stage::new(STAYS).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let request = request("print(6*7)");
    let call = || stage.backend.nudge(request.submission, request.attempt);
    call();

    let mut execution = stage.backend.start(request.clone()).await.unwrap();
    call();
    // Longer than anybody looks by himself.
    let early = async {
        loop {
            let update = execution.events.recv().await;
            assert!(
                !matches!(update, None | Some(Update::Event(_) | Update::Lost(_))),
                "{update:?}"
            );
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), early).await.is_err());
    stage.let_it("go");
    until_exists(&stage.path("said")).await;
    stage.backend.nudge(request.submission, request.attempt + 1);
    // Where Nomad has no connection left for the looks that follow a call, its report of the end is what
    // tells; there is none here, so it is called again.
    let calls = async {
        loop {
            call();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let updates = tokio::select! {
        updates = collect(&mut execution) => updates,
        never = calls => never,
    };

    assert_eq!(events_of(&updates), events(b"42\n"));
    assert!(stage.runs(&execution.placement).await);
    stage.let_it("end");
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_free_as_soon_as_nomad_has_forgotten_what_gave_its_result() {
    let Some(stage) = Stage::new(STAYS).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
    assert!(!stage.backend.vacate(&execution.placement).await, "it has not begun");
    stage.let_it("go");
    collect(&mut execution).await;
    until("it is known to have finished", async || {
        stage.backend.vacate(&execution.placement).await
    })
    .await;

    let job = stage.agent.client().job(&job_id(&execution.placement)).await.unwrap();
    assert!(job.is_none(), "{job:?}");
    stage.backend.release(&execution.placement).await.unwrap();
    assert!(stage.is_gone(&execution.placement).await);
    // And once more, as a reaper does that was not told.
    assert!(!stage.backend.vacate(&execution.placement).await);
    stage.backend.release(&execution.placement).await.unwrap();
}
