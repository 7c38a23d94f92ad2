//! The languages this daemon offers, and whether each can be used now.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use serde::Deserialize;

use super::{
    LanguageDefinition, ToolChain,
    template::{UnknownPlaceholder, Values},
    tool_chain::is_fixed,
};
use crate::submission::{Limits, MAXIMUM};

/// The languages that come with the program.
const EMBEDDED: &str = include_str!("languages.toml");

/// The name of [`EMBEDDED`] in messages.
const EMBEDDED_NAME: &str = "languages.toml";

/// Why a language is unavailable that the operator does not offer.
const SWITCHED_OFF: &str = "switched off by the operator";

/// All languages of a daemon. Cheap to clone; clones share what changes.
#[derive(Debug, Clone)]
pub struct Catalog {
    state: Arc<RwLock<State>>,
    /// From each alias, and each id, to the id.
    names: Arc<BTreeMap<String, String>>,
}

#[derive(Debug)]
struct State {
    /// By id, as they were found.
    entries: BTreeMap<String, LanguageEntry>,
    restrictions: Restrictions,
}

/// What the operator allows less than the daemon could. It may change while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restrictions {
    /// Ids of languages that are not offered.
    pub switched_off: BTreeSet<String>,
    /// The most that a submission may ask for, in any language; at most [`MAXIMUM`].
    pub maximum: Limits,
}

impl Default for Restrictions {
    fn default() -> Self {
        Restrictions { switched_off: BTreeSet::new(), maximum: MAXIMUM }
    }
}

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
    /// It cannot be used: why, and what to do, in a sentence. Submissions are refused.
    Unavailable(String),
    /// Its tool chain was found, but no program of any language can run here now: why, and what to do,
    /// in a sentence. Submissions are taken, and wait until that is mended.
    Held(String),
}

