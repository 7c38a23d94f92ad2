//! Several backends in an order: each attempt goes to the first that takes it now.
//!
//! ```text
//!  start ── pool? ── nomad? ── local    what is in trouble is passed over, what refuses hands on
//!  release, vacate, recover ──> the one that its placement names
//! ```

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, select_all};

use super::{Backend, BackendError, Execution, StartError, Stray, Worker};
use crate::{
    protocol::ExecutionRequest,
    submission::{Placement, SubmissionId},
};

/// Runs attempts where they can run now.
pub struct AutoBackend {
    /// In the order in which they are asked. One that waits instead of refusing is last.
    parts: Vec<Arc<dyn Backend>>,
}

impl std::fmt::Debug for AutoBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.parts.iter().map(|part| part.name()).collect();
        f.debug_struct("AutoBackend").field("parts", &names).finish()
    }
}

impl AutoBackend {
    /// Of these, of which there is one at least.
    pub fn new(parts: Vec<Arc<dyn Backend>>) -> AutoBackend {
        assert!(!parts.is_empty(), "a backend of no backends runs nothing");
        AutoBackend { parts }
    }

    /// Those that take attempts now, as far as they know themselves.
    fn usable(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.parts.iter().filter(|part| part.trouble().is_none())
    }

    /// The one that this placement is of.
    fn of(&self, placement: &Placement) -> Option<&Arc<dyn Backend>> {
        let name = match placement {
            Placement::Local => "local",
            Placement::Nomad { .. } => "nomad",
            Placement::Pool { .. } => "pool",
        };
        self.parts.iter().find(|part| part.name() == name)
    }

    async fn place(&self, request: Arc<ExecutionRequest>) -> Result<Execution, StartError> {
        let (mut reasons, mut refused) = (Vec::new(), 0);
        let mut any_is_there = false;
        for part in &self.parts {
            if let Some(reason) = part.trouble() {
                reasons.push(reason);
                continue;
            }
            match part.start(request.clone()).await {
                Err(StartError::Unavailable(reason)) => reasons.push(reason),
                Err(StartError::NoPlace(reason)) => {
                    any_is_there = true;
                    reasons.push(reason);
                }
                Err(StartError::Refused(reason)) => {
                    (any_is_there, refused) = (true, refused + 1);
                    reasons.push(reason);
                }
                // Placed; or it may have been, so that nobody else may be asked.
                other => return other,
            }
        }
        let reason = reasons.join("; ");
        Err(if refused == self.parts.len() {
            // There is nobody left who might take it later.
            StartError::Refused(reason)
        } else if any_is_there {
            StartError::NoPlace(reason)
        } else {
            StartError::Unavailable(reason)
        })
    }
}

