mod interactive;
mod lowered;

use std::sync::Arc;

use super::*;
use crate::{language::VersionCommand, submission::Checker};

/// python and c can be used, rust cannot.
struct Three;

fn definition(id: &str, source_file: &str) -> LanguageDefinition {
    serde_json::from_value(serde_json::json!({
        "id": id,
        "name": id,
        "extension": "x",
        "source_file": source_file,
        "tools": {},
        "version": VersionCommand { command: vec![], after: String::new() },
        "run": { "command": [] },
    }))
    .expect("a definition")
}

impl Languages for Three {
    fn get(&self, id: &str) -> Option<LanguageEntry> {
        let (definition, status) = match id {
            "python" | "py" => (definition("python", "main.py"), Status::Ready),
            "c" => (definition("c", "main.c"), Status::Checking),
            "rust" => {
                (definition("rust", "main.rs"), Status::Unavailable("install rustc".to_owned()))
            }
            _ => return None,
        };
        Some(LanguageEntry { definition: Arc::new(definition), status, version: None })
    }

    fn ids(&self) -> Vec<String> {
        ["c", "python", "rust"].map(str::to_owned).to_vec()
    }

    fn maximum(&self) -> Limits {
        MAXIMUM
    }
}

fn check(json: serde_json::Value) -> Result<SubmissionRequest, Vec<FieldError>> {
    validate(serde_json::from_value(json).expect("the right shape"), &Three)
}

/// The request `{language: python, source: ""}` with more fields.
fn python(more: serde_json::Value) -> serde_json::Value {
    let mut request = serde_json::json!({ "language": "python", "source": "" });
    let fields = request.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    request
}

fn files(files: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "language": "python", "files": files })
}

fn faults(request: serde_json::Value) -> Vec<String> {
    let errors = check(request).expect_err("a fault");
    errors.into_iter().map(|error| format!("{}: {}", error.field, error.detail)).collect()
}

#[track_caller]
fn only_fault(request: serde_json::Value, expected: &str) {
    assert_eq!(faults(request), [expected]);
}

macro_rules! json {
    ($($tokens:tt)+) => { serde_json::json!($($tokens)+) };
}

#[test]
fn every_default_is_filled_in() {
    let request = check(json!({ "language": "py", "source": "x" })).expect("sound");
    assert_eq!(request.language, "python");
    assert_eq!(request.entrypoint, "main.py");
    assert_eq!(request.limits, Limits::DEFAULT);
    assert_eq!(request.priority, 50);
    assert!(!request.stop_on_failure);
    assert!(request.tests.is_empty() && request.files.is_empty());
}

#[test]
fn a_language_that_cannot_be_used_is_refused_with_the_reason() {
    only_fault(
        json!({ "language": "cobol", "source": "" }),
        "language: unknown language `cobol`; known are c, python, rust",
    );
    only_fault(
        json!({ "language": "rust", "source": "" }),
        "language: rust is unavailable: install rustc",
    );
    assert!(check(json!({ "language": "c", "source": "" })).is_ok(), "checking is available");
}

#[test]
fn exactly_one_of_source_and_files_is_needed() {
    only_fault(
        json!({ "language": "c" }),
        "source: is missing, and so is `files`; send one of them",
    );
    only_fault(
        python(json!({ "files": [{ "path": "a", "content": "" }] })),
        "source: stands beside `files`; send one of them",
    );
    only_fault(files(json!([])), "files: is empty; send at least one file");
}

#[test]
fn the_entrypoint_is_the_usual_name_or_the_only_file_or_must_be_named() {
    let both = json!([{ "path": "a.py", "content": "" }, { "path": "main.py", "content": "" }]);
    assert_eq!(check(files(both)).expect("sound").entrypoint, "main.py");
    let one = json!([{ "path": "b/a.py", "content": "" }]);
    assert_eq!(check(files(one)).expect("sound").entrypoint, "b/a.py");
    let two = json!([{ "path": "a.py", "content": "" }, { "path": "b.py", "content": "" }]);
    only_fault(
        files(two.clone()),
        "entrypoint: is missing, and `main.py` is not among the files; name the file to start",
    );
    let mut named = files(two);
    named["entrypoint"] = "c.py".into();
    only_fault(named.clone(), "entrypoint: `c.py` is not the path of one of `files`");
    named["entrypoint"] = "b.py".into();
    assert_eq!(check(named).expect("sound").entrypoint, "b.py");
}

