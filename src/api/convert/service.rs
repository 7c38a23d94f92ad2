//! The service itself: languages, workers, figures, health.

use std::time::Duration;

use super::request::limits;
use crate::{
    api::types as dto,
    backend,
    dispatcher::{MinuteStats, PartStatus, Readiness, Stats},
    language::{LanguageEntry, Status},
    submission::{Limits, StateName},
};

/// A language with its status, where a submission may ask for `most`.
pub fn language(entry: LanguageEntry, most: &Limits) -> dto::Language {
    let definition = entry.definition;
    let (status, reason) = match entry.status {
        Status::Checking => (dto::LanguageStatus::Checking, None),
        Status::Ready => (dto::LanguageStatus::Ready, None),
        Status::Unavailable(reason) | Status::Held(reason) => {
            (dto::LanguageStatus::Unavailable, Some(reason))
        }
    };
    dto::Language {
        id: definition.id.clone(),
        name: definition.name.clone(),
        aliases: definition.aliases.clone(),
        version: entry.version,
        status,
        available: status != dto::LanguageStatus::Unavailable,
        reason,
        source_file: definition.source_file.clone(),
        compiled: definition.compile.is_some(),
        limits: limits(definition.default_limits().at_most(most)),
        minimum_memory_bytes: definition.minimum_memory(),
        memory_overhead_bytes: definition.memory_overhead_bytes,
    }
}

/// A place that programs run in.
pub fn worker(worker: backend::Worker) -> dto::Worker {
    let layer = |layer: backend::Layer| dto::SandboxLayer {
        name: layer.name,
        active: layer.active,
        detail: layer.detail,
    };
    dto::Worker {
        id: worker.id,
        kind: worker.kind.to_owned(),
        name: worker.name,
        healthy: worker.healthy,
        slots: worker.slots.map(|slots| slots as u64),
        busy: worker.busy.map(|busy| busy as u64),
        languages: worker.languages,
        layers: worker.layers.into_iter().map(layer).collect(),
    }
}

/// The engine's figures.
pub fn stats(stats: &Stats) -> dto::Stats {
    let count = |state: StateName| stats.submissions.get(state.as_str()).copied().unwrap_or(0);
    dto::Stats {
        submissions: dto::StateCounts {
            queued: count(StateName::Queued),
            dispatching: count(StateName::Dispatching),
            running: count(StateName::Running),
            finished: count(StateName::Finished),
        },
        accepted_last_minute: stats.accepted_last_minute,
        finished_last_minute: stats.finished_last_minute,
        latency: stats.latency.map(latency),
    }
}

/// What happened in the minutes of the last hour.
pub fn history(minutes: Vec<MinuteStats>) -> dto::StatsHistory {
    let minute = |minute: MinuteStats| dto::MinuteStats {
        at: minute.at.into(),
        accepted: minute.accepted,
        finished: minute.finished,
        verdicts: minute
            .verdicts
            .into_iter()
            .map(|(verdict, count)| (verdict.as_str().to_owned(), count))
            .collect(),
        most_queued: minute.most_queued,
        most_running: minute.most_running,
        latency: minute.latency.map(latency),
    };
    dto::StatsHistory { items: minutes.into_iter().map(minute).collect(), next_cursor: None }
}

fn latency([p50, p90, p99]: [Duration; 3]) -> dto::Latency {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    dto::Latency { p50_ms: millis(p50), p90_ms: millis(p90), p99_ms: millis(p99) }
}

/// How the daemon is while it takes submissions.
pub fn ready(readiness: Readiness) -> dto::Ready {
    let part = |status: PartStatus| match status {
        PartStatus::Ok => dto::Part { status: dto::PartStatus::Ok, reason: None },
        PartStatus::Degraded(reason) => {
            dto::Part { status: dto::PartStatus::Degraded, reason: Some(reason) }
        }
    };
    let degraded = readiness.parts.values().any(|status| *status != PartStatus::Ok);
    dto::Ready {
        status: if degraded { dto::ReadyStatus::Degraded } else { dto::ReadyStatus::Ready },
        parts: readiness
            .parts
            .into_iter()
            .map(|(name, status)| (name.to_owned(), part(status)))
            .collect(),
    }
}
