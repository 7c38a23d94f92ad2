//! The stream of events: the same for a real Nomad and for the stand-in.

use std::{collections::BTreeSet, time::Duration};

use reqwest::Response;

use super::{bench::*, shape::Shape, transcript::Transcript, *};

/// How long is long enough to say that nothing comes.
const SILENCE: Duration = Duration::from_secs(1);

async fn open(bench: &Bench, query: &str) -> Response {
    let url = format!("{}/v1/event/stream?{query}", bench.nomad.address());
    let answer = tokio::time::timeout(DEADLINE, bench.client.get(url).send()).await;
    let answer = answer.expect("there is an event").unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-cache");
    answer
}

/// Reads lines until this holds for their events.
async fn until(stream: &mut Response, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    while !holds(&events) {
        let chunk = tokio::time::timeout(DEADLINE, stream.chunk()).await;
        bytes.extend(chunk.unwrap_or_else(|_| panic!("only {events:?}")).unwrap().unwrap());
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let line: Value = serde_json::from_slice(&line).unwrap();
            events.extend(line["Events"].as_array().into_iter().flatten().cloned());
        }
    }
    events
}

/// Whether there is one of an allocation of this job that is over.
fn has_end_of(events: &[Value], job: &str) -> bool {
    events.iter().any(|event| {
        event["FilterKeys"][0] == job
            && event["Payload"]["Allocation"]["ClientStatus"] == "complete"
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_shaped_as_recorded_and_told_in_order() {
    let bench = Bench::own(Options::default()).await;
    let job = serde_json::from_slice(&transcript::request("jobp.json")).unwrap();
    bench.ask(Method::PUT, "/v1/jobs", Some(job)).await;
    let meta = json!({ "Meta": { "LANG_ID": "sh", "SLEEP": "0", "EXIT": "0" }, "Payload": "AA==" });
    let made = bench.ask(Method::PUT, "/v1/job/runner/dispatch", Some(meta)).await;
    let child = subject(&made).job;
    let mut stream = open(&bench, "topic=Job&topic=Allocation&topic=Evaluation&index=0").await;
    let live = until(&mut stream, |events| has_end_of(events, &child)).await;

    let recorded = Transcript::read("15e-event-stream-live-one-dispatch").answer.unwrap();
    let recorded: Vec<Value> = String::from_utf8(recorded.body)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|line| line["Events"].as_array().cloned().unwrap_or_default())
        .collect();
    for topic in ["Job", "Allocation", "Evaluation"] {
        let of = |events: &[Value]| {
            let of = events.iter().filter(|event| event["Topic"] == topic);
            // A job to dispatch from was registered here, and was not when it was recorded; nor
            // was an allocation told of in the middle.
            let of = of.filter(|event| {
                let allocation = &event["Payload"]["Allocation"];
                event["Payload"]["Job"]["ParentID"] != ""
                    && (allocation["TaskStates"].is_null()
                        || allocation["ClientStatus"] == "complete")
            });
            Shape::of_all(&of.cloned().collect::<Vec<_>>())
        };
        let found = of(&recorded).differences(&of(&live), topic);
        assert!(found.is_empty(), "{found:?}");
    }
    let own = live
        .iter()
        .filter(|event| event["Key"] == child.as_str() || event["FilterKeys"][0] == child.as_str());
    let told: Vec<_> = own.map(|event| (event["Topic"].as_str(), event["Type"].as_str())).collect();
    let wanted = [
        (Some("Job"), Some("JobRegistered")),
        (Some("Evaluation"), Some("EvaluationUpdated")),
        (Some("Evaluation"), Some("PlanResult")),
        (Some("Allocation"), Some("PlanResult")),
        (Some("Job"), Some("PlanResult")),
        (Some("Evaluation"), Some("EvaluationUpdated")),
    ];
    assert_eq!(told[..6], wanted, "{told:?}");
    assert_eq!(told.last(), Some(&(Some("Job"), Some("AllocationUpdated"))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_with_what_is_kept_or_with_the_last_event() {
    let bench = Bench::own(Options::default()).await;
    let child = bench.run("kept", "true").await;
    bench.until_status(&child, "complete").await;

    let mut stream = open(&bench, "topic=Allocation").await;
    let all = until(&mut stream, |events| has_end_of(events, &child)).await;
    let indexes: BTreeSet<_> = all.iter().map(|event| event["Index"].as_u64()).collect();
    assert!(indexes.len() > 1, "{indexes:?}");
    let mut stream = open(&bench, "topic=Allocation&index=999999999").await;
    let last = until(&mut stream, |events| !events.is_empty()).await;
    let last: BTreeSet<_> = last.iter().map(|event| event["Index"].as_u64()).collect();
    assert_eq!(last.into_iter().collect::<Vec<_>>(), [*indexes.last().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_the_first_event_that_is_meant() {
    let bench = Bench::own(Options::default()).await;
    // The parent's id is the key of no allocation.
    let child = bench.run("parent", "true").await;
    bench.until_status(&child, "complete").await;
    let of_parent = open(&bench, "topic=Allocation:parent");
    assert!(tokio::time::timeout(SILENCE, of_parent).await.is_err());
    let of_child = format!("topic=Allocation:{child}");
    until(&mut open(&bench, &of_child).await, |events| has_end_of(events, &child)).await;
}
