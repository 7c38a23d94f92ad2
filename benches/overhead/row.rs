//! A row of the table: one thing against another, measured in turns.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

/// What one side did while it was its turn.
#[derive(Default, Clone)]
pub(crate) struct Turn {
    /// Sorted.
    latencies: Vec<Duration>,
    /// A second.
    rate: f64,
}

impl Turn {
    /// From what each of those who worked at once measured, and how long it worked. Each by itself:
    /// otherwise those who end first would seem idle until the last does.
    pub(crate) fn of_workers(workers: Vec<(Vec<Duration>, Duration)>) -> Turn {
        let rate = |(latencies, worked): &(Vec<Duration>, Duration)| {
            latencies.len() as f64 / worked.as_secs_f64()
        };
        let rate = workers.iter().map(rate).sum();
        Turn::new(workers.into_iter().flat_map(|(latencies, _)| latencies).collect(), rate)
    }

    /// From latencies, and how many a second there were.
    pub(crate) fn new(mut latencies: Vec<Duration>, rate: f64) -> Turn {
        latencies.sort_unstable();
        Turn { latencies, rate }
    }

    /// A rate alone.
    pub(crate) fn of_rate(count: usize, elapsed: Duration) -> Turn {
        Turn { latencies: Vec::new(), rate: count as f64 / elapsed.as_secs_f64() }
    }

    /// The duration, in milliseconds, that this share did not exceed.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latencies, quantile)
    }
}

/// Of sorted durations.
pub(crate) fn quantile_ms(sorted: &[Duration], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * quantile).round() as usize;
    sorted.get(at).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1_000.0)
}

/// The turns of one side.
#[derive(Default, Clone)]
pub(crate) struct Side(pub(crate) Vec<Turn>);

impl Side {
    fn figures(&self) -> [f64; 4] {
        let mut all: Vec<Duration> = Vec::new();
        for turn in &self.0 {
            all.extend(&turn.latencies);
        }
        all.sort_unstable();
        let rate = self.0.iter().map(|turn| turn.rate).sum::<f64>() / self.0.len() as f64;
        [quantile_ms(&all, 0.5), quantile_ms(&all, 0.9), quantile_ms(&all, 0.99), rate]
    }

    fn json(&self, name: &str) -> Value {
        let [p50_ms, p90_ms, p99_ms, rate] = self.figures();
        let count: usize = self.0.iter().map(|turn| turn.latencies.len()).sum();
        let count = (count > 0).then_some(count);
        json!({
            "name": name, "count": count, "p50_ms": p50_ms, "p90_ms": p90_ms, "p99_ms": p99_ms,
            "a_second": rate,
        })
    }
}

/// What an aim is about.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// So many a second.
    Rate,
    /// The median in milliseconds.
    P50,
    /// So many times as many a second as the other.
    RateRatio,
    /// So many times the median of the other.
    P50Ratio,
    /// So much more than the median of the other, in milliseconds.
    P50More,
    /// So much more of all cores' time for each than the other, in milliseconds, on a full machine.
    CoreTimeMore,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(crate) fn said(self, value: f64) -> String {
        let (words, bound, met) = match self {
            Bound::AtLeast(bound) => ("at least", bound, value >= bound),
            Bound::AtMost(bound) => ("at most", bound, value <= bound),
        };
        if met {
            format!("{words} {bound}: met")
        } else {
            format!("{words} {bound}: not met: {value:.2}")
        }
    }
}

/// One thing against another.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: Side,
    pub(crate) base_name: String,
    pub(crate) base: Side,
    aims: Vec<(Of, Bound)>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, base_name: impl Into<String>) -> Row {
        Row {
            name: name.into(),
            ours: Side::default(),
            base_name: base_name.into(),
            base: Side::default(),
            aims: Vec::new(),
        }
    }

    pub(crate) fn aim(mut self, of: Of, bound: Bound) -> Self {
        self.aims.push((of, bound));
        self
    }

    /// A turn of each.
    pub(crate) fn push(&mut self, ours: Turn, base: Turn) {
        self.ours.0.push(ours);
        self.base.0.push(base);
    }

    /// The median over the turns, with the least and the most.
    fn over_turns(&self, of: Of) -> [f64; 3] {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let value = |(ours, base): (&Turn, &Turn)| match of {
            Of::Rate => ours.rate,
            Of::P50 => ours.quantile_ms(0.5),
            Of::RateRatio => ours.rate / base.rate,
            Of::P50Ratio => ours.quantile_ms(0.5) / base.quantile_ms(0.5),
            Of::P50More => ours.quantile_ms(0.5) - base.quantile_ms(0.5),
            Of::CoreTimeMore => cores * 1_000.0 * (1.0 / ours.rate - 1.0 / base.rate),
        };
        let mut values: Vec<f64> = self.ours.0.iter().zip(&self.base.0).map(value).collect();
        values.sort_unstable_by(f64::total_cmp);
        match (values.first(), values.get(values.len() / 2), values.last()) {
            (Some(&least), Some(&median), Some(&most)) => [median, least, most],
            _ => [f64::NAN; 3],
        }
    }

    fn said_aims(&self) -> Vec<String> {
        let said = |(of, bound): &(Of, Bound)| {
            let what = match of {
                Of::Rate => "a second",
                Of::P50 => "p50 ms",
                Of::RateRatio => "ratio of rates",
                Of::P50Ratio => "ratio of p50",
                Of::P50More => "more ms",
                Of::CoreTimeMore => "more ms of core time",
            };
            format!("{what} {}", bound.said(self.over_turns(*of)[0]))
        };
        self.aims.iter().map(said).collect()
    }

    pub(crate) fn json(&self) -> Value {
        let [rates, p50s] = [Of::RateRatio, Of::P50Ratio].map(|of| {
            let [median, least, most] = self.over_turns(of);
            json!({ "median": median, "least": least, "most": most })
        });
        json!({
            "name": self.name, "ours": self.ours.json("braindrill"),
            "base": self.base.json(&self.base_name), "turns": self.ours.0.len(),
            "ratio_of_rates": rates, "ratio_of_p50": p50s, "aims": self.said_aims(),
        })
    }

    /// The names of the columns.
    pub(crate) const HEAD: &str = "\
        | what | p50 ms | p90 | p99 | a second | against | p50 ms | p90 | p99 | a second | \
         ratio of rates | ratio of p50 | aim |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |side: &Side| side.figures().map(short).join(" | ");
        let ratio = |of| {
            let [median, least, most] = self.over_turns(of);
            if median.is_nan() {
                String::new()
            } else {
                format!("{median:.2} ({least:.2} to {most:.2})")
            }
        };
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            cells(&self.ours),
            self.base_name,
            cells(&self.base),
            ratio(Of::RateRatio),
            ratio(Of::P50Ratio),
            self.said_aims().join("; "),
        )
    }
}

/// A number with as many digits as mean something.
fn short(value: f64) -> String {
    match value {
        value if value.is_nan() => String::new(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// One figure that is no duration and no rate.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) aim: Option<Bound>,
}

impl Figure {
    fn said_aim(&self) -> String {
        self.aim.map_or(String::new(), |bound| bound.said(self.value))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "value": self.value, "aim": self.said_aim(),
        })
    }

    /// The names of the columns.
    pub(crate) const HEAD: &str = "| what | figure | aim |\n|---|---|---|";
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { name, unit, value, .. } = self;
        write!(f, "| {name} | {} {unit} | {} |", short(*value), self.said_aim())
    }
}
