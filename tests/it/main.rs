//! The integration tests: one binary, a file for each part.

#![allow(unreachable_pub, missing_docs, reason = "a test binary has no public items")]

mod local;
mod openapi;
mod programs;
mod runner;
mod sandbox;
