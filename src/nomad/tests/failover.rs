//! Which server is asked, and when another is.

use tokio::sync::watch;

use super::*;

#[tokio::test]
async fn a_server_that_refuses_connections_is_passed_over_and_the_next_one_preferred() {
    let server = Server::always(EMPTY).await;
    let nobody = Closed::new();
    let client = client(vec![nobody.url(), server.url()]);
    client.nodes().await.unwrap();
    assert_eq!(client.servers().in_order()[0], server.url());
    client.clone().nodes().await.unwrap();
    assert_eq!(server.requests(), ["GET /v1/nodes", "GET /v1/nodes"]);
}

#[tokio::test]
async fn a_server_without_a_leader_is_passed_over_even_by_a_dispatch() {
    let (lonely, server) = (Server::always(NO_LEADER).await, Server::always(CHILD).await);
    let client = client(vec![lonely.url(), server.url()]);
    assert_eq!(dispatch(&client, None).await.unwrap().job_id, "run/dispatch-1");
    dispatch(&client, None).await.unwrap();
    assert_eq!((lonely.requests().len(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn when_no_server_has_a_leader_each_is_asked_once() {
    let (one, two) = (Server::always(NO_LEADER).await, Server::always(NO_LEADER).await);
    let client = client(vec![one.url(), two.url()]);
    let error = dispatch(&client, None).await.unwrap_err();
    assert_eq!(error.problem(), Some(Problem::NoLeader));
    assert!(error.nothing_was_done());
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_refusal_is_not_asked_elsewhere() {
    let refusing = Server::always(Act::Answer(403, "Permission denied")).await;
    let other = Server::always(EMPTY).await;
    let client = client(vec![refusing.url(), other.url()]);
    assert_eq!(client.nodes().await.unwrap_err().problem(), Some(Problem::Forbidden));
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn what_may_be_asked_twice_is_asked_elsewhere_when_its_answer_is_lost() {
    for cut in [Act::Cut, Act::CutBody] {
        let (broken, server) = (Server::always(cut).await, Server::always(EMPTY).await);
        let fresh = || client(vec![broken.url(), server.url()]);
        fresh().nodes().await.unwrap();
        fresh().register(&serde_json::json!({})).await.unwrap();
        let again = ["GET /v1/nodes", "PUT /v1/jobs"];
        assert_eq!(
            (broken.requests(), server.requests()),
            (again.map(str::to_owned).into(), again.map(str::to_owned).into())
        );
    }
}

#[tokio::test]
async fn a_purge_is_asked_again() {
    let evaluation = r#"{"EvalID":"e"}"#;
    let server = Server::start(
        move |_, number| {
            if number == 0 { Act::Cut } else { Act::Answer(200, evaluation) }
        },
    )
    .await;
    assert_eq!(client(vec![server.url()]).purge("a").await.unwrap().as_deref(), Some("e"));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_dispatch_whose_answer_is_lost_is_left_to_the_caller() {
    for cut in [Act::Cut, Act::CutBody] {
        let (broken, server) = (Server::always(cut).await, Server::always(CHILD).await);
        let client = client(vec![broken.url(), server.url()]);
        let error = dispatch(&client, None).await.unwrap_err();
        assert!(matches!(error, NomadError::Interrupted(_)) && !error.nothing_was_done());
        assert_eq!((broken.requests().len(), server.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn resets_and_refused_places_are_tried_again_a_few_times() {
    let too_many = Act::Answer(429, "Your IP is issuing too many concurrent connections");
    for act in [Act::Cut, too_many] {
        let busy = Server::start(move |_, number| if number < 2 { act } else { EMPTY }).await;
        client(vec![busy.url()]).nodes().await.unwrap();
        assert_eq!(busy.requests().len(), 3);
        let full = Server::always(act).await;
        client(vec![full.url()]).nodes().await.unwrap_err();
        assert_eq!(full.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_dispatch_that_found_no_place_is_tried_again() {
    let act = |_: &str, number| if number == 0 { Act::Answer(429, "") } else { CHILD };
    let busy = Server::start(act).await;
    dispatch(&client(vec![busy.url()]), None).await.unwrap();
    assert_eq!(busy.requests().len(), 2);
}

#[tokio::test]
async fn a_list_that_changes_is_followed_while_in_use() {
    let (first, second) = (Server::always(EMPTY).await, Server::always(EMPTY).await);
    let (list, watched) = watch::channel(Vec::new());
    let client = Client::new(&ClientSettings::default(), Servers::watched(watched)).unwrap();
    let error = client.nodes().await.unwrap_err();
    assert_eq!(error.to_string(), "no Nomad server is known");
    assert!(error.nothing_was_done());
    list.send_replace(vec![first.url()]);
    client.nodes().await.unwrap();
    list.send_replace(vec![second.url()]);
    client.nodes().await.unwrap();
    list.send_replace(vec![second.url(), first.url()]);
    client.nodes().await.unwrap();
    assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
}

#[tokio::test]
async fn one_agent_can_be_asked_alone() {
    let (server, node) = (Server::always(EMPTY).await, Server::always(EMPTY).await);
    let client = client(vec![server.url()]);
    client.at(node.url()).nodes().await.unwrap();
    assert_eq!((server.requests().len(), node.requests().len()), (0, 1));
    let nobody = Closed::new();
    let error = client.at(nobody.url()).nodes().await.unwrap_err();
    assert!(matches!(error, NomadError::Unreachable(_)));
    assert_eq!(client.servers().in_order(), [server.url()]);
}

#[tokio::test]
async fn a_reset_in_a_handshake_is_tried_again_whatever_is_asked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut accepting = tokio::task::JoinSet::new();
    let (count, counted) = watch::channel(0);
    accepting.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_zero_linger().unwrap();
            count.send_modify(|count| *count += 1);
        }
    });
    let error = dispatch(&client(addresses(&url).unwrap()), None).await.unwrap_err();
    assert!(error.nothing_was_done(), "{error:?}");
    assert_eq!(*counted.borrow(), 3, "{error:?}");
}

#[tokio::test]
async fn no_error_shows_a_secret() {
    let settings = ClientSettings {
        token: Some("secret-id".to_owned()),
        http_auth: Some("me:secret-too".to_owned()),
        ..ClientSettings::default()
    };
    let acts = [Act::Cut, Act::CutBody, Act::Answer(500, "oops"), Act::Answer(200, "nonsense")];
    for act in acts {
        let server = Server::always(act).await;
        let nobody = Closed::new();
        let urls = vec![nobody.url(), server.url()];
        let client = Client::new(&settings, Servers::fixed(urls)).unwrap();
        let error = client.nodes().await.unwrap_err();
        let shown = format!("{error:?} {error}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[tokio::test]
async fn a_token_is_not_taken_elsewhere() {
    let redirect = "HTTP/1.1 307 S\r\nLocation: ";
    let other = Server::always(EMPTY).await;
    let location = format!("{redirect}{}v1/nodes\r\nContent-Length: 0\r\n\r\n", other.url());
    let server = Server::always(Act::Raw(location.leak())).await;
    let error = client(vec![server.url()]).nodes().await.unwrap_err();
    assert!(matches!(error, NomadError::Answered { status: 307, .. }), "{error:?}");
    assert!(other.requests().is_empty());
}
