//! What several tests need.

pub(crate) mod nomad_agent;
pub(crate) mod proxy;
pub(crate) mod skip;
