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

/// Everything that a run measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    rates: Vec<(String, f64)>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn push_rate(&mut self, name: &str, count: usize, elapsed: Duration) {
        self.rates.push((name.to_owned(), count as f64 / elapsed.as_secs_f64()));
    }

    pub(crate) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        writeln!(f, "\n| what | a second |\n|---|---|")?;
        for (name, rate) in &self.rates {
            writeln!(f, "| {name} | {rate:.0} |")?;
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
