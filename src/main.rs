//! The `braindrill` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    braindrill::sandbox::launch_if_asked();
    match braindrill::cli::run() {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("braindrill: {problem:#}");
            ExitCode::FAILURE
        }
    }
}
