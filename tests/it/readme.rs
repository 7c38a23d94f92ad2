//! The commands of the README, each run as it stands there.

use std::{path::Path, process::Command};

use crate::support::app::TestApp;

const README: &str = include_str!("../../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_braindrill");

/// The files that commands name.
const FILES: [(&str, &str); 10] = [
    ("game.py", "import sys\nassert sys.stdin.isatty() and sys.stdout.isatty()"),
    ("squares.py", "open('squares.csv', 'w').write('2,4')"),
    ("hello.py", "print('hello')"),
    ("numbers.txt", "1 2 3"),
    (
        "sum.c",
        "#include <stdio.h>\nint main(void) { int n, sum = 0; while (scanf(\"%d\", &n) == 1) sum += n; \
         printf(\"%d\\n\", sum); return 0; }",
    ),
    ("1.in", "2"),
    ("1.out", "4"),
    ("2.in", "3"),
    ("2.out", "6"),
    (
        "solution.cpp",
        "#include <iostream>\nint main() { int n; std::cin >> n; std::cout << n * 2; }",
    ),
];

/// What stands behind a `$` in the blocks of a terminal, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let (mut is_inside, mut goes_on) = (false, false);
    for line in text.lines() {
        if line.starts_with("```") {
            is_inside = line == "```console";
            goes_on = false;
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| is_inside) {
            commands.push(command.to_owned());
            goes_on = is_open(command);
        } else if goes_on {
            let last = commands.last_mut().expect("one was pushed before");
            last.push('\n');
            last.push_str(line);
            goes_on = is_open(last);
        }
    }
    commands
}

/// Whether a shell would read on: after a backslash, or inside of quotes.
fn is_open(command: &str) -> bool {
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1
}

#[test]
fn commands_are_found_with_their_further_lines() {
    let text =
        "$ no\n```console\n$ one\nits answer\n$ two 'a\n  b' \\\n  c\nits answer\n```\n$ no\n";
    assert_eq!(commands(text), ["one", "two 'a\n  b' \\\n  c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let app = TestApp::start().await;
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    // Each line of a block may use what the one before has set.
    let mut before = String::new();
    let all = commands(README);
    assert!(all.len() >= 10, "{all:?}");
    for command in all {
        if command.starts_with("make ") {
            // It would build all this again; that its target is there is what can be seen here.
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let words = command.split(' ').skip(1);
            let made =
                Command::new("make").arg("-n").args(words).current_dir(root).output().unwrap();
            assert!(made.status.success(), "{command}: {made:?}");
            continue;
        }
        let script = format!("set -o pipefail\n{before}\n{}", here(&command, &app));
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .env("BRAINDRILL_SERVER", format!("http://{}", app.address()))
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("urn:braindrill:problem"), "{command}: {said}");
        if command.starts_with("id=") {
            before = here(&command, &app);
        }
    }
}

/// The command on this test's daemon, with the program that was built, for a second where it names half a
/// minute.
fn here(command: &str, app: &TestApp) -> String {
    let command = command.replace("localhost:8080", app.address());
    let command =
        command.replace("--duration 30s", &format!("--duration 1s --url http://{}", app.address()));
    match command.strip_prefix("braindrill ") {
        Some(rest) => format!("{PROGRAM} {rest}"),
        None => command,
    }
}
