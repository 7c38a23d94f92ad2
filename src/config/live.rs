//! Settings that may change while the daemon runs: one document, so that a change is one step.
//!
//! ```toml
//! slots = 8                 # attempts in flight at the most
//! queue_limit = 5000        # submissions that wait at the most
//! [limits]                  # the most that a submission may ask for
//! cpu_time_ms = 5000
//! [languages]
//! python = false            # not offered
//! ```
//!
//! What is absent is as the daemon was configured. Pure: where the document is from, and what it acts on,
//! is known to `cli/live_settings.rs` alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{MAX_QUEUE, MAX_SLOTS};
use crate::{
    language::{Catalog, LimitDefaults, Restrictions},
    submission::{Limits, MAXIMUM, MINIMUM_MEMORY_BYTES},
};

/// The names of a document.
const NAMES: [&str; 4] = ["slots", "queue_limit", "limits", "languages"];

/// Most characters of a document that a message quotes.
const QUOTE: usize = 64;

/// One document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSettings {
    /// Attempts in flight at the most.
    pub slots: Option<u32>,
    /// Submissions that wait at the most.
    pub queue_limit: Option<u64>,
    /// The most that a submission may ask for.
    pub limits: LimitDefaults,
    /// Whether a language is offered, by its id or an alias.
    pub languages: BTreeMap<String, bool>,
}

/// Why a document is refused, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveSettingsError {
    /// It is not text.
    #[error("it is not text in UTF-8")]
    NotText,
    /// It is neither TOML nor JSON.
    #[error("line {line}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A name that means nothing.
    #[error("`{name}` is not known; known are {known}")]
    UnknownName {
        /// With the tables that it is in.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// A language that the daemon does not have.
    #[error("languages: there is no language `{name}`; there are {known}")]
    UnknownLanguage {
        /// As it was written.
        name: String,
        /// The ids of all languages.
        known: String,
    },
    /// A language by two of its names.
    #[error("languages: {id} is named twice")]
    LanguageTwice {
        /// Its id.
        id: String,
    },
    /// A value of another kind.
    #[error("{name} is {value}, which is not {expected}")]
    Kind {
        /// With the tables that it is in.
        name: String,
        /// What was given.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A number out of its bounds, or something that is no whole number.
    #[error("{name} is {value}, which is not a whole number between {minimum} and {maximum}")]
    Bounds {
        /// With the tables that it is in.
        name: String,
        /// What was given.
        value: String,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
}

impl LiveSettings {
    /// Reads a document: TOML, or JSON when it begins with a brace.
    ///
    /// # Errors
    /// The first thing that is wrong with it. Whether its languages exist is not known here; see
    /// [`LiveSettings::resolve`].
    pub fn parse(bytes: &[u8]) -> Result<LiveSettings, LiveSettingsError> {
        let mut settings = LiveSettings::default();
        for (name, value) in document(bytes)? {
            match name.as_str() {
                "slots" => {
                    let slots = number(&name, &value, 1, MAX_SLOTS)?;
                    settings.slots = Some(u32::try_from(slots).expect("MAX_SLOTS is less"));
                }
                "queue_limit" => settings.queue_limit = Some(number(&name, &value, 1, MAX_QUEUE)?),
                "limits" => settings.limits = limits(table(&name, &value)?)?,
                "languages" => settings.languages = languages(table(&name, &value)?)?,
                _ => return Err(unknown(&name, NAMES)),
            }
        }
        Ok(settings)
    }

    /// The same with every language by its id.
    ///
    /// # Errors
    /// `catalog` does not have one, or one is named twice.
    pub fn resolve(mut self, catalog: &Catalog) -> Result<LiveSettings, LiveSettingsError> {
        let mut by_id = BTreeMap::new();
        for (name, offered) in self.languages {
            let Some(entry) = catalog.get(&name) else {
                let all = catalog.list();
                let ids: Vec<_> = all.iter().map(|each| each.definition.id.as_str()).collect();
                let (name, known) = (shortened(&name), ids.join(", "));
                return Err(LiveSettingsError::UnknownLanguage { name, known });
            };
            let id = entry.definition.id.clone();
            if by_id.insert(id.clone(), offered).is_some() {
                return Err(LiveSettingsError::LanguageTwice { id });
            }
        }
        self.languages = by_id;
        Ok(self)
    }

    /// What is then in force, in a daemon that was configured so.
    pub fn over(&self, configured: &InForce) -> InForce {
        let mut restrictions = configured.restrictions.clone();
        restrictions.maximum = self.limits.over(restrictions.maximum);
        for (id, offered) in &self.languages {
            if *offered {
                restrictions.switched_off.remove(id);
            } else {
                restrictions.switched_off.insert(id.clone());
            }
        }
        InForce {
            slots: self.slots.or(configured.slots),
            queue_limit: self.queue_limit.unwrap_or(configured.queue_limit),
            restrictions,
        }
    }
}

/// The settings that hold at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Attempts in flight at the most; `None` for as many as the backend takes.
    pub slots: Option<u32>,
    /// Submissions that wait at the most.
    pub queue_limit: u64,
    /// What is allowed less than the daemon could do.
    pub restrictions: Restrictions,
}

impl InForce {
    /// What a daemon does that nobody tells otherwise while it runs.
    pub fn configured(queue_limit: u64) -> InForce {
        InForce { slots: None, queue_limit, restrictions: Restrictions::default() }
    }

    /// What changes when `next` takes the place of these, in words.
    pub fn changes_to(&self, next: &InForce) -> Vec<String> {
        let mut changes = Vec::new();
        let mut changed = |name: &str, from: String, to: String| {
            if from != to {
                changes.push(format!("{name} from {from} to {to}"));
            }
        };
        let slots = |slots: Option<u32>| match slots {
            Some(slots) => slots.to_string(),
            None => "what the backend takes".to_owned(),
        };
        changed("slots", slots(self.slots), slots(next.slots));
        changed("queue_limit", self.queue_limit.to_string(), next.queue_limit.to_string());
        let maxima = |settings: &InForce| settings.restrictions.maximum.fields();
        for ((name, from), (_, to)) in maxima(self).into_iter().zip(maxima(next)) {
            changed(&format!("limits.{name}"), from.to_string(), to.to_string());
        }
        let (before, after) = (&self.restrictions.switched_off, &next.restrictions.switched_off);
        changes.extend(named(after.difference(before), "off"));
        changes.extend(named(before.difference(after), "on"));
        changes
    }
}

fn named<'a>(ids: impl Iterator<Item = &'a String>, switch: &str) -> Option<String> {
    let ids: Vec<_> = ids.map(String::as_str).collect();
    (!ids.is_empty()).then(|| format!("{} switched {switch}", ids.join(", ")))
}

