//! `braindrill doctor`: what this machine can do, and what is missing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::say;
use crate::{
    config::Config,
    language::{Catalog, Status},
    runner::{Folders, Runner, machine_cache_dir, self_test},
    sandbox::Sandbox,
};

#[derive(Debug, clap::Args, Serialize)]
pub(super) struct Args {
    /// The folder that the daemon would keep everything in.
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// A file with more languages.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    languages: Option<PathBuf>,
    /// As root: the first of the uids that programs would run as.
    #[arg(long, value_name = "UID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    first_uid: Option<u32>,
    /// Whether the daemon would run programs without a sandbox where there cannot be one.
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsafe_no_sandbox: bool,
    /// Try each language out, and make what its compile steps need once, such as Go's compiled standard
    /// library, for this machine's workers and the runners of a Nomad node.
    #[arg(long)]
    #[serde(skip)]
    self_test: bool,
    /// Where the latter is kept [default: /var/cache/braindrill; other users than root: braindrill in the
    /// folder for their caches].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Findings {
    /// Whether the daemon can run here.
    ok: bool,
    data_dir: Finding,
    sandbox: Finding,
    layers: Vec<Finding>,
    languages: Vec<Finding>,
}

/// One thing, whether it is there, and how or why not.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    ok: bool,
    detail: String,
}

impl Finding {
    fn new(name: impl Into<String>, result: Result<String, String>) -> Self {
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        Finding { name: name.into(), ok, detail }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args)?;
    let catalog = Catalog::load(config.languages.as_deref())?;
    catalog.find_tool_chains();
    let findings = look(&config, &catalog, args.self_test).await?;
    if args.json {
        say(serde_json::to_string_pretty(&findings)?);
    } else {
        print(&findings);
    }
    Ok(if findings.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(config: &Config, catalog: &Catalog, try_out: bool) -> anyhow::Result<Findings> {
    let data_dir = &config.data_dir;
    let data_dir = Finding::new(data_dir.display().to_string(), check_folder(data_dir));
    // Not that of a daemon: what is left of one must stay for it to clean up.
    let instance = format!("{:08x}", std::process::id());
    let (sandbox, layers) = match config.start_sandbox(instance, std::env::current_exe()?).await {
        Ok(sandbox) => {
            let how = match sandbox.lifted() {
                Some(_) => {
                    "none, lifted by --unsafe-no-sandbox: programs can do what this user can"
                }
                None => "programs can be run here",
            };
            let layers = sandbox.layers();
            if try_out {
                test_languages(sandbox, config, catalog).await?;
            }
            (Ok(how.to_owned()), layers)
        }
        Err(error) => (Err(error.to_string()), Vec::new()),
    };
    let sandbox = Finding::new("sandbox", sandbox);
    let layers = layers.into_iter().map(|layer| {
        Finding::new(layer.name, if layer.active { Ok(layer.detail) } else { Err(layer.detail) })
    });
    let languages = catalog.list().into_iter().map(|entry| match entry.status {
        Status::Unavailable(reason) | Status::Held(reason) => {
            Finding::new(&entry.definition.id, Err(reason))
        }
        _ => {
            let version = entry.version.map(|version| format!(" {version}")).unwrap_or_default();
            let detail = format!("{}{version}", entry.definition.name);
            Finding::new(&entry.definition.id, Ok(detail))
        }
    });
    let languages: Vec<_> = languages.collect();
    Ok(Findings {
        ok: data_dir.ok && sandbox.ok && languages.iter().any(|language| language.ok),
        data_dir,
        sandbox,
        layers: layers.collect(),
        languages,
    })
}

/// Runs a tiny program in each language, and sets in `catalog` what came of it.
async fn test_languages(
    sandbox: Sandbox,
    config: &Config,
    catalog: &Catalog,
) -> anyhow::Result<()> {
    let work = tempfile::tempdir().context("cannot make a folder for compiled programs")?;
    let caches = machine_cache_dir(config.cache_dir.clone(), work.path());
    let programs = work.path().join("programs");
    let runner = Runner::new(sandbox, Folders { programs, caches, compiled: None })?;
    // What passed before is tried again: whoever asks wants to see it.
    let file = self_test::file_in(work.path());
    // Nobody else wants this sandbox.
    let (_, demand) = watch::channel(0);
    self_test::check_all(catalog, &runner, file, demand, &CancellationToken::new()).await;
    Ok(())
}

/// Whether the daemon could write to a folder. Nothing is made there that stays.
fn check_folder(folder: &Path) -> Result<String, String> {
    let (there, detail) = match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => (folder, "is there and can be written to"),
        Ok(_) => return Err("is not a folder".to_owned()),
        Err(_) => {
            let parents = folder.ancestors().skip(1);
            let parent =
                parents.map(|path| if path == Path::new("") { Path::new(".") } else { path });
            match parent.into_iter().find(|path| path.is_dir()) {
                Some(parent) => (parent, "is not there, and can be made"),
                None => return Err("is not there, and cannot be made".to_owned()),
            }
        }
    };
    let probe = there.join(format!(".braindrill-doctor-{}", std::process::id()));
    let made = std::fs::File::create_new(&probe);
    made.map_err(|error| format!("cannot write to {}: {error}", there.display()))?;
    std::fs::remove_file(&probe).map_err(|error| error.to_string())?;
    Ok(detail.to_owned())
}

fn print(findings: &Findings) {
    line("data folder", &findings.data_dir);
    line("sandbox", &findings.sandbox);
    for layer in &findings.layers {
        line("  layer", layer);
    }
    for language in &findings.languages {
        line("language", language);
    }
    say("");
    if findings.ok {
        say("braindrill can run here.");
    } else {
        say("braindrill cannot run here; see the lines with `--` above.");
    }
}

fn line(kind: &str, finding: &Finding) {
    let mark = if finding.ok { "ok" } else { "--" };
    say(format_args!("{mark}  {kind:12} {:16} {}", finding.name, finding.detail));
}
