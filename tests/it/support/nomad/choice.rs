//! Which Nomad tests run against, and saying so.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

/// The `nomad` to run against; None when it is to be the stand-in. Says which, once a process, in
/// the file that `BRAINDRILL_TEST_NOMAD_LOG` names.
pub(super) fn real_one() -> Option<PathBuf> {
    let forced = std::env::var_os("BRAINDRILL_TEST_NOMAD").is_some_and(|kind| kind == "stand-in");
    let program = (!forced).then(on_path).flatten();
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let which = match &program {
            Some(program) => format!("a real one, {}", version(program)),
            None if forced => "the stand-in (as BRAINDRILL_TEST_NOMAD asks)".to_owned(),
            None => "the stand-in (no nomad on PATH)".to_owned(),
        };
        if let Some(path) = std::env::var_os("BRAINDRILL_TEST_NOMAD_LOG") {
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            file.write_all(format!("{which}\n").as_bytes()).unwrap();
        }
    });
    program
}

/// A `nomad` where programs are.
pub(super) fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("nomad")).find(|file| is_file(file))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// Like `v1.1.0`.
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().nth(1).unwrap_or("of an unknown version").to_owned()
}