/// Why the languages could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The user's file cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is not TOML, has a key that is not known, or lacks one.
    #[error("{file}, line {line}: {message}")]
    Parse {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// It can be read, but one language makes no sense.
    #[error("{file}: language `{language}`: {problem}")]
    Invalid {
        /// The file.
        file: String,
        /// The language's id.
        language: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A file of languages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LanguageFile {
    #[serde(default)]
    language: Vec<LanguageDefinition>,
}

impl Catalog {
    /// The languages that come with the program, and those of the user's file `extra`, which adds
    /// languages or replaces whole ones. All are [`Status::Checking`]: nothing was looked for yet.
    ///
    /// # Errors
    /// The first thing that is wrong with a file, with its line or the language's name.
    pub fn load(extra: Option<&Path>) -> Result<Catalog, CatalogError> {
        let mut definitions = BTreeMap::new();
        add(&mut definitions, EMBEDDED, EMBEDDED_NAME)?;
        if let Some(path) = extra {
            let text = std::fs::read_to_string(path)
                .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
            add(&mut definitions, &text, &path.display().to_string())?;
        }
        let names = names(&definitions)?;
        let entries = definitions
            .into_iter()
            .map(|(id, (_, definition))| {
                let definition = Arc::new(definition);
                (id, LanguageEntry { definition, status: Status::Checking, version: None })
            })
            .collect();
        let state = State { entries, restrictions: Restrictions::default() };
        Ok(Catalog { state: Arc::new(RwLock::new(state)), names: Arc::new(names) })
    }

    /// Looks for the tool chain of every language on this machine, and marks those without as
    /// unavailable. For backends that run code here.
    pub fn find_tool_chains(&self) {
        for entry in self.found() {
            if let Err(missing) = ToolChain::find(&entry.definition) {
                let status = Status::Unavailable(missing.to_string());
                self.set(&entry.definition.id, status, None);
            }
        }
    }

    /// Marks every language whose tool chain was found as held, for this reason.
    pub fn hold(&self, reason: &str) {
        for entry in self.found() {
            if !matches!(entry.status, Status::Unavailable(_)) {
                self.set(&entry.definition.id, Status::Held(reason.to_owned()), None);
            }
        }
    }

    /// The language with this id or alias.
    pub fn get(&self, name: &str) -> Option<LanguageEntry> {
        let id = self.names.get(name)?;
        let state = self.read();
        state.entries.get(id).map(|entry| state.shown(entry))
    }

    /// All languages, by id.
    pub fn list(&self) -> Vec<LanguageEntry> {
        let state = self.read();
        state.entries.values().map(|entry| state.shown(entry)).collect()
    }

    /// All languages with what was found out about them, those that are switched off too.
    pub fn found(&self) -> Vec<LanguageEntry> {
        self.read().entries.values().cloned().collect()
    }

    /// Sets what is known of one language.
    pub fn set(&self, id: &str, status: Status, version: Option<String>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = state.entries.get_mut(id) {
            entry.status = status;
            entry.version = version;
        }
    }

    /// The most that a submission may ask for now, in any language.
    pub fn maximum(&self) -> Limits {
        self.read().restrictions.maximum
    }

    /// Allows no more than this from now on, in place of what was allowed before.
    pub fn restrict(&self, restrictions: Restrictions) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.restrictions = restrictions;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A language as everybody is to see it.
    fn shown(&self, entry: &LanguageEntry) -> LanguageEntry {
        let mut entry = entry.clone();
        if self.restrictions.switched_off.contains(&entry.definition.id) {
            entry.status = Status::Unavailable(SWITCHED_OFF.to_owned());
        }
        entry
    }
}

/// Definitions by id, each with the name of the file it is from.
type Definitions = BTreeMap<String, (String, LanguageDefinition)>;

/// Reads one file; its languages replace those of the same id.
fn add(definitions: &mut Definitions, text: &str, file: &str) -> Result<(), CatalogError> {
    let parsed: LanguageFile = toml::from_str(text).map_err(|error| CatalogError::Parse {
        file: file.to_owned(),
        line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
        message: error.message().replace('\n', "; "),
    })?;
    let mut seen = BTreeSet::new();
    for definition in parsed.language {
        let invalid = |problem: String| CatalogError::Invalid {
            file: file.to_owned(),
            language: definition.id.clone(),
            problem,
        };
        if !seen.insert(definition.id.clone()) {
            return Err(invalid("is there twice".to_owned()));
        }
        check(&definition).map_err(invalid)?;
        definitions.insert(definition.id.clone(), (file.to_owned(), definition));
    }
    Ok(())
}

/// From every id and alias to its id.
fn names(definitions: &Definitions) -> Result<BTreeMap<String, String>, CatalogError> {
    let mut names: BTreeMap<String, String> =
        definitions.keys().map(|id| (id.clone(), id.clone())).collect();
    for (id, (file, definition)) in definitions {
        for alias in &definition.aliases {
            if let Some(other) = names.insert(alias.clone(), id.clone()) {
                return Err(CatalogError::Invalid {
                    file: file.clone(),
                    language: id.clone(),
                    problem: format!("the alias `{alias}` belongs to `{other}` already"),
                });
            }
        }
    }
    Ok(names)
}

/// What is wrong with one definition by itself.
fn check(definition: &LanguageDefinition) -> Result<(), String> {
    for name in std::iter::once(&definition.id).chain(&definition.aliases) {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+#-_.".contains(c);
        if name.is_empty() || name.len() > 32 || !name.chars().all(sound) {
            return Err(format!(
                "`{name}` is no id: 1 to 32 of lower-case letters, digits and + # - _ ."
            ));
        }
    }
    if definition.source_file.is_empty() || definition.source_file.contains('/') {
        return Err("source_file is not the name of a file".to_owned());
    }
    let candidates = definition.tools.values().flatten();
    if let Some(path) = candidates.chain(&definition.mounts).find(|path| !is_fixed(path)) {
        return Err(format!("{} is not an absolute path without ..", path.display()));
    }
    check_placeholders(definition).map_err(|error| error.to_string())?;
    check_limits(definition)
}

fn check_placeholders(definition: &LanguageDefinition) -> Result<(), UnknownPlaceholder> {
    let tools = definition.tools.keys().map(|name| (name.clone(), PathBuf::new())).collect();
    let values = Values {
        tools: &tools,
        entrypoint: &definition.source_file,
        sources: &[],
        args: &[],
        compile_args: &[],
        memory_bytes: 1,
        has_cache: false,
    };
    values.words(&definition.version.command)?;
    values.words(&definition.run.command)?;
    for text in definition.env.values().chain(definition.run.env.values()) {
        values.text(text)?;
    }
    let compile = definition.compile.iter().map(|step| (&step.command, &step.env));
    let cache = definition.cache.iter().map(|step| (&step.command, &step.env));
    for (command, env) in compile.chain(cache) {
        values.words(command)?;
        for text in env.values() {
            values.text(text)?;
        }
    }
    Ok(())
}

fn check_limits(definition: &LanguageDefinition) -> Result<(), String> {
    definition
        .default_limits()
        .check(definition.minimum_memory())
        .map_err(|violation| format!("in its defaults {violation}"))?;
    let commands = [Some(&definition.run.command), definition.compile.as_ref().map(|c| &c.command)];
    if commands.into_iter().flatten().any(Vec::is_empty) {
        return Err("a command has no words".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
