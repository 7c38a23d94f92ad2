//! Tests that this machine cannot run: said aloud and counted, never passed over in silence.

use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that the calling test is skipped, and why; even where the test runner captures output.
pub(crate) fn skip(why: &str) {
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why} ({count} skipped so far)");
}
