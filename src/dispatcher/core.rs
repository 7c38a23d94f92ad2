//! What all parts of the dispatcher share, and the few steps that several of them take.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Observer, Settings, attached::Attached, backoff::Breaker, figures::Figures, live::Live,
    parked::Parked, stuck::Stuck, waiters::Waiters,
};
use crate::{
    backend::{Backend, BackendError, Execution},
    language::{Catalog, LanguageDefinition, Status},
    protocol::{ExecutionRequest, VERSION},
    store::{Claim, Finish, Requeue, Step, Store, StoreError},
    submission::{
        Checker, Clock, Fault, FaultKind, Outcome, Owner, Placement, SubmissionId,
        SubmissionRequest, Timestamp,
    },
};

/// How long to wait before a write that failed is tried again: short beside the time it takes a
/// person to free a full disk.
const WRITE_RETRY: Duration = Duration::from_secs(1);

pub(super) struct Core {
    pub(super) store: Store,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) catalog: Catalog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) live: Arc<Live>,
    pub(super) waiters: Waiters,
    pub(super) attached: Attached,
    pub(super) breaker: Breaker,
    pub(super) figures: Figures,
    pub(super) parked: Parked,
    pub(super) stuck: Stuck,
    /// Nothing new is taken.
    pub(super) soft: CancellationToken,
    /// Everything ends now.
    pub(super) hard: CancellationToken,
}

/// The process is ending: what is unfinished stays as it is on disk, for the next process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopped;

impl Core {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Something may be there to be claimed that was not there before.
    pub(super) fn wake(&self) {
        self.live.wake();
    }

    /// An attempt could not begin, or could not have: for this reason.
    pub(super) fn backend_away(&self, id: SubmissionId, reason: &str) {
        if self.breaker.reason().is_none() {
            tracing::warn!(backend = self.backend.name(), reason, "the backend takes no work");
        }
        self.breaker.failed(&self.settings, id, reason, Instant::now());
    }

    /// An attempt has begun, or could have.
    pub(super) fn backend_takes_work(&self) {
        if self.breaker.succeeded() {
            tracing::info!(backend = self.backend.name(), "the backend takes work again");
            self.wake();
        }
    }

    /// The backend has room that it had not: what waits for it need not wait out its time.
    pub(super) async fn rouse(&self) {
        self.breaker.hasten(Instant::now());
        if let Err(error) = self.store.rouse(self.backend.capacity()).await {
            tracing::warn!(%error, "what waits for room could not be told of it");
        }
    }

    /// Everything a runner needs for an attempt.
    ///
    /// # Errors
    /// What is missing. `demand_ready` also refuses languages that are known but cannot be used now.
    /// Without an `owner` no compiled program is kept of it, as where none could be.
    pub(super) fn execution_request(
        &self,
        id: SubmissionId,
        attempt: u32,
        request: Result<SubmissionRequest, StoreError>,
        demand_ready: bool,
        owner: Option<&Owner>,
    ) -> Result<Arc<ExecutionRequest>, Missing> {
        let request = request.map_err(|error| {
            tracing::error!(submission.id = %id, attempt, %error, "a request cannot be read");
            Missing::Request
        })?;
        let definition = |language: &str| -> Result<LanguageDefinition, Missing> {
            let entry = self
                .catalog
                .get(language)
                .ok_or_else(|| Missing::language(language, "which is not offered now"))?;
            match entry.status {
                Status::Unavailable(reason) if demand_ready => {
                    Err(Missing::language(language, &format!("which cannot be used now: {reason}")))
                }
                _ => Ok((*entry.definition).clone()),
            }
        };
        let language = definition(&request.language)?;
        let mut checker_languages = BTreeMap::new();
        for test in &request.tests {
            if let Checker::Custom { language, .. } = &test.checker
                && !checker_languages.contains_key(language)
            {
                checker_languages.insert(language.clone(), definition(language)?);
            }
        }
        let v = VERSION;
        Ok(Arc::new(ExecutionRequest {
            v,
            submission: id,
            attempt,
            cache_owner: owner.map(|owner| self.store.request_secret().cache_owner(owner)),
            request,
            language,
            checker_languages,
        }))
    }

