//! Whether Nomad can be asked, told to whoever waits for an attempt.

use tokio::sync::{mpsc, watch};

use crate::backend::Update;

/// Says when Nomad cannot be asked, and when it can again. Returns when nobody listens.
pub(super) async fn tell(
    mut reach: watch::Receiver<Option<String>>,
    updates: mpsc::Sender<Update>,
) {
    let mut away = false;
    loop {
        let now = reach.borrow_and_update().is_some();
        if now != away {
            away = now;
            if updates.send(Update::Reachable(!away)).await.is_err() {
                return;
            }
        }
        if reach.changed().await.is_err() {
            // The board is gone, and with it the watcher.
            return std::future::pending().await;
        }
    }
}
