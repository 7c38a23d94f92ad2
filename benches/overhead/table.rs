//! The tables that a run prints.

use std::{fmt, fs};

use serde_json::{Value, json};

use crate::{
    contest::Contest,
    row::{Figure, Row},
};

/// Everything that a run measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    figures: Vec<Figure>,
    contests: Vec<Contest>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("{row}");
        self.rows.push(row);
    }

    pub(crate) fn push_figure(&mut self, figure: Figure) {
        eprintln!("{figure}");
        self.figures.push(figure);
    }

    pub(crate) fn push_contest(&mut self, contest: Contest) {
        self.contests.push(contest);
    }

    pub(crate) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(crate) fn json(&self) -> Value {
        let Table { rows, figures, contests, notes } = self;
        json!({
            "machine": machine(),
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
            "nomad": contests.iter().map(Contest::json).collect::<Vec<_>>(),
            "notes": notes,
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, Row::HEAD, &self.rows)?;
        section(f, Figure::HEAD, &self.figures)?;
        // A contest ends its own lines: it is several.
        if !self.contests.is_empty() {
            writeln!(f, "{}", Contest::HEAD)?;
        }
        for contest in &self.contests {
            write!(f, "{contest}")?;
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}

fn section(f: &mut fmt::Formatter<'_>, head: &str, lines: &[impl fmt::Display]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{head}")?;
    for line in lines {
        writeln!(f, "{line}")?;
    }
    writeln!(f)
}

/// The machine in a line: without it no number means anything.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {}, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}
