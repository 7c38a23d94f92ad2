//! Warm workers: both ends of one exchange, and the slots of a machine.
//!
//! ```text
//!  client.rs (the daemon's pool)             server.rs (`braindrill worker`)
//!  POST /v1/executions   request line  ──>   a lease of a slot
//!                        event lines   <──     an empty line each second while nothing is said
//!  the connection ends                 ──>   the run is ended
//!  POST /v1/executions/{lease}/input   ──>   input lines of a program that is talked to; its input ends with them
//!  DELETE /v1/executions/{lease}       ──>   likewise; answered when nothing of it is left
//!  GET /v1/worker                      <──   facts
//! ```
//!
//! Not the public API: it changes with the protocol, so that both ends must be of one release. Each
//! request bears the secret that both share.

mod client;
mod exchange;
mod leases;
mod secret;
mod server;
mod slots;
mod threads;

pub use self::{
    client::{CallError, Leased, RunError, WorkerClient},
    exchange::{Facts, RELEASE, RefusalKind},
    secret::{SecretError, WorkerSecret},
    server::{WorkerServer, WorkerSettings},
    slots::{NoSlot, Run, Slots},
};