    /// The most time that an attempt can rightly take from its first event on, and a margin.
    pub(super) fn budget(&self, request: &ExecutionRequest) -> Duration {
        super::budget::of(request) + self.settings.deadline_margin
    }

    /// [`Store::requeue`] until it succeeds.
    ///
    /// # Errors
    /// The process ends first.
    pub(super) async fn requeue(
        &self,
        claim: &Claim,
        why: Requeue,
        at: Timestamp,
    ) -> Result<Step, Stopped> {
        loop {
            match self.store.requeue(claim, why.clone(), at).await {
                Ok(step) => {
                    self.wake();
                    return Ok(step);
                }
                Err(error) => self.pause(claim, error).await?,
            }
        }
    }

    /// [`Store::finish`] until it succeeds: a result in hand is not given up for a full disk.
    ///
    /// # Errors
    /// The process ends first.
    pub(super) async fn finish(&self, claim: &Claim, finish: &Finish) -> Result<Step, Stopped> {
        loop {
            match self.store.finish(claim, finish.clone()).await {
                Ok(step) => return Ok(step),
                Err(error) => self.pause(claim, error).await?,
            }
        }
    }

    async fn pause(&self, claim: &Claim, error: StoreError) -> Result<(), Stopped> {
        if error == StoreError::Closed {
            return Err(Stopped);
        }
        tracing::warn!(
            submission.id = %claim.id, attempt = claim.attempt, %error,
            "the end of an attempt could not be stored; trying again in a second"
        );
        tokio::select! {
            () = self.hard.cancelled() => Err(Stopped),
            () = tokio::time::sleep(WRITE_RETRY) => Ok(()),
        }
    }

    /// Asks the backend whether an attempt is anywhere, until it answers.
    ///
    /// # Errors
    /// The process ends, or `cancelled` is, first.
    pub(super) async fn find(
        &self,
        request: &Arc<ExecutionRequest>,
        placement: Option<Placement>,
        cancelled: &CancellationToken,
    ) -> Result<Option<Execution>, Stopped> {
        let mut tries = 0;
        loop {
            let found = tokio::select! {
                biased;
                () = self.hard.cancelled() => return Err(Stopped),
                () = cancelled.cancelled() => return Err(Stopped),
                found = self.backend.recover(request.clone(), placement.clone()) => found,
            };
            let BackendError(reason) = match found {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if tries == 0 {
                tracing::warn!(
                    submission.id = %request.submission, attempt = request.attempt,
                    backend = self.backend.name(), reason,
                    "the backend cannot say where an attempt is; asking again"
                );
            }
            let wait = super::backoff::wait(&self.settings, request.submission, tries);
            tries += 1;
            tokio::select! {
                () = self.hard.cancelled() => return Err(Stopped),
                () = cancelled.cancelled() => return Err(Stopped),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Tells everyone that a submission has ended. Its outcome is on disk.
    pub(super) fn announce(&self, ended: &Ended<'_>) {
        let latency = ended.at.since(ended.created_at);
        let verdict = ended.outcome.verdict();
        tracing::info!(
            submission.id = %ended.id,
            attempt = ended.attempt,
            backend = self.backend.name(),
            %verdict,
            duration_ms = latency.as_millis() as u64,
            "submission finished"
        );
        self.observer.finished(verdict, latency);
        self.figures.finished(verdict, latency, ended.at);
        self.waiters.publish(ended.id);
    }
}

/// Why an attempt cannot be described to a runner.
pub(super) enum Missing {
    /// What was sent cannot be read from the database.
    Request,
    /// A language, as words that follow "waits for".
    Language(String),
}

impl Missing {
    fn language(language: &str, why: &str) -> Missing {
        Missing::Language(format!("the language {language}, {why}"))
    }

    /// That the submission ends for it.
    pub(super) fn fault(&self) -> Fault {
        let message = match self {
            Missing::Request => "what was sent cannot be read any more".to_owned(),
            Missing::Language(language) => format!("it needs {language}"),
        };
        Fault::new(FaultKind::Internal, message)
    }
}

/// A submission that has ended.
pub(super) struct Ended<'a> {
    pub(super) id: SubmissionId,
    pub(super) attempt: u32,
    pub(super) created_at: Timestamp,
    pub(super) at: Timestamp,
    pub(super) outcome: &'a Outcome,
}
