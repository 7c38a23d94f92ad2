//! How children are watched when the event stream is not as it should be.

use super::{trouble::settings_at, *};

/// Held until there is a file.
const HELD: &str = "touch $DIR/began; while [ ! -e $DIR/go ]; do sleep 0.05; done; cat $DIR/events";

/// How often the server was asked something that begins so.
fn count(switches: &StandIn, begin: &str) -> usize {
    switches.asked().iter().filter(|asked| asked.starts_with(begin)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_end_at_once_are_asked_for_less_and_less_often() {
    for words in ["", "{}\n", "event dropped from buffer"] {
        let stage = Stage::stand_in(HELD).await;
        stage.lay_out("events", &events(b"42\n"));
        stage.switches().set_streams(Streams::Say(words));
        // That which is open goes on till then.
        stage.switches().drop_streams();
        let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
        until_exists(&stage.path("began")).await;

        let before = stage.switches().asked().len();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let streams = count(stage.switches(), "GET /v1/event/stream");
        let asked = stage.switches().asked().len() - before;
        assert!((2..=8).contains(&streams), "{streams} streams were asked for: {words}");
        // A listing of two jobs each quarter of a second, and what a child leads to.
        assert!(asked <= 60, "{asked} requests in two seconds: {words}");

        std::fs::write(stage.path("go"), "").unwrap();
        assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
        stage.backend.release(&execution.placement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_was_dropped_reads_on_and_a_broken_stream_is_not_an_absent_nomad() {
    let stage = Stage::stand_in(HELD).await;
    stage.lay_out("events", &events(b"42\n"));
    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
    until_exists(&stage.path("began")).await;
    let streams = || count(stage.switches(), "GET /v1/event/stream");
    let before = streams();
    stage.switches().drop_streams();
    until("the stream is asked for again", async || streams() > before).await;
    std::fs::write(stage.path("go"), "").unwrap();

    let updates = collect(&mut execution).await;
    assert_eq!(events_of(&updates), events(b"42\n"));
    let away = |update: &Update| matches!(update, Update::Reachable(_));
    assert!(!updates.iter().any(away), "{updates:?}");
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_stream_children_are_watched_by_listing() {
    let stage = Stage::stand_in(HELD).await;
    stage.lay_out("events", &events(b"42\n"));
    stage.switches().set_streams(Streams::Refused(403));
    stage.switches().drop_streams();
    let mut execution = stage.backend.start(request("print(6*7)")).await.unwrap();
    until_exists(&stage.path("began")).await;
    std::fs::write(stage.path("go"), "").unwrap();
    assert_eq!(events_of(&collect(&mut execution).await), events(b"42\n"));
    stage.backend.release(&execution.placement).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_counts_anew_is_asked_for_events_from_its_own_index_on() {
    let before = Nomad::stand_in(Options::default()).await;
    let restored = Nomad::stand_in(Options::default()).await;
    let proxy = Proxy::to(before.host_and_port()).await;
    // It has come far.
    let settings = JobSettings::own("0000000a", "/usr/local/bin/braindrill".into());
    let client = before.client();
    let job = client.parse_job(&settings.render(JobFile::Run)).await.unwrap();
    for _ in 0..200 {
        client.register(&job).await.unwrap();
    }
    let switches = before.as_stand_in().unwrap();
    switches.set_streams(Streams::Say("{}\n"));
    let _backend = NomadBackend::connect(settings_at(proxy.address()), CancellationToken::new())
        .await
        .unwrap();
    let streams = |nomad: &Nomad| {
        let asked = nomad.as_stand_in().unwrap().asked();
        let index = |asked: &String| {
            asked.strip_prefix("GET /v1/event/stream ").map(|index| index.parse::<u64>().unwrap())
        };
        asked.iter().filter_map(index).collect::<Vec<_>>()
    };
    until("streams are asked for", async || streams(&before).len() > 2).await;

    // No listing fails: those of which the connection breaks are asked once more.
    proxy.turn_to(restored.host_and_port());
    before.kill().await;
    until("a stream is asked for", async || !streams(&restored).is_empty()).await;
    let now = restored.client().jobs("").await.unwrap().index;
    let indexes = streams(&restored);
    assert!(indexes.iter().all(|index| *index <= now), "{indexes:?}, and it has come to {now}");
}
