//! Integration tests, one binary: what needs several parts at once, or the real executable.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is the point")]

mod engine;
mod local;
mod programs;
mod runner;
mod sandbox;
