//! Holds the rules of `docs/architecture.md`: which folder may use which, and which words belong to
//! one place alone. Reads the source as text, comments set aside: a rule that needs a compiler to be
//! checked is a rule that nobody remembers.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A file of this many lines is split along a noun.
const MAX_LINES: usize = 400;

/// Each part of `src/` with the other parts that it may use: those to the right of it or below it.
const LAYERS: &[(&str, &[&str])] = &[
    ("submission", &[]),
    ("language", &["submission"]),
    ("protocol", &["submission", "language"]),
    ("sandbox", &["submission", "language", "protocol"]),
    ("runner", &["submission", "language", "protocol", "sandbox"]),
    ("tls", &[]),
    ("error_chain", &[]),
    ("nomad", &["tls"]),
    ("consul", &["tls", "error_chain"]),
    ("connections", &[]),
    (
        "worker",
        &["submission", "language", "protocol", "sandbox", "runner", "connections", "error_chain"],
    ),
    (
        "backend",
        &[
            "submission",
            "language",
            "protocol",
            "sandbox",
            "runner",
            "worker",
            "nomad",
            "consul",
            "error_chain",
        ],
    ),
    ("store", &["submission", "language", "protocol", "sandbox"]),
    (
        "dispatcher",
        &["submission", "language", "protocol", "sandbox", "backend", "store", "lifecycle"],
    ),
    (
        "api",
        &[
            "submission",
            "language",
            "protocol",
            "sandbox",
            "backend",
            "store",
            "dispatcher",
            "metrics",
            // Of a WebSocket, which goes on with its own.
            "connections",
        ],
    ),
    ("metrics", &["submission", "dispatcher", "backend", "sandbox"]),
    ("config", &["submission", "language", "sandbox"]),
    ("lifecycle", &[]),
    ("telemetry", &[]),
    ("cli", ANYTHING),
    ("main", ANYTHING),
    ("lib", ANYTHING),
];

/// The command line wires the parts together, so it knows them all.
const ANYTHING: &[&str] = &["*"];

/// Words that belong to one place.
const WORDS: &[WordRule] = &[
    WordRule {
        words: &[
            "sqlx",
            "SELECT ",
            "INSERT INTO ",
            "INSERT OR ",
            "UPDATE ",
            "DELETE FROM ",
            "CREATE TABLE ",
            "PRAGMA ",
        ],
        only_in: &["store/"],
        why: "SQL stands in store/ alone",
    },
    WordRule {
        words: &["metrics_exporter_prometheus", "prometheus", "Prometheus"],
        only_in: &["metrics.rs"],
        why: "Prometheus is known to metrics.rs alone",
    },
    WordRule {
        words: &["unsafe"],
        only_in: &["sandbox/sys.rs"],
        why: "unsafe code stands in sandbox/sys.rs alone",
    },
];

struct WordRule {
    words: &'static [&'static str],
    /// A file, or a folder with its slash, in `src/`.
    only_in: &'static [&'static str],
    why: &'static str,
}

/// Where the concrete backends may be named: by themselves, and where one is chosen.
const NAMES_BACKENDS: &[&str] = &["backend/", "cli/serve.rs", "cli/serve/"];

/// What only asks others, and never sees a submission.
const CLIENTS: &[&str] = &["nomad", "consul"];

/// A file in `src/`: its path there, and its text without comments.
struct Source {
    path: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Source { path: path.to_owned(), code: without_comments(text) }
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place }
        })
    }

    /// The part of `src/` that it belongs to: its folder, or its own name.
    fn part(&self) -> &str {
        let first = self.path.split('/').next().expect("split gives one at least");
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// Everything in `sources` that breaks a rule, one sentence each.
fn violations(sources: &[Source]) -> Vec<String> {
    let backends: Vec<String> = sources
        .iter()
        .filter(|source| source.is_in(&["backend/"]))
        .flat_map(|source| implementors(&source.code, "Backend"))
        .collect();
    let mut found = Vec::new();
    for source in sources {
        let path = &source.path;
        for rule in WORDS.iter().filter(|rule| !source.is_in(rule.only_in)) {
            for word in rule.words.iter().filter(|word| has_word(&source.code, word)) {
                found.push(format!("src/{path} has `{}`: {}", word.trim_end(), rule.why));
            }
        }
        if !source.is_in(NAMES_BACKENDS) {
            for name in backends.iter().filter(|name| has_word(&source.code, name)) {
                found
                    .push(format!("src/{path} names {name}: cli/serve.rs alone chooses a backend"));
            }
        }
        let part = source.part();
        if CLIENTS.contains(&part) && source.code.to_lowercase().contains("submission") {
            found.push(format!("src/{path} speaks of submissions: {part}/ is a mere client"));
        }
        match LAYERS.iter().find(|(part, _)| *part == source.part()) {
            None => found.push(format!("src/{path} is in no layer: add its folder to the table")),
            Some((_, allowed)) if *allowed == ANYTHING => {}
            Some((part, allowed)) => {
                for used in used_parts(&source.code) {
                    if used != *part && !allowed.contains(&used.as_str()) {
                        found.push(format!("src/{path} uses crate::{used}: {part}/ may not"));
                    }
                }
            }
        }
    }
    found
}

/// The text without `//` comments, documentation included. A `//` inside of a string ends the line
/// too early, which hides at most what follows it.
fn without_comments(text: &str) -> String {
    let code = |line: &str| {
        let mut from = 0;
        while let Some(at) = line[from..].find("//").map(|at| at + from) {
            if !line[..at].ends_with(':') {
                return line[..at].to_owned();
            }
            from = at + 2; // a URL
        }
        line.to_owned()
    };
    text.lines().map(|line| code(line) + "\n").collect()
}

/// Whether `word` stands in `code` with nothing around it that would make it part of another word.
fn has_word(code: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    code.match_indices(word).any(|(at, _)| {
        let after = &code[at + word.len()..];
        !code[..at].ends_with(joins) && (word.ends_with(' ') || !after.starts_with(joins))
    })
}

/// The types that `code` implements the trait for.
fn implementors(code: &str, name: &str) -> Vec<String> {
    let pattern = format!("impl {name} for ");
    code.match_indices(&pattern).map(|(at, _)| identifier(&code[at + pattern.len()..])).collect()
}

/// The parts of the crate that `code` names, by `crate::part` or in a `use crate::{..}`.
fn used_parts(code: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            parts.extend(group_heads(group));
        } else {
            parts.insert(identifier(rest));
        }
    }
    parts
}

