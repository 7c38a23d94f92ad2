//! What Consul says now, kept up to date by blocking queries.
//!
//! The last known answer stays while Consul is away: services mostly outlive it, and one that did
//! not shows by itself when it is asked. But an answer is taken whatever it is, an empty one too,
//! and also after a full one: Consul answers from what its leader has agreed on, and without a
//! leader it answers with an error. So empty means that the services are gone or unwell, and to
//! hold on to them would send work to where nobody is, with nothing that ever ends it. What to make of
//! an empty list is the caller's: `cli/discovery.rs` goes on asking the last servers.

use std::{future::Future, time::Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Background, Blocking, Client, ConsulError, Indexed, Instance,
    pace::{next_index, pause},
};

/// What is known of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyState {
    /// Consul has not answered yet.
    #[default]
    Unread,
    /// There is no such key.
    Absent,
    /// The key has this value.
    Value(Bytes),
}

/// The healthy instances of a service from now on; `None` until Consul answers first. See
/// [`Client::healthy_instances`] for what they are and why there may be none. The receiver is
/// told of changes to instances, not of checks that only say something else.
///
/// Ends when all receivers are dropped, or with the background; the last value stays readable.
pub fn watch_service(
    client: Client,
    service: &str,
    tag: Option<&str>,
    background: &Background,
) -> watch::Receiver<Option<Vec<Instance>>> {
    let subject = match tag {
        Some(tag) => format!("service {service} with tag {tag}"),
        None => format!("service {service}"),
    };
    let (service, tag) = (service.to_owned(), tag.map(str::to_owned));
    start(background, subject, Some, move |after| {
        let (client, service, tag) = (client.clone(), service.clone(), tag.clone());
        async move { client.healthy_instances(&service, tag.as_deref(), after).await }
    })
}

/// The value of a key from now on. Ends as [`watch_service`] does.
pub fn watch_key(client: Client, key: &str, background: &Background) -> watch::Receiver<KeyState> {
    let (subject, key) = (format!("key {key}"), key.to_owned());
    let known = |value: Option<Bytes>| value.map_or(KeyState::Absent, KeyState::Value);
    start(background, subject, known, move |after| {
        let (client, key) = (client.clone(), key.clone());
        async move { client.get_key(&key, after).await }
    })
}

fn start<T, K, Asking>(
    background: &Background,
    subject: String,
    known: impl Fn(T) -> K + Send + Sync + 'static,
    ask: impl Fn(Option<Blocking>) -> Asking + Send + Sync + 'static,
) -> watch::Receiver<K>
where
    T: Send + 'static,
    K: Default + PartialEq + Send + Sync + 'static,
    Asking: Future<Output = Result<Indexed<T>, ConsulError>> + Send,
{
    let (sender, receiver) = watch::channel(K::default());
    let shared = background.clone();
    background.spawn(async move {
        let publish = |value: T| {
            let value = known(value);
            sender.send_if_modified(|last| {
                let changed = *last != value;
                *last = value;
                changed
            });
        };
        tokio::select! {
            () = shared.stopping().cancelled() => {}
            () = sender.closed() => {}
            () = follow(&shared, &subject, ask, publish) => {}
        }
        shared.forget(&subject);
    });
    receiver
}

/// Asks again and again.
async fn follow<T, Asking>(
    background: &Background,
    subject: &str,
    ask: impl Fn(Option<Blocking>) -> Asking,
    publish: impl Fn(T),
) where
    Asking: Future<Output = Result<Indexed<T>, ConsulError>>,
{
    let jitter = background.jitter(subject);
    let (mut index, mut failures) = (0, 0);
    for count in 0.. {
        let begun = Instant::now();
        let after = (index > 0).then(|| Blocking { index, wait: jitter.wait(count) });
        let rest = match ask(after).await {
            Ok(answer) => {
                background.succeeded(subject);
                publish(answer.value);
                index = next_index(index, answer.index);
                failures = 0;
                pause(begun.elapsed())
            }
            Err(error) => {
                background.failed(subject, &error);
                // Whoever answers next may count from elsewhere, and is to answer at once.
                index = 0;
                failures += 1;
                jitter.backoff(failures - 1)
            }
        };
        tokio::time::sleep(rest).await;
    }
}
