//! The client of Consul against a real Consul.

mod access;
mod odd;
mod registration;
mod watches;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use braindrill::consul::{Background, Check, CheckKind, Client, ServiceDefinition};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long anything may take here. Shorter than the wait of a blocking query, which is 40 s at
/// least: what comes in time was told by Consul, not found out when the wait was over.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where tasks of a test run.
struct Backstage {
    tasks: TaskTracker,
    stopping: CancellationToken,
    background: Background,
}

impl Backstage {
    fn new() -> Backstage {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let background = Background::new(tasks.clone(), stopping.clone(), "a test");
        Backstage { tasks, stopping, background }
    }

    /// Ends all tasks and waits for them.
    async fn end(&self) {
        self.stopping.cancel();
        self.tasks.close();
        tokio::time::timeout(DEADLINE, self.tasks.wait()).await.expect("all tasks end");
    }
}

/// Waits until the value is such.
async fn until<T: Clone + Debug>(
    watched: &mut watch::Receiver<T>,
    what: &str,
    holds: impl FnMut(&T) -> bool,
) -> T {
    let reached = tokio::time::timeout(DEADLINE, watched.wait_for(holds)).await;
    let reached = reached.map(|value| value.expect("the task goes on").clone());
    reached.unwrap_or_else(|_| panic!("not {what} in time, but {:?}", watched.borrow()))
}

/// Asks until the answer is such.
async fn poll<T: Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> T {
    let begun = std::time::Instant::now();
    loop {
        let answer = ask().await;
        if holds(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < DEADLINE, "not {what} in time, but {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A service that says itself that it is well.
fn with_ttl(id: &str, tag: &str, ttl: Duration) -> ServiceDefinition {
    ServiceDefinition {
        id: id.to_owned(),
        name: "braindrill-worker".to_owned(),
        address: "127.0.0.1".to_owned(),
        port: 7311,
        tags: vec![tag.to_owned()],
        meta: BTreeMap::from([("slots".to_owned(), "4".to_owned())]),
        check: Check { kind: CheckKind::Ttl { ttl }, deregister_after: Duration::from_secs(60) },
    }
}

/// A service that is well for the next ten minutes.
async fn enter(client: &Client, id: &str, tag: &str) {
    let service = with_ttl(id, tag, Duration::from_secs(600));
    client.register(&service).await.unwrap();
    client.pass_check(&service.check_id(), "fine").await.unwrap();
}
