//! The languages this daemon offers, and whether each can be used now.

use std::sync::Arc;

use super::LanguageDefinition;

/// All languages of a daemon. Cheap to clone; clones share the statuses.
#[derive(Debug, Clone)]
pub struct Catalog {}

/// One language with its status at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageEntry {
    /// How it is compiled and run.
    pub definition: Arc<LanguageDefinition>,
    /// Whether it can be used.
    pub status: Status,
    /// The version of its tool chain, once asked.
    pub version: Option<String>,
}

/// Whether a language can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Its tool chain was found; its self-test has not ended yet. Submissions are taken.
    Checking,
    /// Its self-test passed.
    Ready,
    /// It cannot be used: why, and what to do, in a sentence.
    Unavailable(String),
}

impl Catalog {
    /// The language with this id or alias.
    pub fn get(&self, id: &str) -> Option<LanguageEntry> {
        let _ = id;
        todo!()
    }

    /// All languages, by id.
    pub fn list(&self) -> Vec<LanguageEntry> {
        todo!()
    }

    /// Sets what is known of one language.
    pub fn set(&self, id: &str, status: Status, version: Option<String>) {
        let _ = (id, status, version);
        todo!()
    }
}