impl Backend for AutoBackend {
    fn name(&self) -> &'static str {
        "auto"
    }

    /// Of all that take attempts now, together.
    fn capacity(&self) -> usize {
        self.usable().map(|part| part.capacity()).sum::<usize>().max(1)
    }

    fn start(
        &self,
        request: Arc<ExecutionRequest>,
    ) -> BoxFuture<'_, Result<Execution, StartError>> {
        Box::pin(self.place(request))
    }

    fn recover(
        &self,
        request: Arc<ExecutionRequest>,
        placement: Option<Placement>,
    ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
        Box::pin(async move {
            if let Some(placement) = placement {
                let Some(part) = self.of(&placement) else { return Ok(None) };
                return part.recover(request, Some(placement)).await;
            }
            for part in &self.parts {
                if let Some(execution) = part.recover(request.clone(), None).await? {
                    return Ok(Some(execution));
                }
            }
            Ok(None)
        })
    }

    fn release(&self, placement: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
        match self.of(placement) {
            Some(part) => part.release(placement),
            // Of a backend that was configured before: its own rules have ended it by now, or nobody can.
            None => {
                let reason = format!("no backend here knows what {placement:?} is");
                Box::pin(async { Err(BackendError(reason)) })
            }
        }
    }

    fn vacate<'a>(&'a self, placement: &'a Placement) -> BoxFuture<'a, bool> {
        match self.of(placement) {
            Some(part) => part.vacate(placement),
            None => Box::pin(async { false }),
        }
    }

    fn is_free_when_finished(&self, placement: &Placement) -> bool {
        self.of(placement).is_some_and(|part| part.is_free_when_finished(placement))
    }

    fn takes_input(&self) -> bool {
        self.parts.iter().any(|part| part.takes_input())
    }

    fn nudge(&self, submission: SubmissionId, attempt: u32) {
        self.parts.iter().for_each(|part| part.nudge(submission, attempt));
    }

    fn check(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(async move {
            let answers = join_all(self.parts.iter().map(|part| part.check())).await;
            let reasons: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
            if reasons.len() < self.parts.len() {
                return Ok(());
            }
            let reasons: Vec<_> = reasons.into_iter().map(|BackendError(reason)| reason).collect();
            Err(BackendError(reasons.join("; ")))
        })
    }

    fn trouble(&self) -> Option<String> {
        let reasons: Option<Vec<_>> = self.parts.iter().map(|part| part.trouble()).collect();
        reasons.map(|reasons| reasons.join("; "))
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { select_all(self.parts.iter().map(|part| part.room())).await.0 })
    }

    fn strays(&self) -> BoxFuture<'_, Result<Vec<Stray>, BackendError>> {
        Box::pin(async move {
            let mut strays = Vec::new();
            for part in &self.parts {
                strays.extend(part.strays().await?);
            }
            Ok(strays)
        })
    }

    /// Of all that can be asked; an error only where none can.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
        Box::pin(async move {
            let (mut workers, mut failed) = (Vec::new(), Vec::new());
            for answer in join_all(self.parts.iter().map(|part| part.workers())).await {
                match answer {
                    Ok(some) => workers.extend(some),
                    Err(error) => failed.push(error),
                }
            }
            match failed.pop() {
                Some(error) if failed.len() + 1 == self.parts.len() => Err(error),
                _ => Ok(workers),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::ready;
    use tokio::sync::mpsc;

    use super::*;

    /// Answers every start alike.
    struct ScriptedBackend {
        name: &'static str,
        trouble: bool,
        start: Result<Placement, StartError>,
    }

    impl Backend for ScriptedBackend {
        fn name(&self) -> &'static str {
            self.name
        }

        fn capacity(&self) -> usize {
            4
        }

        fn start(&self, _: Arc<ExecutionRequest>) -> BoxFuture<'_, Result<Execution, StartError>> {
            let events = mpsc::channel(1).1;
            Box::pin(ready(self.start.clone().map(|placement| Execution {
                placement,
                events,
                input: None,
            })))
        }

        fn recover(
            &self,
            _: Arc<ExecutionRequest>,
            _: Option<Placement>,
        ) -> BoxFuture<'_, Result<Option<Execution>, BackendError>> {
            Box::pin(ready(Ok(None)))
        }

        fn release(&self, _: &Placement) -> BoxFuture<'_, Result<(), BackendError>> {
            Box::pin(ready(Err(BackendError(self.name.to_owned()))))
        }

        fn trouble(&self) -> Option<String> {
            self.trouble.then(|| format!("{} is away", self.name))
        }

        fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, BackendError>> {
            Box::pin(ready(self.trouble().map_or(Ok(Vec::new()), |why| Err(BackendError(why)))))
        }
    }

    fn pool() -> Placement {
        let text = |text: &str| text.to_owned();
        Placement::Pool { worker_id: text("w"), address: text("http://w"), lease: text("w-0") }
    }

    fn part(name: &'static str, start: Result<Placement, StartError>) -> ScriptedBackend {
        ScriptedBackend { name, trouble: false, start }
    }

    fn auto(parts: Vec<ScriptedBackend>) -> AutoBackend {
        AutoBackend::new(parts.into_iter().map(|part| Arc::new(part) as Arc<dyn Backend>).collect())
    }

    async fn start(parts: Vec<ScriptedBackend>) -> Result<Placement, StartError> {
        let request = serde_json::json!({
            "v": 1, "submission": "01890a5d-ac96-774b-bcce-b302099a8057", "attempt": 1,
            "request": {
                "language": "bash", "source": "true", "entrypoint": "main.sh",
                "limits": crate::submission::Limits::DEFAULT, "priority": 50,
            },
            "language": {
                "id": "bash", "name": "Bash", "extension": "sh", "source_file": "main.sh",
                "tools": { "bash": ["/bin/bash"] }, "version": { "command": ["{tool:bash}"] },
                "run": { "command": ["{tool:bash}"] },
            },
        });
        let request = Arc::new(serde_json::from_value(request).unwrap());
        auto(parts).start(request).await.map(|execution| execution.placement)
    }

    fn no_place() -> Result<Placement, StartError> {
        Err(StartError::NoPlace("a free slot".to_owned()))
    }

    #[tokio::test]
    async fn an_attempt_goes_to_the_first_that_takes_it() {
        let local = || part("local", Ok(Placement::Local));
        assert_eq!(start(vec![part("pool", Ok(pool())), local()]).await, Ok(pool()));
        assert_eq!(start(vec![part("pool", no_place()), local()]).await, Ok(Placement::Local));
        let away = ScriptedBackend { trouble: true, ..part("pool", Ok(pool())) };
        assert_eq!(start(vec![away, local()]).await, Ok(Placement::Local));
        // It may be there: nobody else is asked.
        let unclear = Err(StartError::Ambiguous("the answer was lost".to_owned()));
        assert_eq!(start(vec![part("nomad", unclear.clone()), local()]).await, unclear);
    }

    #[tokio::test]
    async fn one_that_nobody_takes_is_told_why_and_whether_others_may_go_on() {
        let gone = || Err(StartError::Unavailable("Nomad cannot be reached".to_owned()));
        let both = start(vec![part("pool", no_place()), part("nomad", gone())]).await;
        let reason = "a free slot; Nomad cannot be reached".to_owned();
        assert_eq!(both, Err(StartError::NoPlace(reason)));
        let none = start(vec![part("nomad", gone())]).await;
        assert!(matches!(none, Err(StartError::Unavailable(_))));
    }

    #[tokio::test]
    async fn what_all_refuse_for_good_ends_with_their_reasons_and_what_one_may_take_waits() {
        let never = |why: &str| Err(StartError::Refused(why.to_owned()));
        let parts = || vec![part("pool", never("too long")), part("nomad", never("no address"))];
        assert_eq!(start(parts()).await, never("too long; no address"));
        let mut with = parts();
        with.push(part("local", no_place()));
        let reason = "too long; no address; a free slot".to_owned();
        assert_eq!(start(with).await, Err(StartError::NoPlace(reason)));
        let mut with = parts();
        with.push(ScriptedBackend { trouble: true, ..part("local", never("it is not asked")) });
        assert!(matches!(start(with).await, Err(StartError::NoPlace(_))));
    }

    #[tokio::test]
    async fn what_is_placed_belongs_to_its_kind_and_trouble_is_that_of_all() {
        let away = |name| ScriptedBackend { trouble: true, ..part(name, no_place()) };
        let backend = auto(vec![away("pool"), part("local", Ok(Placement::Local))]);
        assert_eq!(backend.release(&pool()).await, Err(BackendError("pool".to_owned())));
        let nomad = Placement::Nomad {
            job_id: "j".to_owned(),
            evaluation_id: "e".to_owned(),
            allocation_id: None,
            node_id: None,
        };
        assert!(backend.release(&nomad).await.is_err(), "it is not forgotten");
        assert_eq!((backend.trouble(), backend.capacity()), (None, 4));
        assert!(backend.check().await.is_ok() && backend.workers().await.is_ok());
        let backend = auto(vec![away("pool"), away("nomad")]);
        assert_eq!(backend.trouble().unwrap(), "pool is away; nomad is away");
        assert_eq!(backend.capacity(), 1, "so that whoever waits is told what for");
        assert!(backend.check().await.is_err() && backend.workers().await.is_err());
    }
}
