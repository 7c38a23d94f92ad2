//! Samples, and the one table that a run prints.

use std::{fmt, fs, time::Duration};

/// Durations of one thing, measured again and again.
#[derive(Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Keeps `sample`, unless it is of the warm-up.
    pub(crate) fn push_if(&mut self, counts: bool, sample: Duration) {
        if counts {
            self.0.push(sample);
        }
    }

    /// The duration, in milliseconds, that this share of the samples did not exceed.
    fn quantile_ms(&self, quantile: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let at = (last as f64 * quantile).round() as usize;
        sorted.get(at).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1_000.0)
    }
}

/// One thing against another.
pub(crate) struct Row {
    name: String,
    p50_ms: f64,
    p99_ms: f64,
    base_name: String,
    base_p50_ms: f64,
    aim_ms: Option<f64>,
}

impl Row {
    pub(crate) fn against(name: &str, samples: &Samples, base_name: &str, base: &Samples) -> Self {
        Row {
            name: name.to_owned(),
            p50_ms: samples.quantile_ms(0.5),
            p99_ms: samples.quantile_ms(0.99),
            base_name: base_name.to_owned(),
            base_p50_ms: base.quantile_ms(0.5),
            aim_ms: None,
        }
    }

    /// What it may cost more than the other at p50.
    pub(crate) fn aim(mut self, more: Duration) -> Self {
        self.aim_ms = Some(more.as_secs_f64() * 1_000.0);
        self
    }
}

/// The least share of the bare loop's throughput that the nomad backend is to reach.
const THROUGHPUT_AIM: f64 = 0.9;

/// The most that its median may be, as a multiple of the bare loop's.
const P50_AIM: f64 = 1.15;

/// What one side of a contest did in all its turns.
#[derive(Default)]
pub(crate) struct Side {
    latencies: Samples,
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
        self.latencies.0.extend(workers.into_iter().flat_map(|(latencies, _)| latencies));
        self.agent_cpu += agent_cpu;
        self.daemon_cpu += daemon_cpu;
    }

    fn rate(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    fn a_job_ms(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1_000.0 / self.latencies.0.len() as f64
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
        self.ours.latencies.quantile_ms(0.5) / self.bare.latencies.quantile_ms(0.5)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contest { name, in_flight, ours, bare } = self;
        for (who, side) in [("braindrill", ours), ("bare dispatch", bare)] {
            let (p50, p90) = (side.latencies.quantile_ms(0.5), side.latencies.quantile_ms(0.9));
            let (rate, jobs) = (side.rate(), side.latencies.0.len());
            let agent = side.a_job_ms(side.agent_cpu);
            let daemon = side.a_job_ms(side.daemon_cpu);
            writeln!(
                f,
                "| {name} | {in_flight} | {who} | {p50:.0} | {p90:.0} | {rate:.1} | {jobs} | \
                 {agent:.0} | {daemon:.1} | |"
            )?;
        }
        let (throughput, p50) = (self.throughput_ratio(), self.p50_ratio());
        let p90 = ours.latencies.quantile_ms(0.9) / bare.latencies.quantile_ms(0.9);
        let agent = ours.a_job_ms(ours.agent_cpu) / bare.a_job_ms(bare.agent_cpu);
        let said = |met| if met { "met" } else { "missed" };
        writeln!(
            f,
            "| {name} | {in_flight} | ratio | {p50:.2} | {p90:.2} | {throughput:.2} | | {agent:.2} | | \
             a second at least {THROUGHPUT_AIM}: {}; p50 at most {P50_AIM}: {} |",
            said(throughput >= THROUGHPUT_AIM),
            said(p50 <= P50_AIM),
        )
    }
}

/// Everything that a run measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    rates: Vec<(String, f64)>,
    contests: Vec<Contest>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn push_rate(&mut self, name: &str, count: usize, elapsed: Duration) {
        self.rates.push((name.to_owned(), count as f64 / elapsed.as_secs_f64()));
    }

    pub(crate) fn push_contest(&mut self, contest: Contest) {
        self.contests.push(contest);
    }

    pub(crate) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rows.is_empty() {
            writeln!(f, "| what | p50 ms | p99 ms | against | p50 ms | ratio | more, ms | aim |")?;
            writeln!(f, "|---|---|---|---|---|---|---|---|")?;
            for row in &self.rows {
                let Row { name, p50_ms, p99_ms, base_name, base_p50_ms, aim_ms } = row;
                let (ratio, more) = (p50_ms / base_p50_ms, p50_ms - base_p50_ms);
                let aim = aim_ms.map_or(String::new(), |aim| {
                    format!("at most {aim}: {}", if more <= aim { "met" } else { "missed" })
                });
                writeln!(
                    f,
                    "| {name} | {p50_ms:.2} | {p99_ms:.2} | {base_name} | {base_p50_ms:.2} | \
                 {ratio:.2} | {more:.2} | {aim} |"
                )?;
            }
        }
        if !self.rates.is_empty() {
            writeln!(f, "\n| what | a second |\n|---|---|")?;
            for (name, rate) in &self.rates {
                writeln!(f, "| {name} | {rate:.0} |")?;
            }
        }
        if !self.contests.is_empty() {
            writeln!(
                f,
                "\n| nomad backend | in flight | who | p50 ms | p90 ms | a second | jobs | \
                 agent CPU ms a job | daemon CPU ms a job | aim |"
            )?;
            writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        }
        for contest in &self.contests {
            contest.write(f)?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// The machine in a line: without it no number means anything.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {}, Linux {}\n", model.unwrap_or("unknown processor"), kernel.trim())
}