#[test]
fn a_path_that_could_lead_out_or_astray_is_refused() {
    let long_part = "a".repeat(256);
    let deep = ["a"; 17].join("/");
    for path in [
        "",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        ".",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "\u{7f}",
        &long_part,
        &deep,
    ] {
        let found = faults(files(json!([{ "path": path, "content": "" }])));
        assert!(found[0].starts_with("files[0].path: "), "{path:?}: {found:?}");
    }
    for path in ["-rf", "a b", "ä.py", "...", "a.b/c..d", ".hidden", "con", &"a".repeat(255)] {
        let request = check(files(json!([{ "path": path, "content": "" }])));
        assert!(request.is_ok(), "{path:?}: {request:?}");
    }
}

#[test]
fn two_files_at_one_path_or_a_file_that_is_a_folder_are_refused() {
    let twice = json!([{ "path": "main.py", "content": "" }, { "path": "main.py", "content": "" }]);
    only_fault(files(twice), "files[1].path: `main.py` is there twice");
    for (first, second, at) in [("main.py", "main.py/b", 1), ("main.py/b/c", "main.py", 0)] {
        let pair = json!([{ "path": first, "content": "" }, { "path": second, "content": "" }]);
        let found = faults(files(pair));
        let expected = format!("files[{at}].path: `main.py` is a file too, and cannot be a folder");
        assert!(found.contains(&expected), "{found:?}");
    }
}

#[test]
fn base64_is_decoded_and_remembered_or_refused() {
    let file = |content| json!([{ "path": "main.py", "content": content, "encoding": "base64" }]);
    let request = check(files(file("/wA="))).expect("sound");
    assert_eq!(&request.files[0].content[..], [0xff, 0x00]);
    assert_eq!(request.files[0].encoding, crate::submission::Encoding::Base64);
    only_fault(files(file("/wA")), "files[0].content: is not standard base64 with padding");
}

#[test]
fn the_numbers_of_things_are_bounded() {
    let many = |count| vec![json!({ "path": "", "content": "" }); count];
    let mut paths: Vec<_> = many(101);
    for (index, file) in paths.iter_mut().enumerate() {
        file["path"] = format!("{index}.py").into();
    }
    paths[0]["path"] = "main.py".into();
    only_fault(files(paths.into()), "files: 101 files are more than 100");
    only_fault(
        python(json!({ "tests": vec![json!({}); 101], "limits": { "wall_time_ms": 1 } })),
        "tests: 101 tests are more than 100",
    );
    only_fault(python(json!({ "args": vec![""; 101] })), "args: 101 arguments are more than 100");
    only_fault(
        python(json!({ "compile_args": ["x".repeat(65_537)] })),
        "compile_args: 65537 bytes are more than 65536",
    );
    only_fault(
        python(json!({ "stdin": "x".repeat((1 << 20) + 1) })),
        "stdin: 1048577 bytes are more than 1048576",
    );
    let env: BTreeMap<String, String> =
        (0..65).map(|index| (format!("V{index}"), String::new())).collect();
    only_fault(python(json!({ "env": env })), "env: 65 variables are more than 64");
}

#[test]
fn what_a_program_cannot_be_given_is_refused() {
    only_fault(python(json!({ "args": ["", "\0"] })), "args[1]: holds a NUL character");
    only_fault(python(json!({ "env": { "A": "\0" } })), "env.A: holds a NUL character");
    for name in ["", "1A", "A-B", "A=B", "Ä", "A B"] {
        let found = faults(python(json!({ "env": { name: "" } })));
        assert!(found[0].contains("is not a name"), "{found:?}");
    }
    assert!(check(python(json!({ "env": { "_a1": "x", "LD_PRELOAD": "" } }))).is_ok());
}

