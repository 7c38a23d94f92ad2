//! What the API reads: submissions, lists and figures as they stand at one instant.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    store::{Kept, KeptOutput},
    submission::{StateName, Submission, SubmissionId, Timestamp, Verdict},
};

/// A submission with the output that is kept of its runs.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The submission.
    pub submission: Submission,
    /// Kept output of the runs of the attempt that gave the outcome, in run order; empty until then.
    pub outputs: Vec<KeptOutput>,
    /// Both streams of each of them together, in the order in which they were written, where that was asked for.
    pub both: Vec<Kept>,
}

/// One stream of one run, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamView {
    /// What is kept of it until now.
    pub kept: Kept,
    /// How many bytes had arrived, kept or not.
    pub bytes: u64,
    /// Whether more had arrived than is kept.
    pub truncated: bool,
}

/// What became of a submit.
#[derive(Debug, Clone, PartialEq)]
pub struct Submitted {
    /// The submission, new or that of the earlier request.
    pub view: View,
    /// Whether it is that of an earlier request with the same key.
    pub replayed: bool,
}

/// Which submissions to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<StateName>,
    /// Only in this language, by id.
    pub language: Option<String>,
    /// Only with this verdict.
    pub verdict: Option<Verdict>,
    /// Only older than this: the last of the page before.
    pub before: Option<SubmissionId>,
    /// At most so many, 1 to 100.
    pub limit: u32,
}

/// One line of a list: no request, no runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its identity.
    pub id: SubmissionId,
    /// Where it stands.
    pub state: StateName,
    /// The id of its language.
    pub language: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its latest attempt began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// How it ended.
    pub verdict: Option<Verdict>,
}

/// Part of a list, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The items.
    pub items: Vec<Summary>,
    /// The `before` of the next page, when there is one.
    pub next: Option<SubmissionId>,
}

/// Figures of the engine now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Submissions in each state; all four names are present.
    pub submissions: BTreeMap<&'static str, u64>,
    /// Accepted during the last minute.
    pub accepted_last_minute: u64,
    /// Finished during the last minute.
    pub finished_last_minute: u64,
    /// From accept to finish, over the last hour at the most, of those finished since the start:
    /// p50, p90, p99; absent while there are none.
    pub latency: Option<[Duration; 3]>,
}

/// What happened in one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteStats {
    /// When it began.
    pub at: Timestamp,
    /// Submissions that were accepted in it.
    pub accepted: u64,
    /// Submissions that ended in it.
    pub finished: u64,
    /// How many of those ended how; those that are none are left out.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// The most that were seen to wait at once.
    pub most_queued: u64,
    /// The most that were seen to run at once.
    pub most_running: u64,
    /// From accept to finish of those that ended in it: p50, p90, p99.
    pub latency: Option<[Duration; 3]>,
}

/// Whether submissions are taken, and how each part is.
#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    /// Whether submissions are taken.
    pub accepting: bool,
    /// `store`, `backend`, `dispatcher`, each with how it is.
    pub parts: BTreeMap<&'static str, PartStatus>,
}

/// How one part is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartStatus {
    /// As it should.
    Ok,
    /// Not as it should, in a sentence that names nothing inside.
    Degraded(String),
}
