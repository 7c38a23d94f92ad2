//! The buffer of events, and those who read it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::watch;

/// How many batches are kept: Nomad's default.
const CAPACITY: usize = 100;

/// What happened under one index.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) index: u64,
    pub(super) events: Vec<Value>,
}

/// In memory alone: a server that was started again has none.
#[derive(Debug)]
pub(super) struct Broker {
    buffer: Mutex<Buffer>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Buffer {
    batches: VecDeque<Batch>,
    /// The number of the first batch that is kept.
    first: u64,
    /// Moved by dropping all readers.
    epoch: u64,
}

/// One reader's place.
#[derive(Debug)]
pub(super) struct Subscription {
    filter: Filter,
    next: u64,
    epoch: u64,
    changed: watch::Receiver<()>,
}

/// The reader was too slow, or was dropped.
#[derive(Debug)]
pub(super) struct Dropped;

impl Broker {
    pub(super) fn new() -> Broker {
        Broker { buffer: Mutex::default(), changed: watch::channel(()).0 }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Buffer) -> T) -> T {
        act(&mut self.buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, batch: Batch) {
        self.with(|buffer| {
            buffer.batches.push_back(batch);
            if buffer.batches.len() > CAPACITY {
                buffer.batches.pop_front();
                buffer.first += 1;
            }
        });
        self.changed.send_replace(());
    }

    /// Ends all that are subscribed.
    pub(super) fn drop_all(&self) {
        self.with(|buffer| buffer.epoch += 1);
        self.changed.send_replace(());
    }

    /// As after a start of the server.
    pub(super) fn forget(&self) {
        self.with(|buffer| {
            buffer.first += buffer.batches.len() as u64;
            buffer.batches.clear();
            buffer.epoch += 1;
        });
    }

    /// From the first batch of this index or a later one; from the last one where there is none;
    /// with 0 all that is kept.
    pub(super) fn subscribe(&self, index: u64, filter: Filter) -> Subscription {
        let changed = self.changed.subscribe();
        self.with(|buffer| {
            let closest = buffer.batches.iter().position(|batch| batch.index >= index);
            let offset = closest.unwrap_or(buffer.batches.len().saturating_sub(1)) as u64;
            Subscription { filter, next: buffer.first + offset, epoch: buffer.epoch, changed }
        })
    }

    /// The next batch with something in it for this reader, as a line.
    pub(super) async fn next(&self, reader: &mut Subscription) -> Result<String, Dropped> {
        loop {
            reader.changed.borrow_and_update();
            let batch = self.with(|buffer| {
                if buffer.epoch != reader.epoch || reader.next < buffer.first {
                    return Err(Dropped);
                }
                let offset = usize::try_from(reader.next - buffer.first).expect("it is small");
                Ok(buffer.batches.get(offset).cloned())
            })?;
            let Some(Batch { index, mut events }) = batch else {
                reader.changed.changed().await.map_err(|_| Dropped)?;
                continue;
            };
            reader.next += 1;
            events.retain(|event| reader.filter.takes(event));
            if !events.is_empty() {
                return Ok(json!({ "Events": events, "Index": index }).to_string() + "\n");
            }
        }
    }
}

/// Topics with keys; all when there are none.
#[derive(Debug, Default)]
pub(super) struct Filter(Vec<(String, String)>);

impl Filter {
    /// From `Topic` or `Topic:key` each.
    pub(super) fn new<'a>(topics: impl Iterator<Item = &'a str>) -> Filter {
        let split = |topic: &str| {
            let (topic, key) = topic.split_once(':').unwrap_or((topic, "*"));
            (topic.to_owned(), key.to_owned())
        };
        Filter(topics.map(split).collect())
    }

    /// The key of an allocation's filter is the id of its own job: one for a parent never takes
    /// those of its children.
    fn takes(&self, event: &Value) -> bool {
        let has = |key: &str| {
            let keys = event["FilterKeys"].as_array().into_iter().flatten();
            key == "*" || event["Key"] == key || keys.into_iter().any(|each| *each == key)
        };
        self.0.is_empty()
            || self
                .0
                .iter()
                .any(|(topic, key)| (topic == "*" || event["Topic"] == topic.as_str()) && has(key))
    }
}
