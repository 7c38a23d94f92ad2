//! What several tests need.

pub(crate) mod nomad_agent;
pub(crate) mod skip;