/// The first identifier of each item of a `{..}` group, from just after its opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut item = String::new();
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(std::mem::take(&mut item).trim_start())),
            _ => {}
        }
        if depth > 0 || c != ',' {
            item.push(c);
        }
    }
    heads.push(identifier(item.trim_start()));
    heads.retain(|head| !head.is_empty());
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `folder` of the repository, in a fixed order.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_source_keeps_the_rules() {
    let root = repository().join("src");
    let sources: Vec<Source> = rust_files("src")
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_str().unwrap();
            Source::new(relative, &fs::read_to_string(&path).unwrap())
        })
        .collect();
    assert!(sources.len() > 10, "found the source");
    let found = violations(&sources);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_file_grows_past_400_lines() {
    let long: Vec<String> = ["src", "tests/it", "benches"]
        .into_iter()
        .flat_map(rust_files)
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines >= MAX_LINES).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split along a noun:\n{}\n", long.join("\n"));
}

/// The rules themselves: each can fail, and does so for what it forbids alone.
#[test]
fn every_rule_finds_what_it_forbids() {
    let one = |path: &str, text: &str| violations(&[Source::new(path, text)]);
    let broken = [
        ("api/a.rs", "let rows = sqlx::query(q);"),
        ("dispatcher/a.rs", "let q = \"SELECT id FROM submissions\";"),
        ("cli/a.rs", "conn.execute(\"PRAGMA journal_mode\");"),
        ("api/a.rs", "use metrics_exporter_prometheus::PrometheusHandle;"),
        ("sandbox/mod.rs", "unsafe { libc::fork() }"),
        ("runner/mod.rs", "pub unsafe fn f() {}"),
        ("nomad/a.rs", "struct SubmissionJob;"),
        ("consul/a.rs", "fn watch(submission: Id) {}"),
        ("nomad/a.rs", "use crate::protocol::Event;"),
        ("submission/a.rs", "use crate::language::LanguageDefinition;"),
        ("store/a.rs", "use crate::dispatcher::Handle;"),
        ("sandbox/a.rs", "fn f(x: crate::backend::Worker) {}"),
        ("runner/a.rs", "use crate::{\n    protocol::{Event, EventKind},\n    store::Store,\n};"),
        ("helpers/a.rs", "fn f() {}"),
    ];
    for (path, text) in broken {
        assert!(!one(path, text).is_empty(), "{path}: {text}");
    }
    let sound = [
        ("store/a.rs", "sqlx::query(\"SELECT id FROM submissions\")"),
        ("api/a.rs", "// sqlx is not used here\nfn f() {}"),
        ("api/a.rs", "const URL: &str = \"http://a\"; use crate::store::Store;"),
        ("sandbox/sys.rs", "unsafe { libc::fork() }"),
        ("cli/a.rs", "#[arg(long = \"unsafe-no-sandbox\")]\nunsafe_no_sandbox: bool,"),
        ("metrics.rs", "use metrics_exporter_prometheus::PrometheusHandle;"),
        ("nomad/a.rs", "//! Knows nothing of submissions.\nuse crate::nomad::Client;"),
        ("runner/a.rs", "use crate::{protocol::{Event, EventKind}, sandbox::Sandbox};"),
        ("cli/a.rs", "use crate::{api, store};"),
    ];
    for (path, text) in sound {
        assert_eq!(one(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_concrete_backend_is_named_by_itself_and_by_serve_alone() {
    let backend = "pub struct Here;\nimpl Backend for Here {}";
    let with = |path: &str| {
        violations(&[
            Source::new("backend/here.rs", backend),
            Source::new(path, "let backend = Here::new();"),
        ])
    };
    assert_eq!(with("cli/serve.rs"), Vec::<String>::new());
    assert_eq!(with("dispatcher/mod.rs").len(), 1);
    assert_eq!(with("cli/doctor.rs").len(), 1);
}

#[test]
fn grouped_imports_are_taken_apart() {
    let code = "use crate::{\n  a::{x, y::{z}}, b, c as d,\n};\nlet e = crate::f::g();";
    let used: Vec<String> = used_parts(code).into_iter().collect();
    assert_eq!(used, ["a", "b", "c", "f"]);
}
