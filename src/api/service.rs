//! The service itself: languages, workers, figures, health.

use poem::web::Data;
use poem_openapi::{OpenApi, param::Path, payload::Json};

use super::{
    Engine, Tag,
    body::{Exposition, shorten},
    convert,
    front::MetricsText,
    problem::{Failure, Kind},
    types as dto,
};
use crate::{dispatcher::PartStatus, language::Status};

/// The operations that read and change no submission.
pub(super) struct ServiceApi;

#[OpenApi]
impl ServiceApi {
    /// List languages
    #[oai(
        path = "/v1/languages",
        method = "get",
        operation_id = "listLanguages",
        tag = "Tag::Service"
    )]
    async fn languages(&self, Data(engine): Data<&Engine>) -> Json<dto::LanguageList> {
        let most = engine.catalog.maximum();
        let shown = |entry| convert::language(entry, &most);
        let items = engine.catalog.list().into_iter().map(shown).collect();
        Json(dto::LanguageList { items, next_cursor: None })
    }

    /// Read a language
    #[oai(
        path = "/v1/languages/:id",
        method = "get",
        operation_id = "getLanguage",
        tag = "Tag::Service"
    )]
    async fn language(
        &self,
        Data(engine): Data<&Engine>,
        /// The id of the language, or an alias of it.
        id: Path<String>,
    ) -> Result<Json<dto::Language>, Failure> {
        match engine.catalog.get(&id.0) {
            Some(entry) => Ok(Json(convert::language(entry, &engine.catalog.maximum()))),
            None => Err(unknown_language(&id.0)),
        }
    }

    /// List the places that programs run in
    #[oai(path = "/v1/workers", method = "get", operation_id = "listWorkers", tag = "Tag::Service")]
    async fn workers(&self, Data(engine): Data<&Engine>) -> Result<Json<dto::WorkerList>, Failure> {
        let mut workers = engine.handle.workers().await?;
        // What this machine has is known to the catalog.
        for local in workers.iter_mut().filter(|worker| worker.kind == "local") {
            let usable = engine.catalog.list().into_iter();
            let usable = usable.filter(|entry| !matches!(entry.status, Status::Unavailable(_)));
            local.languages = Some(usable.map(|entry| entry.definition.id.clone()).collect());
        }
        let items = workers.into_iter().map(convert::worker).collect();
        Ok(Json(dto::WorkerList { items, next_cursor: None }))
    }

    /// Read the engine's figures
    #[oai(path = "/v1/stats", method = "get", operation_id = "getStats", tag = "Tag::Service")]
    async fn stats(&self, Data(engine): Data<&Engine>) -> Result<Json<dto::Stats>, Failure> {
        let stats = engine.handle.stats().await?;
        Ok(Json(convert::stats(&stats)))
    }

    /// Read the engine's figures of the last hour
    ///
    /// A minute each, for charts; `/metrics` is for longer.
    #[oai(
        path = "/v1/stats/history",
        method = "get",
        operation_id = "getStatsHistory",
        tag = "Tag::Service"
    )]
    async fn history(&self, Data(engine): Data<&Engine>) -> Json<dto::StatsHistory> {
        Json(convert::history(engine.handle.history()))
    }

    /// Whether the process answers
    #[oai(path = "/healthz/live", method = "get", operation_id = "getLive", tag = "Tag::Health")]
    async fn live(&self) -> Json<dto::Live> {
        Json(dto::Live { status: dto::LiveStatus::Live })
    }

    /// Whether submissions are taken
    ///
    /// 200 whenever they are, also when a part is degraded; 503 only while the daemon starts, ends
    /// or cannot write.
    #[oai(path = "/healthz/ready", method = "get", operation_id = "getReady", tag = "Tag::Health")]
    async fn ready(&self, Data(engine): Data<&Engine>) -> Result<Json<dto::Ready>, Failure> {
        if engine.draining.is_cancelled() {
            return Err(Failure::new(Kind::Unavailable, "the daemon is shutting down"));
        }
        let mut readiness = engine.handle.readiness().await;
        if readiness.accepting {
            readiness.parts.extend((engine.neighbours)());
            return Ok(Json(convert::ready(readiness)));
        }
        let reasons = readiness.parts.into_iter().filter_map(|(name, status)| match status {
            PartStatus::Ok => None,
            PartStatus::Degraded(reason) => Some(format!("{name}: {reason}")),
        });
        let detail = reasons.collect::<Vec<_>>().join("; ");
        Err(Failure::new(Kind::Unavailable, format!("submissions are not taken now; {detail}")))
    }

    /// Metrics for Prometheus
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics", tag = "Tag::Health")]
    async fn metrics(&self, Data(metrics): Data<&MetricsText>) -> Exposition {
        Exposition(metrics())
    }
}

/// There is no such language.
pub(super) fn unknown_language(id: &str) -> Failure {
    let id = shorten(id, 64);
    Failure::new(Kind::NotFound, format!("there is no language `{id}`; see /v1/languages"))
}