#[test]
fn a_limit_beyond_its_bound_is_refused_with_value_and_bound_and_never_lowered() {
    for (field, value, bounds) in [
        ("cpu_time_ms", 0, "1 and 60000"),
        ("cpu_time_ms", 60_001, "1 and 60000"),
        ("wall_time_ms", 120_001, "1 and 120000"),
        ("memory_bytes", (16 << 20) - 1, "16777216 and 1073741824"),
        ("memory_bytes", (1 << 30) + 1, "16777216 and 1073741824"),
        ("processes", 257, "1 and 256"),
        ("output_bytes", (8 << 20) + 1, "1 and 8388608"),
    ] {
        let found = faults(python(json!({ "limits": { field: value } })));
        let expected = format!("limits.{field}: {value} is not between {bounds}");
        assert_eq!(found[0], expected);
    }
}

#[test]
fn the_wall_time_follows_the_cpu_time_unless_it_is_named() {
    let wall = |limits: serde_json::Value| {
        check(python(json!({ "limits": limits }))).expect("sound").limits.wall_time_ms
    };
    assert_eq!(wall(json!({ "cpu_time_ms": 1 })), 10_000);
    assert_eq!(wall(json!({ "cpu_time_ms": 60_000 })), 120_000);
    assert_eq!(wall(json!({ "cpu_time_ms": 60_000, "wall_time_ms": 1 })), 1);
}

#[test]
fn named_disk_above_half_of_the_memory_is_refused_and_a_default_shrinks() {
    let limits = |limits: serde_json::Value| check(python(json!({ "limits": limits })));
    let small = limits(json!({ "memory_bytes": 32 << 20 })).expect("sound").limits;
    assert_eq!(small.disk_bytes, 16 << 20);
    only_fault(
        python(json!({ "limits": { "memory_bytes": 32 << 20, "disk_bytes": (16 << 20) + 1 } })),
        "limits.disk_bytes: 16777217 is not between 1 and 16777216, half of memory_bytes",
    );
}

#[test]
fn the_work_directory_must_hold_the_files() {
    only_fault(
        python(json!({ "source": "x".repeat(4097), "limits": { "disk_bytes": 4096 } })),
        "limits.disk_bytes: 4096 is less than the 8192 bytes that the program's files need",
    );
}

#[test]
fn a_wrong_limit_is_named_and_not_what_follows_from_it() {
    let memory = "limits.memory_bytes: 1 is not between 16777216 and 1073741824";
    only_fault(python(json!({ "limits": { "memory_bytes": 1 } })), memory);
}

#[test]
fn all_tests_together_have_twenty_minutes() {
    let request = |tests| {
        python(json!({
            "tests": vec![json!({}); tests],
            "limits": { "wall_time_ms": 120_000 },
        }))
    };
    assert!(check(request(10)).is_ok());
    only_fault(
        request(11),
        "limits.wall_time_ms: 120000 for each of 11 tests is 1320000 together, more than 1200000",
    );
}

#[test]
fn tests_take_from_the_submission_what_they_do_not_name() {
    let request = check(python(json!({
        "stdin": "in",
        "args": ["a"],
        "tests": [{}, { "name": "second", "stdin": "", "args": [], "points": 0 }],
    })))
    .expect("sound");
    let [first, second] = &request.tests[..] else { panic!("two tests") };
    assert_eq!((first.name.as_str(), first.stdin.as_str(), first.points), ("1", "in", 1.0));
    assert_eq!(first.args, ["a"]);
    assert_eq!((second.name.as_str(), second.stdin.as_str(), second.points), ("second", "", 0.0));
    assert!(second.args.is_empty());
}

