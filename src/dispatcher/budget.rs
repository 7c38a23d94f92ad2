//! How long an attempt may take. Pure.

use std::time::Duration;

use crate::{language::LanguageDefinition, protocol::ExecutionRequest, submission::Limits};

/// Building and clearing a sandbox takes milliseconds; a loaded machine makes it more.
const SANDBOX: Duration = Duration::from_millis(500);

/// The most time that an attempt can rightly take from its first event on: every compile, run and
/// check one after the other, each to the end of its limits.
pub(super) fn of(request: &ExecutionRequest) -> Duration {
    let tests = &request.request.tests;
    let runs = tests.len().max(1) as u32;
    let checks = tests.iter().filter(|test| test.checker.custom().is_some()).count() as u32;
    let checkers = request.request.custom_checkers();
    let compiles: Vec<&LanguageDefinition> = checkers
        .iter()
        .filter_map(|(language, _)| request.checker_languages.get(*language))
        .chain([&request.language])
        .filter(|language| language.compile.is_some())
        .collect();
    let millis =
        compiles.iter().map(|language| language.compile_limits().wall_time_ms).sum::<u64>()
            + u64::from(runs) * request.limits().wall_time_ms
            + u64::from(checks) * Limits::CHECKER.wall_time_ms;
    let sandboxes = SANDBOX * (runs + checks + compiles.len() as u32);
    Duration::from_millis(millis) + sandboxes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        language::Catalog,
        protocol::VERSION,
        submission::{Checker, Test},
    };

    /// A program in Bash with these checkers.
    fn request(checkers: &[Option<(&str, &str)>]) -> ExecutionRequest {
        let catalog = Catalog::load(None).unwrap();
        let language = |id: &str| (*catalog.get(id).unwrap().definition).clone();
        let tests = checkers.iter().map(|custom| Test {
            name: String::new(),
            stdin: String::new(),
            args: Vec::new(),
            expected_output: None,
            checker: custom.map_or(Checker::Tokens, |(language, source)| Checker::Custom {
                language: language.to_owned(),
                source: source.to_owned(),
            }),
            points: 1.0,
        });
        let mut request: ExecutionRequest = serde_json::from_value(json!({
            "v": VERSION,
            "submission": "01890a5d-ac96-774b-bcce-b302099a8057",
            "attempt": 1,
            "request": {
                "language": "bash",
                "source": "",
                "entrypoint": "main.sh",
                "limits": Limits::DEFAULT,
                "priority": 50,
            },
            "language": language("bash"),
        }))
        .unwrap();
        request.request.tests = tests.collect();
        request.checker_languages =
            ["bash", "c", "rust"].map(|id| (id.to_owned(), language(id))).into();
        request
    }

    fn seconds(checkers: &[Option<(&str, &str)>]) -> f64 {
        of(&request(checkers)).as_secs_f64()
    }

    #[test]
    fn each_run_and_each_check_counts() {
        assert_eq!(seconds(&[]), 10.5);
        assert_eq!(seconds(&[None]), 10.5);
        assert_eq!(seconds(&[None, None]), 21.0);
        assert_eq!(seconds(&[Some(("bash", "1")), Some(("bash", "2"))]), 42.0);
    }

    #[test]
    fn each_compiled_checker_counts_once_whatever_its_language() {
        let compile = |id: &str| {
            let language = &request(&[]).checker_languages[id];
            language.compile_limits().wall_time_ms as f64 / 1000.0 + 0.5
        };
        let (c, rust) = (compile("c"), compile("rust"));
        assert_eq!(seconds(&[Some(("c", "1"))]), 21.0 + c);
        assert_eq!(seconds(&[Some(("c", "1")); 3]), 63.0 + c);
        let different = [Some(("c", "1")), Some(("c", "2")), Some(("rust", "1"))];
        assert_eq!(seconds(&different), 63.0 + 2.0 * c + rust);
    }

    #[test]
    fn a_compiled_program_counts_its_own_compile_too() {
        let mut compiled = request(&[Some(("c", "1"))]);
        compiled.language = compiled.checker_languages["c"].clone();
        let one = of(&compiled);
        compiled.request.tests[0].checker = Checker::Tokens;
        compiled.checker_languages.clear();
        // Without the compile of the checker and its one run.
        let compile = Limits::COMPILE.wall_time_ms + Limits::CHECKER.wall_time_ms + 1_000;
        assert_eq!(one - of(&compiled), Duration::from_millis(compile));
    }
}
