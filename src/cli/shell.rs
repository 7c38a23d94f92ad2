//! `braindrill completions` and `man`: what a shell and a reader of manuals want of a command.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::Cli;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash:  braindrill completions bash > /etc/bash_completion.d/braindrill
zsh:   braindrill completions zsh > \"${fpath[1]}/_braindrill\"
fish:  braindrill completions fish > ~/.config/fish/completions/braindrill.fish")]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: clap_complete::Shell,
}

/// Print the manual page, in roff, or write one for each command into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "\
braindrill man | man -l -
braindrill man --dir /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write braindrill.1, braindrill-run.1 and so on here
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
}

/// Runs `completions`.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "braindrill", &mut script);
    // Who has closed it does not want it.
    let _ = io::Write::write_all(&mut io::stdout(), &script);
    ExitCode::SUCCESS
}

/// Runs `man`.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    match &args.dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir)
            .with_context(|| format!("cannot write into {}", dir.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            let _ = io::Write::write_all(&mut io::stdout(), &page);
        }
    }
    Ok(ExitCode::SUCCESS)
}
