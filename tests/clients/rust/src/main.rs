//! The story that every generated client is tested with: story http://127.0.0.1:8080
//!
//! docs/clients.md shows parts of it.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use braindrill_client::{
    apis::{Error, configuration::Configuration, service_api, submissions_api},
    models::{
        BatchItem, BatchRequest, BatchResult, Problem, State, Submission, SubmissionRequest,
        Verdict,
    },
};

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).expect("an address");
    let client = Configuration { base_path: address, ..Configuration::default() };

    // List the languages.
    let languages = service_api::list_languages(&client).await?.items;
    let python = languages.iter().find(|language| language.id == "python");
    assert!(python.is_some_and(|python| python.available), "python is available");

    // Submit, and wait for the end.
    let mut request = SubmissionRequest::new("python".to_owned());
    request.source = Some("print(6*7)".to_owned());
    let submission =
        submissions_api::create_submission(&client, request.clone(), None, Some(30), None).await?;
    assert_eq!(submission.state, State::Finished);
    let outcome = submission.outcome.expect("an outcome");
    assert_eq!(outcome.verdict, Verdict::Accepted);
    assert_eq!(outcome.runs[0].stdout.data, "42\n");

    // Send a batch; one item is refused.
    let programs = [("python", "print(1)"), ("python", "exit(3)"), ("no-such-language", "")];
    let items = programs.map(|(language, source)| BatchItem {
        source: Some(source.to_owned()),
        ..BatchItem::new(language.to_owned())
    });
    let batch = BatchRequest::new(items.to_vec());
    let results = submissions_api::create_submission_batch(&client, batch).await?.items;
    let [BatchResult::Submission(first), BatchResult::Submission(second), third] = &results[..]
    else {
        panic!("two are taken: {results:?}")
    };
    assert!(matches!(third, BatchResult::Problem(problem) if problem.status == 422), "{third:?}");

    // Ask until they are finished.
    let first = finished(&client, &first.id).await?;
    let second = finished(&client, &second.id).await?;
    assert_eq!(first.outcome.expect("an outcome").verdict, Verdict::Accepted);
    assert_eq!(second.outcome.expect("an outcome").verdict, Verdict::RuntimeError);

    // Read the list, two at a time.
    let (mut seen, mut cursor) = (HashSet::new(), None);
    loop {
        let (limit, from) = (Some(2), cursor.as_deref());
        let page =
            submissions_api::list_submissions(&client, None, None, None, limit, from).await?;
        for one in page.items {
            assert!(seen.insert(one.id), "none is listed twice");
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert!([submission.id, first.id, second.id].iter().all(|id| seen.contains(id)), "{seen:?}");

    // Cancel.
    request.source = Some("import time; time.sleep(8)".to_owned());
    let sleeper =
        submissions_api::create_submission(&client, request.clone(), None, None, None).await?;
    let cancelled = submissions_api::cancel_submission(&client, &sleeper.id.to_string()).await?;
    assert_eq!(cancelled.outcome.expect("an outcome").verdict, Verdict::Cancelled);

    // Problems.
    request.language = "no-such-language".to_owned();
    let refused = submissions_api::create_submission(&client, request, None, None, None).await;
    let problem = problem(refused.expect_err("an unknown language is refused"))?;
    assert_eq!(problem.r#type, "urn:braindrill:problem:invalid-request");
    assert_eq!(problem.errors.expect("errors")[0].field, "language");
    let nobody = "00000000-0000-0000-0000-000000000000";
    let missing = submissions_api::get_submission(&client, nobody, None, None).await;
    let missing = self::problem(missing.expect_err("an unknown submission is not found"))?;
    assert_eq!(missing.status, 404);
    Ok(())
}

/// Asks until it is finished.
async fn finished(client: &Configuration, id: &impl ToString) -> Result<Submission, Failure> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let submission = submissions_api::get_submission(client, &id.to_string(), None, None).await?;
        if submission.state == State::Finished {
            return Ok(submission);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("it does not finish".into())
}

/// The problem of a call that was refused: its text, since the client's types for it are the same for
/// all statuses.
fn problem<T>(error: Error<T>) -> Result<Problem, Failure> {
    match error {
        Error::ResponseError(response) => Ok(serde_json::from_str(&response.content)?),
        _ => Err("no answer".into()),
    }
}
