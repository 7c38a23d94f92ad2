//! What the tests share.

pub(crate) mod app;
pub(crate) mod nomad_agent;
pub(crate) mod proxy;
mod skip;

#[allow(unused_imports, reason = "on a machine that has everything nothing may skip")]
pub(crate) use skip::skip;
