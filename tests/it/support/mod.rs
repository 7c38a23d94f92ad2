//! What the tests share.

mod skip;

#[allow(unused_imports, reason = "on a machine that has everything nothing may skip")]
pub(crate) use skip::skip;
