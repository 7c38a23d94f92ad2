//! Figures for Prometheus: `braindrill_<noun>_<unit>`. The only place that knows Prometheus.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use tokio_util::sync::CancellationToken;

use crate::{dispatcher::Observer, submission::Verdict};

/// Upper bounds of the buckets of all times, in seconds: from one sandbox start to the longest run.
const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// How long times are kept one by one: some 25 bytes a run.
const COUNTING: Duration = Duration::from_secs(5);

/// Begins to collect, for the whole process.
///
/// # Errors
/// It was begun before.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()
}

/// Counts, every few seconds until `soft` is cancelled, the times that were recorded. Until then each is
/// kept by itself, and where nobody asks for the figures that would be for good.
pub async fn keep_up(figures: PrometheusHandle, soft: CancellationToken) {
    while soft.run_until_cancelled(tokio::time::sleep(COUNTING)).await.is_some() {
        figures.run_upkeep();
    }
}

/// A request was answered.
pub fn http_request(operation: &str, status: u16, duration: Duration) {
    let labels = [("operation", operation.to_owned()), ("status", status.to_string())];
    counter!("braindrill_http_requests_total", &labels).increment(1);
    let labels = [("operation", operation.to_owned())];
    histogram!("braindrill_http_request_seconds", &labels).record(duration.as_secs_f64());
}

/// So many runs had an interpreter that was started before them, since the daemon began.
pub fn handed_over(runs: u64) {
    counter!("braindrill_prepared_runs_total").absolute(runs);
}

/// Leased workers: that there should be, that are there, and that are on their way.
pub fn leased_workers(wanted: usize, present: usize, coming: usize) {
    for (state, count) in [("wanted", wanted), ("present", present), ("coming", coming)] {
        gauge!("braindrill_leased_workers", "state" => state).set(count as f64);
    }
}

/// Counts what the engine does.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineMetrics;

impl Observer for EngineMetrics {
    fn accepted(&self, language: &str) {
        counter!("braindrill_submissions_accepted_total", "language" => language.to_owned())
            .increment(1);
    }

    fn started(&self, language: &str, waited: Duration) {
        histogram!("braindrill_queue_wait_seconds", "language" => language.to_owned())
            .record(waited.as_secs_f64());
    }

    fn compiled(&self, cached: bool) {
        let cached = if cached { "true" } else { "false" };
        counter!("braindrill_compiles_total", "cached" => cached).increment(1);
    }

    fn finished(&self, verdict: Verdict, latency: Duration) {
        counter!("braindrill_submissions_finished_total", "verdict" => verdict.as_str())
            .increment(1);
        histogram!("braindrill_submission_latency_seconds").record(latency.as_secs_f64());
    }

    fn attempt_lost(&self) {
        counter!("braindrill_attempts_lost_total").increment(1);
    }

    fn backend_unavailable(&self) {
        counter!("braindrill_backend_refusals_total").increment(1);
    }

    fn queue_depth(&self, waiting: u64) {
        gauge!("braindrill_queued_submissions").set(waiting as f64);
    }

    fn in_flight(&self, attempts: usize) {
        gauge!("braindrill_running_attempts").set(attempts as f64);
    }
}
