//! Who is attached to programs that are talked to while they run.
//!
//! ```text
//!  Handle::attach ── Attachment::send ──> line ──> Execution.input    of the attempt that runs now
//!                     a count            └─ lead: nobody for long? then input ends
//! ```

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use super::{error::ReadError, handle::Handle};
use crate::{
    protocol::{Input, WindowSize},
    store::EventReader,
    submission::{Owner, SubmissionId},
};

/// The lines between those who are attached and programs, by submission. Holds nothing for a submission that
/// nobody is attached to and that does not run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Attached {
    lines: Arc<Mutex<Lines>>,
}

/// Each with how many ends it has.
type Lines = HashMap<SubmissionId, (usize, Arc<watch::Sender<Line>>)>;

/// What is known at one time.
#[derive(Debug, Default)]
struct Line {
    /// How many are attached.
    attached: usize,
    /// Where the program of the attempt that runs takes input.
    input: Option<mpsc::Sender<Input>>,
    /// The size that its terminal was given last: the next attempt's has it from the beginning.
    size: Option<WindowSize>,
}

/// An end of a line.
#[derive(Debug)]
struct End {
    all: Attached,
    id: SubmissionId,
    line: Arc<watch::Sender<Line>>,
}

/// Somebody who is attached, until dropped.
#[derive(Debug)]
pub struct Attachment(End);

/// A program that has input, until dropped.
struct Led<'a>(&'a End);

impl Attached {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: SubmissionId) -> End {
        let mut lines = self.lock();
        let (ends, line) = lines.entry(id).or_default();
        *ends += 1;
        End { all: self.clone(), id, line: line.clone() }
    }

    fn attach(&self, id: SubmissionId) -> Attachment {
        let end = self.end(id);
        end.line.send_modify(|line| line.attached += 1);
        Attachment(end)
    }

    /// Leads what is sent to where the program of a submission takes it, and ends its input each time that nobody
    /// has been attached for so long. Does not return; `None` of a program that nobody can talk to.
    pub(super) async fn lead(
        &self,
        id: SubmissionId,
        input: Option<mpsc::Sender<Input>>,
        patience: Duration,
    ) -> Infallible {
        let Some(input) = input else { return std::future::pending().await };
        let end = self.end(id);
        end.line.send_modify(|line| {
            if let Some(size) = line.size {
                // Before anybody else: there is room, unless it has ended.
                let _ = input.try_send(Input::Resize(size));
            }
            line.input = Some(input.clone());
        });
        let _led = Led(&end);
        let mut seen = end.line.subscribe();
        loop {
            // The line is there as long as its end.
            let _ = seen.wait_for(|line| line.attached == 0).await;
            let back = seen.wait_for(|line| line.attached > 0);
            if tokio::time::timeout(patience, back).await.is_err() {
                // Of no use to a program that has ended.
                let _ = input.send(Input::End).await;
            }
        }
    }
}

impl Attachment {
    /// Sends to the program, as soon as it runs and has room for more. What it does not read is lost with it.
    pub async fn send(&self, input: Input) {
        if let Input::Resize(size) = input
            && !self.note(size)
        {
            return;
        }
        let mut seen = self.0.line.subscribe();
        let Ok(line) =
            seen.wait_for(|line| line.input.is_some()).await.map(|line| line.input.clone())
        else {
            return;
        };
        if let Some(to) = line {
            let _ = to.send(input).await;
        }
    }

    /// Has the terminal of the next attempt begin with this size; whether there is one now that is to be told.
    pub fn note(&self, size: WindowSize) -> bool {
        let mut runs = false;
        self.0.line.send_modify(|line| (line.size, runs) = (Some(size), line.input.is_some()));
        runs
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.0.line.send_modify(|line| line.attached -= 1);
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        self.0.line.send_modify(|line| line.input = None);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut lines = self.all.lock();
        if let Some((ends, _)) = lines.get_mut(&self.id) {
            *ends -= 1;
            if *ends == 0 {
                lines.remove(&self.id);
            }
        }
    }
}

