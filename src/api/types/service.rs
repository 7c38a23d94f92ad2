//! What a client gets to know of the service itself: languages, workers, figures, health.

use std::collections::BTreeMap;

use poem_openapi::{Enum, Object};
use time::OffsetDateTime;

use super::Limits;

/// A language that programs may be written in.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Language {
    /// Its identity, as a submission names it.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Other ids that mean the same language.
    pub aliases: Vec<String>,
    /// The version of its tool chain, once known.
    pub version: Option<String>,
    /// Whether it can be used, and how sure that is.
    pub status: LanguageStatus,
    /// Whether programs in it can run now: its status is not `unavailable`.
    pub available: bool,
    /// Why it is unavailable, and what to do about it.
    pub reason: Option<String>,
    /// The name that a program sent as one text is given.
    pub source_file: String,
    /// Whether programs are compiled before they run.
    pub compiled: bool,
    /// The limits of a run that names none.
    pub limits: Limits,
    /// The least `memory_bytes` that a run may ask for.
    pub minimum_memory_bytes: u64,
    /// Memory of the language's own machinery, allowed on top of `memory_bytes`.
    pub memory_overhead_bytes: u64,
}

/// Whether a language can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum LanguageStatus {
    /// Its tool chain is there; the self-test has not ended yet. Submissions are taken. With the backend
    /// `nomad` it stays so: the tool chains are those of the nodes.
    Checking,
    /// Its self-test passed.
    Ready,
    /// It cannot be used, for the given reason. Submissions are refused when it is the language's own
    /// tool chain that is missing; when no program at all can run now, they are taken and wait.
    Unavailable,
}

/// All languages.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct LanguageList {
    /// The languages, by id.
    pub items: Vec<Language>,
    /// The cursor of the next part; never there today.
    pub next_cursor: Option<String>,
}

/// A place that programs run in.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Worker {
    /// Unique in its kind.
    pub id: String,
    /// `local`, `nomad` or `pool`.
    pub kind: String,
    /// Its name, for people.
    pub name: String,
    /// Whether it takes work now.
    pub healthy: bool,
    /// How many programs it can run at once, where known.
    pub slots: Option<u64>,
    /// How many it runs now, where known.
    pub busy: Option<u64>,
    /// The ids of the languages that it has the tool chains of, where known.
    pub languages: Option<Vec<String>>,
    /// What its sandbox is made of, where known.
    pub layers: Vec<SandboxLayer>,
}

/// One layer of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub struct SandboxLayer {
    /// Which one.
    pub name: String,
    /// Whether it is in force.
    pub active: bool,
    /// How, or why not and what to do about it.
    pub detail: String,
}

/// All places that programs run in.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WorkerList {
    /// The places.
    pub items: Vec<Worker>,
    /// The cursor of the next part; never there today.
    pub next_cursor: Option<String>,
}

/// Figures of the engine now.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Stats {
    /// How many submissions are in each state.
    pub submissions: StateCounts,
    /// How many were accepted during the last minute.
    pub accepted_last_minute: u64,
    /// How many finished during the last minute.
    pub finished_last_minute: u64,
    /// From accept to finish; absent while none has finished.
    pub latency: Option<Latency>,
}

/// How many submissions are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Object)]
pub struct StateCounts {
    /// Accepted and waiting.
    pub queued: u64,
    /// Being given to a place that can run them.
    pub dispatching: u64,
    /// Running.
    pub running: u64,
    /// Over.
    pub finished: u64,
}

/// Times from accept to finish of the submissions that finished since the start, over the last
/// hour at the most, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Object)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// Nine of ten took no longer.
    pub p90_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// What happened in each minute of the last hour, as far as the daemon has run since then.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct StatsHistory {
    /// The minutes, oldest first and none left out; the last is not over yet.
    pub items: Vec<MinuteStats>,
    /// The cursor of the next part; never there today.
    pub next_cursor: Option<String>,
}

/// What happened in one minute.
#[derive(Debug, Clone, PartialEq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct MinuteStats {
    /// When it began.
    pub at: OffsetDateTime,
    /// How many submissions were accepted.
    pub accepted: u64,
    /// How many ended.
    pub finished: u64,
    /// How many of those ended how, by verdict; those that are none are left out.
    pub verdicts: BTreeMap<String, u64>,
    /// The most that were seen to wait at once; it is looked every 5 seconds.
    pub most_queued: u64,
    /// The most that were seen to run at once.
    pub most_running: u64,
    /// From accept to finish of those that ended; absent while there is none.
    pub latency: Option<Latency>,
}

/// That the process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Object)]
pub struct Live {
    /// Always `live`.
    pub status: LiveStatus,
}

/// The one status of a process that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum LiveStatus {
    /// It answers.
    Live,
}

/// That submissions are taken, and how each part is.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub struct Ready {
    /// Of the whole.
    pub status: ReadyStatus,
    /// Of each part, by its name.
    pub parts: BTreeMap<String, Part>,
}

/// How ready the daemon is, when it takes submissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum ReadyStatus {
    /// Every part is as it should be.
    Ready,
    /// Submissions are taken, but a part is not as it should be.
    Degraded,
}

/// How one part of the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Part {
    /// In a word.
    pub status: PartStatus,
    /// In a sentence, when it is degraded.
    pub reason: Option<String>,
}

/// How one part of the daemon is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum PartStatus {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Degraded,
}
