//! What Nomad does over time, which no single exchange shows: the same for a real one and for the
//! stand-in.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{bench::*, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_finds_folders_payload_and_meta() {
    let bench = Bench::shared().await;
    let script = "cat local/request; echo $NOMAD_META_A_KEY $NOMAD_META_a_key; \
                  for dir in $NOMAD_ALLOC_DIR/data $NOMAD_ALLOC_DIR/logs $NOMAD_SECRETS_DIR; do \
                  test -d $dir || echo no $dir; done; \
                  test $PWD/local = $NOMAD_TASK_DIR && echo $NOMAD_ALLOC_ID $NOMAD_JOB_ID; exit 3";
    let child = bench.run("finds", script).await;
    let ended = bench.until_status(&child, "failed").await;
    let wanted = format!("hello\nvalue value\n{} {child}\n", ended["ID"].as_str().unwrap());
    assert_eq!(bench.stdout(&ended).await, wanted);
    assert_eq!(event(&ended, "Terminated").unwrap()["ExitCode"], 3);
    assert!(bench.nomad.task_times("finds/").await[0].finished.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_task_leaves_running_is_killed() {
    let bench = Bench::shared().await;
    let child = bench.run("leaves", "sleep 1000 & echo $!; setsid sleep 1000 & echo $!").await;
    let ended = bench.until_status(&child, "complete").await;
    let left = bench.stdout(&ended).await;
    assert_eq!(left.lines().count(), 2);
    assert!(!left.lines().any(is_alive), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_task_gets_its_signal_alone_and_is_killed_after_its_time() {
    let bench = Bench::shared().await;
    // The shell waits for a program in the foreground, which gets no signal.
    let slow = bench.run("slow", "sleep 1000; echo never").await;
    let quick = bench.run("quick", "exec sleep 1000").await;
    for child in [&slow, &quick] {
        bench.until_status(child, "running").await;
        bench.ask(Method::DELETE, &format!("/v1/job/{child}?purge=true"), None).await;
        let (status, _) = bench.answer(Method::GET, &format!("/v1/job/{child}"), None).await;
        assert_eq!(status, 404);
    }
    for (child, code, signal) in [(&slow, 137, 9), (&quick, 130, 2)] {
        let ended = bench.until_status(child, "complete").await;
        assert_eq!(ended["DesiredStatus"], "stop");
        let terminated = event(&ended, "Terminated").unwrap();
        assert_eq!(
            (&terminated["ExitCode"], &terminated["Signal"]),
            (&json!(code), &json!(signal))
        );
        assert!(event(&ended, "Killed").is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_long_output_is_dropped_without_a_mark() {
    let bench = Bench::shared().await;
    let child = bench.run("long", "seq 500000").await;
    let ended = bench.until_status(&child, "complete").await;
    let output = bench.stdout(&ended).await;
    assert!(output.ends_with("\n499999\n500000\n"));
    assert!(output.len() > 1 << 20 && output.len() <= 2 << 20, "{}", output.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_is_asked_for_with_head_and_then_fetched() {
    let bench = Bench::shared().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (asked, mut seen) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let line = String::from_utf8_lossy(&head[..length]).lines().next().unwrap().to_owned();
            let body = if line.starts_with("GET") { "fetched\n" } else { "" };
            let status = if line.contains("/value") { "200 OK" } else { "404 Not Found" };
            let _ = asked.send(line);
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: 8\r\nConnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let artifact = |path: &str| {
        let source = format!("http://{address}/{path}?archive=false");
        json!({ "Artifacts": [{
            "GetterSource": source, "GetterMode": "file", "RelativeDest": "local/file",
        }] })
    };
    bench.register("fetches", "cat local/file", artifact("${NOMAD_META_a_key}")).await;
    let ended = bench.until_status(&bench.dispatch("fetches").await, "complete").await;
    assert_eq!(bench.stdout(&ended).await, "fetched\n");
    for method in ["HEAD", "GET"] {
        let line = seen.recv().await.unwrap();
        assert!(line.starts_with(&format!("{method} /value")), "{line}");
    }

    bench.register("misses", "cat local/file", artifact("other")).await;
    let ended = bench.until_status(&bench.dispatch("misses").await, "failed").await;
    let failure = event(&ended, "Failed Artifact Download").unwrap();
    let message = failure["DisplayMessage"].as_str().unwrap();
    assert!(message.contains("bad response code: 404"), "{message}");
    assert!(bench.stdout(&ended).await.contains("not started yet"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_waits_for_its_own_and_its_index_moves_with_the_others() {
    let bench = Bench::own(Options::default()).await;
    let child = bench.run("watched", "exec sleep 1000").await;
    bench.until_status(&child, "running").await;
    let ask = async |index: u64| {
        let url =
            format!("{}/v1/job/{child}/allocations?index={index}&wait=2s", bench.nomad.address());
        let begun = Instant::now();
        let answer = bench.client.get(url).send().await.unwrap();
        let index = answer.headers()["x-nomad-index"].to_str().unwrap().parse::<u64>().unwrap();
        (index, begun.elapsed())
    };
    let (before, _) = ask(0).await;
    let other = bench.run("other", "true").await;
    bench.until_status(&other, "complete").await;
    // That was newer than this index, though not of this job.
    let (after, waited) = ask(before).await;
    assert!(after > before && waited < Duration::from_secs(1), "{before} {after} {waited:?}");
    // Nothing is newer now, and what is another's does not end the wait.
    let (unmoved, waited) = ask(after).await;
    assert!(unmoved == after && waited >= Duration::from_secs(2), "{after} {unmoved} {waited:?}");
    let (woken, ()) = tokio::join!(ask(after), async {
        bench.ask(Method::DELETE, &format!("/v1/job/{child}"), None).await;
    });
    assert!(woken.0 > after && woken.1 < Duration::from_secs(2), "{woken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_were_closed_count_as_connections_and_more_are_refused() {
    const LIMIT: usize = 20;
    let bench = Bench::own(Options { connection_limit: LIMIT, ..Options::default() }).await;
    let Bench { nomad, client } = bench;
    // Its idle connections would count.
    drop(client);
    let address = nomad.host_and_port();
    let open = async |path: &str| {
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: nomad\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let answers = async || {
        let mut stream = open("/v1/status/leader").await?;
        match stream.read(&mut [0; 16]).await? {
            0 => Err(std::io::Error::from(ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    };
    let begun = Instant::now();
    while answers().await.is_err() {
        assert!(begun.elapsed() < DEADLINE);
    }
    // Until it stays full: places of connections that just ended are given back a little later.
    let (mut held, mut refusals) = (Vec::new(), 0);
    while refusals < 10 {
        held.push(open("/v1/nodes?index=1000000&wait=3s").await);
        if held.len() >= LIMIT {
            refusals = if answers().await.is_err() { refusals + 1 } else { 0 };
        }
    }
    let asked = Instant::now();
    drop(held);
    // Closed, and still there. A client sees a reset or an end, as it was read before or not.
    let refused = answers().await.unwrap_err().kind();
    assert!(
        matches!(refused, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
        "{refused:?}"
    );
    while answers().await.is_err() {
        assert!(asked.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(asked.elapsed() > Duration::from_millis(2_500), "{:?}", asked.elapsed());
}