impl Handle {
    /// Whether programs can be talked to where they run.
    pub fn takes_input(&self) -> bool {
        self.core.backend.takes_input()
    }

    /// Attaches to a submission, and follows it from behind the event with number `after`, or from its acceptance.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn attach(
        &self,
        owner: &Owner,
        id: SubmissionId,
        after: Option<u64>,
    ) -> Result<(EventReader, Attachment), ReadError> {
        let found = self.core.store.find(owner, id).await?;
        let submission = found.ok_or(ReadError::NotFound)?;
        if submission.request.interactive.is_none() {
            return Err(ReadError::NotInteractive);
        }
        let attachment = self.core.attached.attach(id);
        Ok((self.follow(owner, id, after).await?, attachment))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::submission::Timestamp;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn id() -> SubmissionId {
        SubmissionId::new(Timestamp::from_millis(1))
    }

    /// Leads to the receiver while `act` goes on.
    async fn led<T>(
        attached: &Attached,
        id: SubmissionId,
        act: impl AsyncFnOnce(&mut mpsc::Receiver<Input>) -> T,
    ) -> T {
        let (sender, mut input) = mpsc::channel(4);
        tokio::select! {
            never = attached.lead(id, Some(sender), PATIENCE) => match never {},
            done = act(&mut input) => done,
        }
    }

    #[tokio::test]
    async fn input_ends_when_nobody_has_been_attached_for_so_long_and_again_after_that() {
        led(&Attached::default(), id(), async |input| {
            let begun = Instant::now();
            assert_eq!(input.recv().await, Some(Input::End));
            assert!(begun.elapsed() >= PATIENCE);
            assert_eq!(input.recv().await, Some(Input::End));
            assert!(begun.elapsed() >= 2 * PATIENCE);
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_is_attached_keeps_it_open_and_who_goes_last_begins_the_wait() {
        let (attached, id) = (Attached::default(), id());
        let (first, second) = (attached.attach(id), attached.attach(id));
        led(&attached, id, async |input| {
            sleep(2 * PATIENCE).await;
            drop(first);
            sleep(2 * PATIENCE).await;
            assert!(input.is_empty());
            let gone = Instant::now();
            drop(second);
            assert_eq!(input.recv().await, Some(Input::End));
            assert!(gone.elapsed() >= PATIENCE);
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_sent_before_the_program_runs_waits_for_it() {
        let (attached, id) = (Attached::default(), id());
        let attachment = attached.attach(id);
        let send = attachment.send(Input::Data { data: "early".into() });
        let receive = async {
            sleep(PATIENCE).await;
            led(&attached, id, async |input| input.recv().await).await
        };
        let ((), received) = tokio::join!(send, receive);
        assert_eq!(received, Some(Input::Data { data: "early".into() }));
    }

    #[tokio::test]
    async fn each_attempt_begins_with_the_size_that_was_named_last() {
        let (attached, id) = (Attached::default(), id());
        let attachment = attached.attach(id);
        let size = |rows| Input::Resize(WindowSize { rows, columns: 100 });
        attachment.send(size(10)).await;
        attachment.send(size(20)).await;
        for _ in 0..2 {
            let first = led(&attached, id, async |input| input.recv().await).await;
            assert_eq!(first, Some(size(20)));
        }
        let later = led(&attached, id, async |input| {
            input.recv().await;
            tokio::join!(attachment.send(size(30)), input.recv()).1
        });
        assert_eq!(later.await, Some(size(30)));
    }

    #[tokio::test]
    async fn nothing_is_kept_when_neither_end_is_there() {
        let (attached, id) = (Attached::default(), id());
        let attachment = attached.attach(id);
        led(&attached, id, async |_| assert_eq!(attached.lock().len(), 1)).await;
        assert_eq!(attached.lock().len(), 1);
        drop(attachment);
        assert!(attached.lock().is_empty());
    }
}
