//! The programs of the rows: as they are submitted, and bare.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::row::Turn;

/// A program in both ways.
pub(crate) struct Program {
    /// What selects it on the command line.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    language: &'static str,
    source: &'static str,
    /// What begins a comment; where it is given, each submission is another text, so that nothing of an
    /// earlier one's compile step can be used.
    comment: Option<&'static str>,
    pub(crate) stdout: &'static str,
    /// What is done once, before the bare loop.
    setup: &'static [&'static [&'static str]],
    /// What a turn of the bare loop does, in a folder with the source.
    bare: &'static [&'static [&'static str]],
    pub(crate) bare_name: &'static str,
    /// Submissions in flight, a row each.
    pub(crate) levels: &'static [usize],
    /// How long a turn takes.
    pub(crate) turn: Duration,
}

/// Submissions in flight of most programs.
const LEVELS: &[usize] = &[1, 4, 16, 64];

const GCC: &[&str] = &["/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "program", "main.c", "-lm"];
const GXX: &[&str] = &["/usr/bin/g++", "-O2", "-std=gnu++17", "-o", "program", "main.cpp"];
const PYTHON: &str = "print('hello')";
const NODE: &str = "console.log('hello')";

pub(crate) const PROGRAMS: [Program; 5] = [
    Program {
        key: "bash",
        name: "bash true",
        language: "bash",
        source: "true",
        comment: None,
        stdout: "",
        setup: &[],
        bare: &[&["/bin/bash", "main.sh"]],
        bare_name: "bash",
        levels: LEVELS,
        turn: Duration::from_secs(2),
    },
    Program {
        key: "c",
        name: "C hello, the same each time",
        language: "c",
        source: "#include <stdio.h>\nint main(void) { puts(\"hello\"); }\n",
        comment: None,
        stdout: "hello\n",
        setup: &[GCC],
        bare: &[&["./program"]],
        bare_name: "the compiled program",
        levels: LEVELS,
        turn: Duration::from_secs(2),
    },
    Program {
        key: "cpp",
        name: "C++ hello, another each time",
        language: "cpp",
        source: "#include <iostream>\nint main() { std::cout << \"hello\\n\"; }\n",
        comment: Some("//"),
        stdout: "hello\n",
        setup: &[],
        bare: &[GXX, &["./program"]],
        bare_name: "g++ and the program",
        levels: LEVELS,
        turn: Duration::from_secs(5),
    },
    Program {
        key: "python",
        name: "Python hello",
        language: "python",
        source: PYTHON,
        comment: None,
        stdout: "hello\n",
        setup: &[],
        bare: &[&["/usr/bin/python3", "-B", "main.py"]],
        bare_name: "python3",
        levels: &[1, 4, 8, 16, 64],
        turn: Duration::from_secs(2),
    },
    Program {
        key: "node",
        name: "Node hello",
        language: "javascript",
        source: NODE,
        comment: None,
        stdout: "hello\n",
        setup: &[],
        bare: &[&["/usr/bin/node", "main.js"]],
        bare_name: "node",
        levels: LEVELS,
        turn: Duration::from_secs(3),
    },
];

/// The programs of the open loop. `levels` and `turn` are the bare loop's there.
pub(crate) const OPEN: [Program; 3] = [
    Program {
        bare: &[&["/usr/bin/python3", "-c", PYTHON]],
        bare_name: "python3 -c",
        ..PROGRAMS[3]
    },
    Program { bare: &[&["/usr/bin/node", "-e", NODE]], bare_name: "node -e", ..PROGRAMS[4] },
    Program {
        key: "java",
        name: "Java hello",
        language: "java",
        source: "class Main { public static void main(String[] a) { System.out.println(\"hello\"); } }",
        comment: Some("//"),
        stdout: "hello\n",
        setup: &[],
        bare: &[&["/usr/bin/javac", "Main.java"], &["/usr/bin/java", "-cp", ".", "Main"]],
        bare_name: "javac and java",
        levels: &[1],
        turn: Duration::from_secs(6),
    },
];

/// The program of the row with many tests; bare it has no input and prints the square of nothing.
pub(crate) const SQUARE: Program = Program {
    key: "tests",
    name: "C square",
    language: "c",
    source: "#include <stdio.h>\n\
             int main(void) { int n = 0; scanf(\"%d\", &n); printf(\"%d\\n\", n * n); }\n",
    comment: None,
    stdout: "0\n",
    setup: &[GCC],
    bare: &[&["./program"]],
    bare_name: "the compiled program, on all cores",
    levels: &[],
    turn: Duration::from_secs(2),
};

/// Where the source is in the folder of a bare loop.
fn source_file(language: &str) -> &'static str {
    match language {
        "bash" => "main.sh",
        "c" => "main.c",
        "cpp" => "main.cpp",
        "python" => "main.py",
        "java" => "Main.java",
        _ => "main.js",
    }
}

impl Program {
    /// The body of a request; `n` tells it from others where it is to be another each time.
    pub(crate) fn submission(&self, n: usize) -> String {
        let source = match self.comment {
            Some(comment) => {
                let run = std::process::id();
                format!("{}\n{comment} {run}-{n}\n", self.source)
            }
            None => self.source.to_owned(),
        };
        json!({ "language": self.language, "source": source }).to_string()
    }

    /// Whether the machine has what the bare loop starts.
    pub(crate) fn is_here(&self) -> bool {
        let mut commands = self.setup.iter().chain(self.bare);
        commands.all(|command| !command[0].starts_with('/') || Path::new(command[0]).exists())
    }
}

/// A program ready to be run bare, by so many at once.
pub(crate) struct Bare {
    program: &'static Program,
    folders: Vec<PathBuf>,
    _root: TempDir,
}

impl Bare {
    pub(crate) fn new(program: &'static Program, at_once: usize) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let mut folders = Vec::new();
        for index in 0..at_once {
            let folder = root.path().join(index.to_string());
            fs::create_dir(&folder)?;
            fs::write(folder.join(source_file(program.language)), program.source)?;
            for command in program.setup {
                step(command, &folder)?;
            }
            folders.push(folder);
        }
        Ok(Bare { program, folders, _root: root })
    }

    /// Runs it again and again, by so many threads for so long.
    pub(crate) fn turn(&self, at_once: usize, length: Duration) -> Result<Turn> {
        let workers = thread::scope(|scope| {
            let worker = |folder| {
                scope.spawn(move || {
                    let (begun, mut latencies) = (Instant::now(), Vec::new());
                    while begun.elapsed() < length {
                        latencies.push(self.once(folder)?);
                    }
                    Ok((latencies, begun.elapsed()))
                })
            };
            let threads: Vec<_> =
                self.folders[..at_once].iter().map(PathBuf::as_path).map(worker).collect();
            let joined = threads.into_iter().map(|thread| thread.join().expect("no worker panics"));
            joined.collect::<Result<Vec<_>>>()
        })?;
        Ok(Turn::of_workers(workers))
    }

    fn once(&self, folder: &Path) -> Result<Duration> {
        let begun = Instant::now();
        let mut output = Vec::new();
        for command in self.program.bare {
            output = step(command, folder)?;
        }
        let elapsed = begun.elapsed();
        ensure!(output == self.program.stdout.as_bytes(), "{} wrote {output:?}", self.program.name);
        Ok(elapsed)
    }
}

/// Runs a command and gives what it writes to standard output.
fn step(command: &[&str], folder: &Path) -> Result<Vec<u8>> {
    // A path with a dot is looked for from here, not from the folder of the program.
    let program = match command[0].strip_prefix("./") {
        Some(name) => folder.join(name),
        None => command[0].into(),
    };
    let output = Command::new(program)
        .args(&command[1..])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command[0]))?;
    ensure!(output.status.success(), "{} ended with {}", command[0], output.status);
    Ok(output.stdout)
}
