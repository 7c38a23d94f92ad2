//! What a daemon finds of the one before it, and of itself.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_no_node_takes_says_what_it_waits_for_and_can_be_released() {
    let elsewhere = |job: &mut JobSettings| job.datacenters = vec!["elsewhere".to_owned()];
    let Some(stage) = Stage::with("cat $DIR/events", elsewhere).await else { return };

    let mut execution = stage.backend.start(request("true")).await.unwrap();
    let update = tokio::time::timeout(DEADLINE, execution.events.recv()).await.unwrap();

    let Some(Update::Waiting(sentence)) = update else { panic!("{update:?}") };
    assert_eq!(sentence, "Nomad has no node that is ready in the datacenters of its job");
    // A daemon that starts again finds it waiting, whether it had saved the placement or not.
    let successor = stage.successor().await;
    stage.stopping.cancel();
    let placement = execution.placement.clone();
    drop(execution);
    let again = successor.recover(request("true"), Some(placement.clone())).await.unwrap();
    assert_eq!(again.as_ref().map(|execution| &execution.placement), Some(&placement));
    successor.release(&placement).await.unwrap();
    assert!(stage.is_gone(&placement).await);
    let updates = collect(&mut again.unwrap()).await;
    assert_eq!(lost(&updates), "its job was removed from Nomad");
    assert!(successor.recover(request("true"), Some(placement)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_starts_again_takes_up_what_ran_meanwhile() {
    let script = "head -n 1 $DIR/events; touch $DIR/began; \
                  while [ ! -e $DIR/go ]; do sleep 0.05; done; tail -n +2 $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    let events = events(b"42\n");
    stage.lay_out("events", &events);
    let request = request("print(6*7)");

    let execution = stage.backend.start(request.clone()).await.unwrap();
    until_exists(&stage.path("began")).await;
    stage.stopping.cancel();
    let placement = execution.placement.clone();
    drop(execution);
    stage.backend.shut_down().await;

    let successor = stage.successor().await;
    let mut by_placement =
        successor.recover(request.clone(), Some(placement.clone())).await.unwrap().unwrap();
    let mut by_meta = successor.recover(request.clone(), None).await.unwrap().unwrap();
    let next_attempt = ExecutionRequest { attempt: 2, ..(*request).clone() };
    assert!(successor.recover(Arc::new(next_attempt), None).await.unwrap().is_none());
    std::fs::write(stage.path("go"), "").unwrap();

    assert_eq!(events_of(&collect(&mut by_placement).await), events);
    assert_eq!(events_of(&collect(&mut by_meta).await), events);
    // Killed before the result was on disk, it reads it once more.
    let mut again = successor.recover(request.clone(), None).await.unwrap().unwrap();
    assert_eq!(events_of(&collect(&mut again).await), events);
    assert_eq!(job_id(&again.placement), job_id(&placement));
    successor.release(&placement).await.unwrap();
    assert!(successor.recover(request, None).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_of_a_job_of_another_name_is_taken_up_too() {
    let script = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events";
    let stage = Stage::stand_in(script).await;
    stage.lay_out("events", &events(b"42\n"));
    // So that children are listed often.
    stage.switches().set_streams(Streams::Refused(403));
    let request = request("print(6*7)");
    let execution = stage.backend.start(request.clone()).await.unwrap();
    until_exists(&stage.path("began")).await;
    let placement = execution.placement.clone();
    stage.stopping.cancel();
    drop(execution);
    stage.backend.shut_down().await;

    let mut job = stage.job();
    job.name += "-renamed";
    let job = tokio::sync::watch::channel(job).1;
    let settings = NomadSettings { job, ..stage.settings.clone() };
    let renamed = NomadBackend::connect(settings, CancellationToken::new()).await.unwrap();
    let recovered = renamed.recover(request, Some(placement.clone())).await.unwrap();
    let mut execution = recovered.unwrap();
    // It runs on, whatever is listed.
    let early = tokio::time::timeout(Duration::from_secs(2), execution.events.recv()).await;
    assert!(early.is_err(), "{early:?}");
    std::fs::write(stage.path("go"), "").unwrap();

    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    renamed.release(&placement).await.unwrap();
    assert!(stage.is_gone(&placement).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_dispatched_twice_by_accident_is_taken_up_once() {
    let script = "touch $DIR/began.$NOMAD_ALLOC_ID; cat $DIR/events";
    let Some(stage) = Stage::new(script).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let request = request("print(6*7)");
    let mut first = stage.backend.start(request.clone()).await.unwrap();
    let mut second = stage.backend.start(request.clone()).await.unwrap();
    collect(&mut first).await;
    collect(&mut second).await;

    let mut found = stage.backend.recover(request, None).await.unwrap().unwrap();

    assert_eq!(job_id(&found.placement), job_id(&second.placement));
    assert!(stage.is_gone(&first.placement).await);
    assert_eq!(events_of(&collect(&mut found).await), events(b"42\n"));
    stage.backend.release(&found.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dispatch_of_which_the_answer_is_lost_is_found_again() {
    let Some(stage) = Stage::new("cat $DIR/events").await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let (proxy, backend) = stage.behind_a_proxy().await;
    let request = request("print(6*7)");

    proxy.set(Way::LosesAnswersToDispatches);
    let error = backend.start(request.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Ambiguous(_)), "{error:?}");

    let mut found = backend.recover(request, None).await.unwrap().unwrap();
    assert_eq!(events_of(&collect(&mut found).await), events(b"42\n"));
    backend.release(&found.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_was_never_scheduled_is_no_attempt_that_could_be_taken_up() {
    let stage = Stage::stand_in("cat $DIR/events").await;
    stage.switches().lose_next_evaluation();
    let request = request("print(6*7)");
    let error = stage.backend.start(request.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Ambiguous(_)), "{error:?}");
    let client = stage.agent.client();
    let children = async || {
        let all = client.jobs(&stage.job().name).await.unwrap().value;
        all.into_iter().filter(|job| job.id.contains("/dispatch-")).collect::<Vec<_>>()
    };
    let child = &children().await[0];
    let placement = Placement::Nomad {
        job_id: child.id.clone(),
        evaluation_id: String::new(),
        allocation_id: None,
        node_id: None,
    };

    assert!(stage.backend.recover(request.clone(), None).await.unwrap().is_none());
    assert!(children().await.is_empty());
    assert!(stage.backend.recover(request, Some(placement)).await.unwrap().is_none());
}

/// Has Nomad stop an allocation and make another in its place, as it does when a node is drained.
async fn replace(stage: &Stage, allocation_id: &str) {
    let address = stage.agent.host_and_port();
    let url = format!("http://{address}/v1/allocation/{allocation_id}/stop");
    let answer = reqwest::Client::new().put(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_nomad_begins_anew_is_lost_once_it_has_spoken() {
    let script = "head -n 1 $DIR/events; exec sleep 1000";
    let Some(stage) = Stage::new(script).await else { return };
    stage.lay_out("events", &events(b"42\n"));
    let request = request("print(6*7)");
    let mut execution = stage.backend.start(request.clone()).await.unwrap();
    let mut placement = None;
    loop {
        match tokio::time::timeout(DEADLINE, execution.events.recv()).await.unwrap().unwrap() {
            Update::Placement(known) => placement = Some(known),
            Update::Event(_) => break,
            other => panic!("{other:?}"),
        }
    }
    let placement = placement.unwrap();
    let Placement::Nomad { allocation_id: Some(id), .. } = &placement else {
        panic!("{placement:?}")
    };

    // Of two daemons one is there when it happens, and one comes after.
    let successor = stage.successor().await;
    replace(&stage, id).await;
    let client = stage.agent.client();
    until("there is a replacement", async || {
        client.allocations(&job_id(&placement), None).await.unwrap().value.len() > 1
    })
    .await;

    assert!(successor.recover(request, Some(placement.clone())).await.unwrap().is_none());
    assert!(!lost(&collect(&mut execution).await).is_empty());
    assert!(stage.is_gone(&placement).await);
}
