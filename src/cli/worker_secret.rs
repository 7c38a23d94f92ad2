//! The secret that daemon and workers share: from a file, or from a variable.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::worker::WorkerSecret;

/// Holds the secret itself, where no file is named.
const VARIABLE: &str = "BRAINDRILL_WORKER_SECRET";

/// The secret in this file, else that in the environment.
///
/// # Errors
/// There is none, or it is none.
pub(super) fn find(file: Option<&Path>) -> anyhow::Result<WorkerSecret> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the workers' secret from {}", path.display()))?,
        None => match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => text,
            _ => bail!(
                "warm workers share a secret with their daemons: put 16 characters or more into a file and \
                 name it by --worker-secret-file, or into the variable {VARIABLE}, of both. As in: \
                 head -c 24 /dev/urandom | base64"
            ),
        },
    };
    Ok(WorkerSecret::new(&text)?)
}
