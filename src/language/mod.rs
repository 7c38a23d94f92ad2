//! Languages: how each is compiled and run, read from data.
//!
//! `languages.toml` beside this file is embedded in the binary; a user's own file adds languages
//! or replaces whole ones. This module only describes: whether a tool chain is there is found out
//! by `tool_chain`, and running one is the runner's work.

mod catalog;
mod definition;
mod template;
mod tool_chain;

pub use catalog::{Catalog, CatalogError, LanguageEntry, Restrictions, Status};
pub use definition::{
    AheadStart, CacheStep, CompileStep, LanguageDefinition, LimitDefaults, RunStep, SelfTest,
    VersionCommand,
};
pub use template::{PROGRAM, UnknownPlaceholder, Values};
pub use tool_chain::{MissingTool, ToolChain, ToolIdentity};
