//! Skips that nobody can overlook: `make test` ends with their count and their reasons.

use std::{fs::OpenOptions, io::Write, path::Path};

/// Says that the running test skips itself, and why; the test then returns.
///
/// One line goes to the file that `BRAINDRILL_TEST_SKIPS` names, and to standard error.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = line(&test, reason);
    eprint!("skipped: {line}");
    if let Some(path) = std::env::var_os("BRAINDRILL_TEST_SKIPS") {
        append(Path::new(&path), &line);
    }
}

/// One line, whatever is in the reason: the lines are counted.
fn line(test: &str, reason: &str) -> String {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{test}: {reason}\n")
}

/// Appends in one write, so that tests that skip at once do not mix their lines.
fn append(path: &Path, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

#[test]
fn a_skip_is_one_line_after_those_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("skips");
    append(&path, &line("one", "no cgroup"));
    append(&path, &line("two", "no kotlinc:\n  apt-get install kotlin"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "one: no cgroup\ntwo: no kotlinc: apt-get install kotlin\n");
}
