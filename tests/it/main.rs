//! Integration tests, one binary: what needs several parts at once, or the real executable.

mod openapi;
mod sandbox;
