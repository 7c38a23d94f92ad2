//! The languages this daemon offers, and whether each can be used now.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use serde::Deserialize;

use super::{
    LanguageDefinition, ToolChain,
    template::{UnknownPlaceholder, Values},
    tool_chain::is_fixed,
};

/// The languages that come with the program.
const EMBEDDED: &str = include_str!("languages.toml");

/// The name of [`EMBEDDED`] in messages.
const EMBEDDED_NAME: &str = "languages.toml";

/// All languages of a daemon. Cheap to clone; clones share the statuses.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// By id.
    entries: Arc<RwLock<BTreeMap<String, LanguageEntry>>>,
    /// From each alias, and each id, to the id.
    names: Arc<BTreeMap<String, String>>,
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
        Ok(Catalog { entries: Arc::new(RwLock::new(entries)), names: Arc::new(names) })
    }

    /// Looks for the tool chain of every language on this machine, and marks those without as
    /// unavailable. For backends that run code here.
    pub fn find_tool_chains(&self) {
        for entry in self.list() {
            if let Err(missing) = ToolChain::find(&entry.definition) {
                let status = Status::Unavailable(missing.to_string());
                self.set(&entry.definition.id, status, None);
            }
        }
    }

    /// Marks every language whose tool chain was found as held, for this reason.
    pub fn hold(&self, reason: &str) {
        for entry in self.list() {
            if !matches!(entry.status, Status::Unavailable(_)) {
                self.set(&entry.definition.id, Status::Held(reason.to_owned()), None);
            }
        }
    }

    /// The language with this id or alias.
    pub fn get(&self, id: &str) -> Option<LanguageEntry> {
        let id = self.names.get(id)?;
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All languages, by id.
    pub fn list(&self) -> Vec<LanguageEntry> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sets what is known of one language.
    pub fn set(&self, id: &str, status: Status, version: Option<String>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(id) {
            entry.status = status;
            entry.version = version;
        }
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
    for step in [&definition.compile, &definition.cache].into_iter().flatten() {
        values.words(&step.command)?;
        for text in step.env.values() {
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
mod tests {
    use super::*;

    const TINY: &str = r#"
[[language]]
id = "tiny"
name = "Tiny"
extension = "t"
source_file = "main.t"
tools.tiny = ["/usr/bin/tiny"]
version = { command = ["{tool:tiny}", "--version"] }
run = { command = ["{tool:tiny}", "{entrypoint}", "{args}"] }
"#;

    fn load(text: &str) -> Result<Catalog, CatalogError> {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), text).expect("write");
        Catalog::load(Some(file.path()))
    }

    fn message(text: &str) -> String {
        let message = load(text).expect_err("refused").to_string();
        message.split_once("/.tmp").map_or(message.clone(), |(_, rest)| rest[6..].to_owned())
    }

    #[test]
    fn the_embedded_languages_are_sound_and_are_sixteen() {
        let catalog = Catalog::load(None).expect("sound");
        let ids: Vec<_> = catalog.list().iter().map(|e| e.definition.id.clone()).collect();
        assert_eq!(
            ids.join(" "),
            "bash c cpp go java javascript kotlin lua perl php python ruby rust scala sqlite \
             typescript"
        );
        for entry in catalog.list() {
            assert!(entry.definition.self_test.is_some(), "{}", entry.definition.id);
            assert!(entry.definition.package.is_some(), "{}", entry.definition.id);
        }
    }

    #[test]
    fn a_language_is_found_by_its_id_and_by_its_aliases() {
        let catalog = Catalog::load(None).expect("sound");
        for name in ["python", "py", "python3"] {
            assert_eq!(catalog.get(name).map(|e| e.definition.id.clone()), Some("python".into()));
        }
        assert_eq!(catalog.get("PYTHON"), None);
    }

    #[test]
    fn a_users_file_adds_languages_and_replaces_whole_ones() {
        let catalog = load(&format!("{TINY}{}", TINY.replace("tiny", "lua"))).expect("sound");
        assert_eq!(catalog.list().len(), 17);
        let lua = catalog.get("lua").expect("lua").definition;
        assert_eq!((lua.name.as_str(), lua.aliases.len()), ("Tiny", 0));
    }

    #[test]
    fn clones_share_what_is_known_of_a_language() {
        let catalog = Catalog::load(None).expect("sound");
        catalog.clone().set("c", Status::Ready, Some("12.2.0".to_owned()));
        let entry = catalog.get("c").expect("c");
        assert_eq!((entry.status, entry.version.as_deref()), (Status::Ready, Some("12.2.0")));
    }

    #[test]
    fn what_holds_all_languages_hides_no_missing_tool_chain() {
        let catalog = Catalog::load(None).expect("sound");
        let missing = Status::Unavailable("install gcc".to_owned());
        catalog.set("c", missing.clone(), None);
        catalog.hold("no room");
        let status = |id| catalog.get(id).map(|entry| entry.status);
        assert_eq!(status("c"), Some(missing));
        assert_eq!(status("lua"), Some(Status::Held("no room".to_owned())));
    }

    #[test]
    fn unknown_keys_are_refused_with_line_and_name() {
        let wrong = TINY.replace("extension =", "extention =");
        assert!(
            message(&wrong).contains("line 5: unknown field `extention`"),
            "{}",
            message(&wrong)
        );
    }

    #[test]
    fn an_alias_that_is_taken_is_refused() {
        let wrong = TINY.replace("name =", "aliases = [\"py\"]\nname =");
        let message = message(&wrong);
        assert!(message.contains("alias `py` belongs to"), "{message}");
    }

    #[test]
    fn a_language_that_makes_no_sense_is_refused_with_the_reason() {
        for (from, to, problem) in [
            ("\"{args}\"", "\"{arguments}\"", "`{arguments}`"),
            ("/usr/bin/tiny", "bin/tiny", "bin/tiny is not an absolute path"),
            ("id = \"tiny\"", "id = \"Tiny\"", "`Tiny` is no id"),
            ("main.t", "a/main.t", "source_file"),
            ("name =", "limits = { memory_bytes = 1 }\nname =", "memory_bytes is 1"),
        ] {
            let message = message(&TINY.replace(from, to));
            assert!(message.contains(problem), "{to}: {message}");
        }
        assert!(message(&format!("{TINY}{TINY}")).contains("is there twice"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Catalog::load(Some(Path::new("/nowhere/more.toml"))).expect_err("absent");
        assert_eq!(error.to_string(), "cannot read /nowhere/more.toml");
    }
}
