//! The tests of a request and their checkers.

use std::collections::HashSet;

use super::{Faults, Languages, check_args, check_stdin, dto, language};
use crate::submission::{Checker, MAX_CUSTOM_CHECKERS, Test};

/// Most tests of a submission.
const MAX_TESTS: usize = 100;
/// Most bytes of a test's name.
const MAX_NAME_BYTES: usize = 255;
/// Both tolerances where a request names neither.
const DEFAULT_TOLERANCE: f64 = 1e-6;
/// What a test is worth that does not say.
const DEFAULT_POINTS: f64 = 1.0;
/// The most that a test may be worth: sums stay finite and close to exact.
const MAX_POINTS: f64 = 1e12;

/// Checks the tests and fills in what they take from the submission.
pub(super) fn test_cases(
    sent: Vec<dto::Test>,
    stdin: &str,
    args: &[String],
    languages: &impl Languages,
    faults: &mut Faults,
) -> Vec<Test> {
    faults.at_most("tests", sent.len(), MAX_TESTS, "tests");
    let sent = sent.into_iter().take(MAX_TESTS).enumerate();
    let tests: Vec<Test> =
        sent.map(|(index, test)| self::test(index, test, stdin, args, languages, faults)).collect();
    check_custom_checkers(&tests, faults);
    tests
}

/// Names each test whose custom checker is another than the first so many.
fn check_custom_checkers(tests: &[Test], faults: &mut Faults) {
    let (mut first, mut more) = (HashSet::new(), HashSet::new());
    let mut over = Vec::new();
    for (index, test) in tests.iter().enumerate() {
        // One without a language has a fault of its own.
        let Some(checker) = test.checker.custom().filter(|(language, _)| !language.is_empty())
        else {
            continue;
        };
        if first.len() < MAX_CUSTOM_CHECKERS {
            first.insert(checker);
        } else if !first.contains(&checker) {
            more.insert(checker);
            over.push(index);
        }
    }
    let different = first.len() + more.len();
    for index in over {
        let field = format!("tests[{index}].checker");
        faults.at_most(&field, different, MAX_CUSTOM_CHECKERS, "different custom checkers");
    }
}

fn test(
    index: usize,
    sent: dto::Test,
    stdin: &str,
    args: &[String],
    languages: &impl Languages,
    faults: &mut Faults,
) -> Test {
    let field = |name: &str| format!("tests[{index}].{name}");
    let is_bad = |name: &String| {
        name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control)
    };
    if sent.name.as_ref().is_some_and(is_bad) {
        faults.add(field("name"), "is not 1 to 255 bytes without control characters");
    }
    if let Some(stdin) = &sent.stdin {
        check_stdin(&field("stdin"), stdin, faults);
    }
    if let Some(args) = &sent.args {
        check_args(&field("args"), args, faults);
    }
    let points = sent.points.unwrap_or(DEFAULT_POINTS);
    if !(0.0..=MAX_POINTS).contains(&points) {
        faults.add(field("points"), format!("{points} is not between 0 and {MAX_POINTS}"));
    }
    if let Some(checker) = &sent.checker {
        let compares = checker.r#type != dto::CheckerType::Custom;
        if compares && sent.expected_output.is_none() {
            faults.add(field("expected_output"), "is missing, and the checker needs it");
        }
    }
    let checker = match sent.checker {
        Some(sent) => checker(&field("checker"), sent, languages, faults),
        None => Checker::Tokens,
    };
    Test {
        name: sent.name.unwrap_or_else(|| (index + 1).to_string()),
        stdin: sent.stdin.unwrap_or_else(|| stdin.to_owned()),
        args: sent.args.unwrap_or_else(|| args.to_vec()),
        expected_output: sent.expected_output,
        checker,
        points,
    }
}

fn checker(
    field: &str,
    sent: dto::Checker,
    languages: &impl Languages,
    faults: &mut Faults,
) -> Checker {
    use dto::CheckerType as T;
    let (is_float, is_custom) = (sent.r#type == T::Float, sent.r#type == T::Custom);
    for (name, is_there, belongs, to) in [
        ("abs", sent.abs.is_some(), is_float, "float"),
        ("rel", sent.rel.is_some(), is_float, "float"),
        ("language", sent.language.is_some(), is_custom, "custom"),
        ("source", sent.source.is_some(), is_custom, "custom"),
    ] {
        if is_there && !belongs {
            faults.add(format!("{field}.{name}"), format!("is for the type `{to}` alone"));
        }
    }
    match sent.r#type {
        T::Tokens => Checker::Tokens,
        T::Exact => Checker::Exact,
        T::Lines => Checker::Lines,
        T::Float => float(field, sent.abs, sent.rel, faults),
        T::Custom => custom(field, sent.language, sent.source, languages, faults),
    }
}

fn float(field: &str, abs: Option<f64>, rel: Option<f64>, faults: &mut Faults) -> Checker {
    for (name, value) in [("abs", abs), ("rel", rel)] {
        if let Some(value) = value.filter(|value| !value.is_finite() || *value < 0.0) {
            faults.add(format!("{field}.{name}"), format!("{value} is not 0 or more"));
        }
    }
    let (abs, rel) = match (abs, rel) {
        (None, None) => (DEFAULT_TOLERANCE, DEFAULT_TOLERANCE),
        (abs, rel) => (abs.unwrap_or(0.0), rel.unwrap_or(0.0)),
    };
    Checker::Float { abs, rel }
}

fn custom(
    field: &str,
    named: Option<String>,
    source: Option<String>,
    languages: &impl Languages,
    faults: &mut Faults,
) -> Checker {
    for (name, is_there) in [("language", named.is_some()), ("source", source.is_some())] {
        if !is_there {
            faults.add(format!("{field}.{name}"), "is missing, and the type `custom` needs it");
        }
    }
    let entry = named.and_then(|id| language(&format!("{field}.language"), &id, languages, faults));
    let language = entry.map(|entry| entry.definition.id.clone()).unwrap_or_default();
    Checker::Custom { language, source: source.unwrap_or_default() }
}
