//! The shapes of everything that goes in and out. Their doc comments are the public documentation:
//! unit, default and maximum stand there.

mod event;
mod output;
mod request;
mod service;
mod submission;

pub use event::{EventType, RunSummary, SubmissionEvent};
pub use output::{Output, OutputData};
pub use request::{
    BatchRequest, Checker, CheckerType, Encoding, Limits, SourceFile, SubmissionRequest, Test,
};
pub use service::{
    Language, LanguageList, LanguageStatus, Latency, Live, LiveStatus, MinuteStats, Part,
    PartStatus, Ready, ReadyStatus, SandboxLayer, StateCounts, Stats, StatsHistory, Worker,
    WorkerList,
};
pub use submission::{
    BatchResponse, BatchResult, CollectedFile, CompileReport, Outcome, Placement, PlacementKind,
    Run, RunVerdict, State, Submission, SubmissionList, SubmissionSummary, Verdict,
};
