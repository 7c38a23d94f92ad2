//! Owns a submission between queued and finished.

mod handle;

pub use handle::{
    Filter, Handle, Page, PartStatus, ReadError, Readiness, RunOutput, Stats, SubmitError,
    Submitted, Summary, View,
};
