//! The nomad backend against a bare loop of dispatches: two rows of what each did, and a third of ratios.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::row::quantile_ms;

/// The least share of the bare loop's throughput that the nomad backend is to reach.
const THROUGHPUT_AIM: f64 = 0.9;

/// The most that its median may be, as a multiple of the bare loop's.
const P50_AIM: f64 = 1.15;

/// What one side of a contest did in all its turns.
#[derive(Default)]
pub(crate) struct Side {
    latencies: Vec<Duration>,
    /// Jobs a second in each turn.
    rates: Vec<f64>,
    agent_cpu: Duration,
    daemon_cpu: Duration,
}

impl Side {
    /// Adds a turn: each worker's latencies with how long it worked, and the processor time that the
    /// agent with its tasks and the daemon took.
    pub(crate) fn add(
        &mut self,
        workers: Vec<(Vec<Duration>, Duration)>,
        (agent_cpu, daemon_cpu): (Duration, Duration),
    ) {
        let rate = |(latencies, worked): &(Vec<Duration>, Duration)| {
            latencies.len() as f64 / worked.as_secs_f64()
        };
        // Of each worker by itself: otherwise those who end first would seem idle until the last does.
        self.rates.push(workers.iter().map(rate).sum());
        self.latencies.extend(workers.into_iter().flat_map(|(latencies, _)| latencies));
        self.latencies.sort_unstable();
        self.agent_cpu += agent_cpu;
        self.daemon_cpu += daemon_cpu;
    }

    fn rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latencies, quantile)
    }

    fn a_job_ms(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1_000.0 / self.latencies.len() as f64
    }
}

/// The nomad backend against a bare loop of dispatches.
pub(crate) struct Contest {
    pub(crate) name: &'static str,
    pub(crate) in_flight: usize,
    pub(crate) ours: Side,
    pub(crate) bare: Side,
}

impl Contest {
    fn throughput_ratio(&self) -> f64 {
        self.ours.rate() / self.bare.rate()
    }

    fn p50_ratio(&self) -> f64 {
        self.ours.quantile_ms(0.5) / self.bare.quantile_ms(0.5)
    }

    /// The names of the columns.
    pub(crate) const HEAD: &str = "\
        | nomad backend | in flight | who | p50 ms | p90 ms | a second | jobs | agent CPU ms a job | \
         daemon CPU ms a job | aim |\n|---|---|---|---|---|---|---|---|---|---|";

    pub(crate) fn json(&self) -> Value {
        let side = |side: &Side| {
            json!({
                "p50_ms": side.quantile_ms(0.5), "p90_ms": side.quantile_ms(0.9),
                "p99_ms": side.quantile_ms(0.99), "a_second": side.rate(),
                "agent_cpu_ms_a_job": side.a_job_ms(side.agent_cpu),
                "daemon_cpu_ms_a_job": side.a_job_ms(side.daemon_cpu),
            })
        };
        json!({
            "name": self.name, "in_flight": self.in_flight, "ours": side(&self.ours),
            "base": side(&self.bare), "ratio_of_rates": self.throughput_ratio(),
            "ratio_of_p50": self.p50_ratio(),
        })
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contest { name, in_flight, ours, bare } = self;
        for (who, side) in [("braindrill", ours), ("bare dispatch", bare)] {
            let (p50, p90) = (side.quantile_ms(0.5), side.quantile_ms(0.9));
            let (rate, jobs) = (side.rate(), side.latencies.len());
            let agent = side.a_job_ms(side.agent_cpu);
            let daemon = side.a_job_ms(side.daemon_cpu);
            writeln!(
                f,
                "| {name} | {in_flight} | {who} | {p50:.0} | {p90:.0} | {rate:.1} | {jobs} | \
                 {agent:.0} | {daemon:.1} | |"
            )?;
        }
        let (throughput, p50) = (self.throughput_ratio(), self.p50_ratio());
        let p90 = ours.quantile_ms(0.9) / bare.quantile_ms(0.9);
        let agent = ours.a_job_ms(ours.agent_cpu) / bare.a_job_ms(bare.agent_cpu);
        let said = |met| if met { "met" } else { "not met" };
        writeln!(
            f,
            "| {name} | {in_flight} | ratio | {p50:.2} | {p90:.2} | {throughput:.2} | | {agent:.2} | | \
             a second at least {THROUGHPUT_AIM}: {}; p50 at most {P50_AIM}: {} |",
            said(throughput >= THROUGHPUT_AIM),
            said(p50 <= P50_AIM),
        )
    }
}
