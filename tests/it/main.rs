//! The integration tests: one binary, a file for each part.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public items")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod nomad;
mod sandbox;
mod support;