fn with_checker(checker: serde_json::Value) -> serde_json::Value {
    python(json!({ "tests": [{ "expected_output": "1", "checker": checker }] }))
}

#[test]
fn a_checker_has_the_fields_of_its_type_alone() {
    let sound = |checker| check(with_checker(checker)).expect("sound").tests[0].checker.clone();
    assert_eq!(sound(json!({ "type": "lines" })), Checker::Lines);
    assert_eq!(sound(json!({ "type": "float" })), Checker::Float { abs: 1e-6, rel: 1e-6 });
    assert_eq!(
        sound(json!({ "type": "float", "abs": 0.5 })),
        Checker::Float { abs: 0.5, rel: 0.0 }
    );
    assert_eq!(
        sound(json!({ "type": "custom", "language": "py", "source": "x" })),
        Checker::Custom { language: "python".to_owned(), source: "x".to_owned() }
    );
    only_fault(
        with_checker(json!({ "type": "exact", "abs": 1 })),
        "tests[0].checker.abs: is for the type `float` alone",
    );
    only_fault(
        with_checker(json!({ "type": "float", "abs": -1 })),
        "tests[0].checker.abs: -1 is not 0 or more",
    );
    only_fault(
        with_checker(json!({ "type": "custom", "source": "" })),
        "tests[0].checker.language: is missing, and the type `custom` needs it",
    );
    only_fault(
        with_checker(json!({ "type": "custom", "language": "rust", "source": "" })),
        "tests[0].checker.language: rust is unavailable: install rustc",
    );
}

#[test]
fn a_checker_that_compares_needs_something_to_compare_with() {
    let test = json!({ "checker": { "type": "exact" } });
    only_fault(
        python(json!({ "tests": [test] })),
        "tests[0].expected_output: is missing, and the checker needs it",
    );
}

/// One test for each source, with a custom checker of it.
fn with_checkers(language: &str, sources: impl IntoIterator<Item = usize>) -> serde_json::Value {
    let test = |source: usize| {
        let source = source.to_string();
        json!({ "checker": { "type": "custom", "language": language, "source": source } })
    };
    python(json!({
        "tests": sources.into_iter().map(test).collect::<Vec<_>>(),
        "limits": { "wall_time_ms": 1000 },
    }))
}

#[test]
fn a_submission_has_so_many_different_custom_checkers_and_no_more() {
    let sound = check(with_checkers("py", (0..8).cycle().take(100))).expect("sound");
    assert_eq!(sound.custom_checkers().len(), 8);
    let detail = "10 different custom checkers are more than 8";
    let over = faults(with_checkers("py", [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 0, 9, 8]));
    assert_eq!(over, [9, 11, 12].map(|test| format!("tests[{test}].checker: {detail}")));
}

#[test]
fn custom_checkers_differ_by_language_or_source_and_an_alias_is_no_language_of_its_own() {
    let mut request = with_checkers("python", 0..8);
    request["tests"].as_array_mut().expect("tests").extend([
        json!({ "checker": { "type": "custom", "language": "py", "source": "0" } }),
        json!({ "checker": { "type": "custom", "language": "c", "source": "0" } }),
        json!({ "checker": { "type": "tokens" }, "expected_output": "" }),
    ]);
    let over = faults(request);
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(over[0].starts_with("tests[9].checker: "), "{over:?}");
}

#[test]
fn points_and_priority_have_bounds() {
    only_fault(
        python(json!({ "tests": [{ "points": -0.5 }] })),
        "tests[0].points: -0.5 is not between 0 and 1000000000000",
    );
    only_fault(python(json!({ "priority": 101 })), "priority: 101 is not between 0 and 100");
    assert_eq!(check(python(json!({ "priority": 0 }))).expect("sound").priority, 0);
}

#[test]
fn all_faults_are_found_at_once() {
    let found = faults(python(json!({
        "priority": 101,
        "env": { "1": "" },
        "limits": { "processes": 0 },
    })));
    assert_eq!(found.len(), 3, "{found:?}");
}
