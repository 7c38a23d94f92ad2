//! A terminal that is typed on: how soon a key is echoed.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::{daemon::Daemon, live::push_delays, table::Table};

/// Keys that are typed, one after the other's echo.
const KEYS: usize = 200;

/// Between two of them: a fast typist's pace is slower.
const PAUSE: Duration = Duration::from_millis(20);

/// Adds how long keys take to be shown.
pub(crate) async fn echo(daemon: &Daemon, place: &str, table: &mut Table) -> Result<()> {
    let request = json!({ "language": "bash", "source": "cat", "interactive": true, "tty": true });
    let id = daemon.accept(&request).await?;
    let mut socket = daemon.attach(&id).await?;
    let mut delays = Vec::with_capacity(KEYS);
    for key in 0..KEYS {
        let begun = Instant::now();
        let letter = [b'a' + (key % 26) as u8];
        socket.send(Message::binary(letter.to_vec())).await?;
        loop {
            let message = socket.next().await.context("it ended")??;
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text)?;
            if event["data"].as_str().is_some_and(|data| data.as_bytes() == letter) {
                break;
            }
        }
        // The first waits for the program to begin.
        if key > 0 {
            delays.push(begun.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    push_delays(table, &format!("from a key to its echo on a terminal, {place}"), delays);
    Ok(())
}
