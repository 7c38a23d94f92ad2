//! What a load test measured, added up as it comes, and how it is told.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::Sent;

/// The longest latency told apart: an hour, in microseconds. Longer ones count as an hour.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// Kinds of errors, and verdicts, that are counted apart; what comes after them is "other". Both
/// come from the server, and a broken one shall not fill our memory.
const MAX_KINDS: usize = 32;

/// Counts and latencies so far. Of bounded size, however many are recorded.
#[derive(Debug)]
pub(super) struct Tally {
    latencies: Histogram<u64>,
    verdicts: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    failed: u64,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)
            .expect("1 to an hour with 3 digits is a sound range");
        Tally { latencies, verdicts: BTreeMap::new(), errors: BTreeMap::new(), failed: 0 }
    }

    /// Adds one submission. Only those that finished have a latency.
    pub(super) fn record(&mut self, sent: Sent, latency: Duration) {
        match sent {
            Sent::Finished(verdict) => {
                let micros = latency.as_micros().min(u128::from(MAX_LATENCY_US)) as u64;
                self.latencies.saturating_record(micros);
                count(&mut self.verdicts, verdict);
            }
            Sent::Failed(kind) => {
                self.failed += 1;
                count(&mut self.errors, kind);
            }
        }
    }

    /// Submissions that finished.
    pub(super) fn finished(&self) -> u64 {
        self.latencies.len()
    }

    /// Submissions that did not.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// The latency, in milliseconds, that this share of the finished did not exceed.
    fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile).min(self.latencies.max()) as f64 / 1_000.0
    }

    /// The latencies; `None` while nothing finished.
    pub(super) fn latency(&self) -> Option<Latency> {
        (self.finished() > 0).then(|| Latency {
            p50: self.quantile_ms(0.50),
            p90: self.quantile_ms(0.90),
            p99: self.quantile_ms(0.99),
            max: self.latencies.max() as f64 / 1_000.0,
        })
    }

    /// The verdicts, and the errors by kind, each with how many.
    pub(super) fn into_counts(self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        (self.verdicts, self.errors)
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: String) {
    let key = if counts.len() < MAX_KINDS || counts.contains_key(&key) {
        key
    } else {
        "other".to_owned()
    };
    *counts.entry(key).or_default() += 1;
}

/// Latencies of finished submissions, in milliseconds, from when each was due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    /// Half of them took no longer.
    pub(super) p50: f64,
    /// 90 % of them took no longer.
    pub(super) p90: f64,
    /// 99 % of them took no longer.
    pub(super) p99: f64,
    /// The longest.
    pub(super) max: f64,
}

/// The result of a load test. What `--json` prints, and, displayed, what it prints without.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// The daemon that was tested.
    pub(super) url: String,
    /// The kind of program, or its path.
    pub(super) program: String,
    /// Its language.
    pub(super) language: String,
    /// What the lengths of `output` programs were drawn from.
    pub(super) seed: u64,
    /// Connections at once, at the most.
    pub(super) connections: usize,
    /// Submissions a second that were to be sent; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rate: Option<f64>,
    /// From the first request to the last answer.
    pub(super) elapsed_ms: f64,
    /// Submissions that finished, with whatever verdict.
    pub(super) finished: u64,
    /// Submissions that did not.
    pub(super) failed: u64,
    /// Submissions that were under way when the test was interrupted.
    pub(super) interrupted: u64,
    /// Submissions that were due but not sent, since all connections were busy.
    pub(super) unsent: u64,
    /// Finished submissions a second.
    pub(super) throughput_per_second: f64,
    /// Absent when nothing finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_ms: Option<Latency>,
    /// How many finished with each verdict.
    pub(super) verdicts: BTreeMap<String, u64>,
    /// How many failed in each way.
    pub(super) errors: BTreeMap<String, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pace = self.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} a second"));
        writeln!(
            f,
            "{} ({}) to {}, {pace}, {} connections, seed {}",
            self.program, self.language, self.url, self.connections, self.seed
        )?;
        write!(f, "submissions  {} finished, {} failed", self.finished, self.failed)?;
        if self.interrupted > 0 {
            write!(f, ", {} interrupted", self.interrupted)?;
        }
        if self.unsent > 0 {
            write!(f, ", {} due but never sent: all connections were busy", self.unsent)?;
        }
        let (rate, seconds) = (self.throughput_per_second, self.elapsed_ms / 1_000.0);
        writeln!(f, "\nthroughput   {rate:.1} a second over {seconds:.1} s")?;
        if let Some(Latency { p50, p90, p99, max }) = self.latency_ms {
            writeln!(
                f,
                "latency      p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms"
            )?;
        }
        for (heading, counts) in [("verdicts", &self.verdicts), ("errors", &self.errors)] {
            for (row, (key, count)) in counts.iter().enumerate() {
                let heading = if row == 0 { heading } else { "" };
                writeln!(f, "{heading:<12} {count:>8}  {key}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(verdict: &str) -> Sent {
        Sent::Finished(verdict.to_owned())
    }

    #[test]
    fn quantiles_are_those_of_the_finished_alone() {
        let mut tally = Tally::new();
        for millis in 1..=100 {
            tally.record(finished("accepted"), Duration::from_millis(millis));
        }
        tally.record(Sent::Failed("503".to_owned()), Duration::from_secs(100));
        let latency = tally.latency().unwrap();
        for (measured, expected) in
            [(latency.p50, 50.0), (latency.p90, 90.0), (latency.p99, 99.0), (latency.max, 100.0)]
        {
            assert!((measured - expected).abs() / expected < 0.002, "{latency:?}");
        }
        assert_eq!((tally.finished(), tally.failed()), (100, 1));
    }

    #[test]
    fn without_a_finished_one_there_is_no_latency() {
        let mut tally = Tally::new();
        tally.record(Sent::Failed("cannot connect".to_owned()), Duration::from_millis(1));
        assert_eq!(tally.latency(), None);
    }

    #[test]
    fn a_latency_beyond_an_hour_counts_as_an_hour() {
        let mut tally = Tally::new();
        tally.record(finished("accepted"), Duration::from_secs(100_000));
        let max = tally.latency().unwrap().max;
        assert!((3_600_000.0..3_610_000.0).contains(&max), "{max}");
    }

    #[test]
    fn kinds_beyond_the_bound_count_as_other() {
        let mut tally = Tally::new();
        for kind in 0..100 {
            tally.record(Sent::Failed(format!("kind {kind:03}")), Duration::ZERO);
        }
        let (_, errors) = tally.into_counts();
        assert_eq!(errors.len(), MAX_KINDS + 1);
        assert_eq!(errors["other"], 100 - MAX_KINDS as u64);
        assert_eq!(errors.values().sum::<u64>(), 100);
    }
}
