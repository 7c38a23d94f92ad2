//! braindrill: runs code that other people wrote, in a sandbox, and answers with its output and a
//! verdict.
//!
//! One submission goes one straight line, and each step is one file:
//!
//! ```text
//!  POST /v1/submissions
//!  1  api/submissions.rs      decode, validate once
//!  2  dispatcher/handle.rs    submit(): insert, then wake
//!  3  store/insert.rs         insert()          state = queued         durable before the 201
//!  4  dispatcher/mod.rs       claim_next()      state = dispatching    fair, capped, by priority
//!  5  dispatcher/attempt.rs   backend.start(request) -> Execution { placement, events }
//!  6  backend/{local,nomad,pool}.rs             state = running
//!  7  runner/mod.rs           compile once, run each test, judge       the same code in all
//!     sandbox/mod.rs          one process under limits                 emits Events
//!  8  dispatcher/follow.rs    events -> store.append, publish -> Outcome
//!  9  store/finish.rs         finish()          state = finished
//! 10  dispatcher/waiters.rs   publish           ?wait, CLI
//! ```
//!
//! Dependencies go right or down only: `cli -> api -> dispatcher -> backend -> {worker, nomad} ->
//! runner -> sandbox -> protocol -> {submission, language}`, and `api` and `dispatcher -> store`. `nomad` and
//! `consul` know nothing of submissions, only `tls`; the command line makes the latter, since it is
//! what says where the former is.

pub mod api;
pub mod backend;
pub mod cli;
pub mod config;
pub mod connections;
pub mod consul;
pub mod dispatcher;
pub mod error_chain;
pub mod language;
pub mod lifecycle;
pub mod metrics;
pub mod nomad;
pub mod protocol;
pub mod runner;
pub mod sandbox;
pub mod store;
pub mod submission;
pub mod telemetry;
pub mod tls;
pub mod worker;
