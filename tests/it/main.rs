//! Integration tests, one binary: what needs several parts at once, or the real executable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod sandbox;
mod support;
