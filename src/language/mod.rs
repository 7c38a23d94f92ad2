//! Languages: how each is compiled and run, read from data.
//!
//! `languages.toml` beside this file is embedded in the binary; a user's own file adds languages
//! or replaces whole ones. This module only describes: whether a tool chain is there is found out
//! by `tool_chain`, and running one is the runner's work.

mod catalog;
mod definition;

pub use catalog::{Catalog, LanguageEntry, Status};
pub use definition::{CompileStep, LanguageDefinition, LimitDefaults, RunStep, VersionCommand};
