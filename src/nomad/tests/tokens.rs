//! Dispatches with an idempotency token.

use super::*;

const OLD: &str = include_str!("../../../tests/data/nomad-1.1.0/agent-members.json");
const NEW: &str = r#"{"Members":[{"Status":"alive","Tags":{"region":"global","build":"1.4.0"}}],
    "ServerRegion":"global"}"#;

/// A server with these members, that does this to the dispatch of each number.
async fn server(
    members: &'static str,
    act: impl Fn(usize) -> Act + Clone + Send + Sync + 'static,
) -> Server {
    Server::start(move |line, number| {
        if line.starts_with("GET /v1/agent/members") {
            return Act::Answer(200, members);
        }
        act(number - 1)
    })
    .await
}

fn dispatches(server: &Server) -> Vec<String> {
    server.requests().into_iter().filter(|line| line.starts_with("POST")).collect()
}

const LINE: &str = "POST /v1/job/run/dispatch?idempotency_token=attempt-1";

#[tokio::test]
async fn a_dispatch_whose_answer_is_lost_is_repeated_with_its_token() {
    for cut in [Act::Cut, Act::CutBody] {
        let server = server(NEW, move |number| if number < 2 { cut } else { CHILD }).await;
        let child = dispatch(&client(vec![server.url()]), Some("attempt-1")).await.unwrap();
        assert_eq!(child.job_id, "run/dispatch-1");
        assert_eq!(dispatches(&server), [LINE; 3]);
    }
}

#[tokio::test]
async fn a_child_that_was_there_before_has_no_evaluation_in_the_answer() {
    let answer = Act::Answer(200, r#"{"DispatchedJobID":"run/dispatch-1","Index":7}"#);
    let server = server(NEW, move |number| if number == 0 { Act::Cut } else { answer }).await;
    let child = dispatch(&client(vec![server.url()]), Some("attempt-1")).await.unwrap();
    assert_eq!((child.job_id.as_str(), child.evaluation_id.as_str()), ("run/dispatch-1", ""));
}

#[tokio::test]
async fn only_an_ambiguous_error_is_left_after_three_tries() {
    let server = server(NEW, |_| Act::Cut).await;
    let error = dispatch(&client(vec![server.url()]), Some("attempt-1")).await.unwrap_err();
    assert!(matches!(error, NomadError::Interrupted(_)), "{error:?}");
    assert_eq!(dispatches(&server).len(), 3);
}

#[tokio::test]
async fn a_later_refusal_does_not_hide_that_an_answer_was_lost() {
    for later in [NO_LEADER, Act::Answer(500, "parameterized job not found")] {
        let server = server(NEW, move |number| if number == 0 { Act::Cut } else { later }).await;
        let error = dispatch(&client(vec![server.url()]), Some("attempt-1")).await.unwrap_err();
        assert!(!error.nothing_was_done(), "{error:?}");
        assert_eq!(dispatches(&server).len(), 2);
    }
}

#[tokio::test]
async fn servers_that_ignore_tokens_are_not_asked_twice() {
    for members in [OLD, r#"{"Members":[]}"#, "nonsense"] {
        let server = server(members, |_| Act::Cut).await;
        let error = dispatch(&client(vec![server.url()]), Some("attempt-1")).await.unwrap_err();
        assert!(!error.nothing_was_done(), "{error:?}");
        assert_eq!(dispatches(&server), [LINE]);
    }
}

#[tokio::test]
async fn versions_are_asked_for_once() {
    let server = server(NEW, |_| CHILD).await;
    let client = client(vec![server.url()]);
    let tries = (0..20).map(|_| dispatch(&client, Some("attempt-1")));
    for child in futures_util::future::join_all(tries).await {
        child.unwrap();
    }
    assert!(client.at(server.url()).honours_idempotency_tokens().await);
    let asked = server.requests().len() - dispatches(&server).len();
    assert_eq!((asked, dispatches(&server).len()), (1, 20));
}

#[tokio::test]
async fn a_token_that_may_not_list_servers_does_without() {
    let denied = Server::always(Act::Answer(403, "Permission denied")).await;
    let client = client(vec![denied.url()]);
    assert!(!client.honours_idempotency_tokens().await);
    assert!(!client.honours_idempotency_tokens().await);
    assert_eq!(denied.requests(), ["GET /v1/agent/members"]);
}
