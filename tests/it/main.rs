//! The integration tests, in one binary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod nomad;
mod support;
