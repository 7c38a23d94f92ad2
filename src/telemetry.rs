//! Logs: text on a terminal, JSON elsewhere, always on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    EnvFilter, filter::ParseError, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// What is logged unless `--log` or `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,braindrill=info";

/// Begins to log, for the whole process. `filter` is that of `--log`.
///
/// # Errors
/// The filter cannot be read.
pub fn install(filter: Option<&str>) -> Result<(), ParseError> {
    let of_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = filter.or(of_environment.as_deref()).unwrap_or(DEFAULT_FILTER);
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?);
    if std::io::stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).init();
    } else {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true);
        registry.with(json.with_writer(std::io::stderr)).init();
    }
    Ok(())
}
