//! `make bench`: what braindrill adds to a bare process, measured in one run on one machine.
//!
//! Not a test: nothing fails for being slow. Each pair is measured in turns, so that whatever else
//! the machine does falls on both; what counts is the difference and the ratio, not the
//! milliseconds. `docs/benchmarks.md` has results.
//!
//! `cargo bench --bench overhead -- nomad local/python` measures one part and one program of another;
//! the parts are [`PARTS`]. `--json FILE` writes what the tables say for machines too.

mod agent;
mod bare;
mod client;
mod cluster;
mod contest;
mod daemon;
mod growth;
mod handler;
mod judge;
mod live;
mod nomad;
mod open;
mod process;
mod programs;
mod raw_store;
mod row;
mod sandbox;
mod submits;
mod table;
mod throughput;
mod typed;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail, ensure};

use self::table::Table;

/// What there is to measure, in this order.
const PARTS: [&str; 11] = [
    "sandbox", "http", "local", "pool", "open", "submits", "tests", "live", "memory", "growth",
    "nomad",
];

fn main() -> Result<()> {
    // Ours to install, as it is main's in the daemon.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some(handler::WORD) {
        return runtime.block_on(handler::serve());
    }
    runtime.block_on(measure(&Wanted::from_arguments()?))
}

/// What the command line asks for.
pub(crate) struct Wanted {
    /// Parts, or a part, a slash and a program. None for everything.
    names: Vec<String>,
    json: Option<PathBuf>,
}

impl Wanted {
    fn from_arguments() -> Result<Wanted> {
        let mut wanted = Wanted { names: Vec::new(), json: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--json" => {
                    wanted.json = Some(arguments.next().context("--json wants a file")?.into());
                }
                _ if argument.starts_with('-') => bail!("there is no option {argument}"),
                _ => {
                    let part = argument.split('/').next().unwrap_or_default();
                    let parts = PARTS.join(", ");
                    ensure!(PARTS.contains(&part), "there is no part {part}, but: {parts}");
                    wanted.names.push(argument);
                }
            }
        }
        Ok(wanted)
    }

    /// Whether anything of this part.
    pub(crate) fn part(&self, part: &str) -> bool {
        let is_of_it = |name: &String| name.split('/').next() == Some(part);
        self.names.is_empty() || self.names.iter().any(is_of_it)
    }

    /// Whether this program of this part.
    pub(crate) fn row(&self, part: &str, program: &str) -> bool {
        let is_it = |name: &String| {
            name == part
                || name.strip_prefix(part).and_then(|rest| rest.strip_prefix('/')) == Some(program)
        };
        self.names.is_empty() || self.names.iter().any(is_it)
    }
}

async fn measure(wanted: &Wanted) -> Result<()> {
    println!("{}\n", table::machine());
    let (mut table, begun) = (Table::default(), Instant::now());
    let parts = measure_parts(wanted, &mut table).await;
    table.note(&format!("Measured in {} s.", begun.elapsed().as_secs()));
    // Also after a failure: what was measured until then took minutes.
    println!("{table}");
    if let Some(file) = &wanted.json {
        let json = serde_json::to_string_pretty(&table.json())?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    parts
}

async fn measure_parts(wanted: &Wanted, table: &mut Table) -> Result<()> {
    if wanted.part("sandbox") {
        sandbox::jailed_true(table).await.context("measuring /bin/true")?;
    }
    if wanted.part("http") {
        sandbox::python_hello(table).await.context("measuring a Python hello")?;
    }
    if wanted.part("local") || wanted.part("pool") {
        throughput::measure(wanted, table).await.context("measuring programs")?;
    }
    if wanted.part("open") {
        open::measure(wanted, table).await.context("measuring open loops")?;
    }
    if wanted.part("submits") {
        submits::measure(table).await.context("measuring submits")?;
    }
    if wanted.part("tests") {
        judge::measure(table).await.context("measuring many tests")?;
    }
    if wanted.part("live") {
        live::measure(table).await.context("measuring live output")?;
    }
    if wanted.part("memory") || wanted.part("growth") {
        growth::measure(wanted, table).await.context("measuring growth")?;
    }
    if wanted.part("nomad") {
        nomad::measure(table).await.context("measuring the nomad backend")?;
    }
    Ok(())
}