/// The document as it stands there.
fn document(bytes: &[u8]) -> Result<Map<String, Value>, LiveSettingsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| LiveSettingsError::NotText)?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| LiveSettingsError::Syntax {
            line: error.line(),
            message: error.to_string(),
        });
    }
    toml::from_str(text).map_err(|error| LiveSettingsError::Syntax {
        line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
        message: error.message().replace('\n', "; "),
    })
}

fn table<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, LiveSettingsError> {
    value.as_object().ok_or_else(|| kind(name, value, "a table"))
}

fn number(name: &str, value: &Value, minimum: u64, maximum: u64) -> Result<u64, LiveSettingsError> {
    let number = value.as_u64().filter(|number| (minimum..=maximum).contains(number));
    number.ok_or_else(|| LiveSettingsError::Bounds {
        name: name.to_owned(),
        value: shortened(&value.to_string()),
        minimum,
        maximum,
    })
}

fn limits(table: &Map<String, Value>) -> Result<LimitDefaults, LiveSettingsError> {
    let mut limits = LimitDefaults::default();
    for (key, value) in table {
        let name = format!("limits.{key}");
        let (field, minimum, maximum) = match key.as_str() {
            "cpu_time_ms" => (&mut limits.cpu_time_ms, 1, MAXIMUM.cpu_time_ms),
            "wall_time_ms" => (&mut limits.wall_time_ms, 1, MAXIMUM.wall_time_ms),
            "memory_bytes" => {
                (&mut limits.memory_bytes, MINIMUM_MEMORY_BYTES, MAXIMUM.memory_bytes)
            }
            "processes" => (&mut limits.processes, 1, MAXIMUM.processes),
            "output_bytes" => (&mut limits.output_bytes, 1, MAXIMUM.output_bytes),
            "disk_bytes" => (&mut limits.disk_bytes, 1, MAXIMUM.disk_bytes),
            _ => return Err(unknown(&name, Limits::DEFAULT.fields().map(|(name, _)| name))),
        };
        *field = Some(number(&name, value, minimum, maximum)?);
    }
    Ok(limits)
}

fn languages(table: &Map<String, Value>) -> Result<BTreeMap<String, bool>, LiveSettingsError> {
    let switch = |(key, value): (&String, &Value)| match value {
        Value::Bool(offered) => Ok((key.clone(), *offered)),
        _ => Err(kind(&shortened(&format!("languages.{key}")), value, "true or false")),
    };
    table.iter().map(switch).collect()
}

fn unknown(name: &str, known: impl IntoIterator<Item = &'static str>) -> LiveSettingsError {
    let known: Vec<_> = known.into_iter().collect();
    LiveSettingsError::UnknownName { name: shortened(name), known: known.join(", ") }
}

fn kind(name: &str, value: &Value, expected: &'static str) -> LiveSettingsError {
    let value = shortened(&value.to_string());
    LiveSettingsError::Kind { name: name.to_owned(), value, expected }
}

/// The beginning of a text, where it is long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(QUOTE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
