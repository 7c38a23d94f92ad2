//! What the tests share.

pub(crate) mod answer;
pub(crate) mod app;
mod app_data;
pub(crate) mod attached;
pub(crate) mod consul_agent;
pub(crate) mod disk;
pub(crate) mod mix;
pub(crate) mod netns;
pub(crate) mod no_floor;
pub(crate) mod nomad;
pub(crate) mod ports;
pub(crate) mod proxy;
mod skip;
pub(crate) mod sse;
pub(crate) mod traces;
pub(crate) mod worker;

pub(crate) use skip::skip;
