//! From the reports on single runs to the report on the whole.

use crate::submission::{CompileReport, Report, RunReport, Verdict};

/// The report when there is no program to run.
pub(super) fn of_failed_compile(compile: Option<CompileReport>) -> Report {
    let reason = compile.as_ref().map_or_else(String::new, |compile| compile.reason.clone());
    Report {
        verdict: Verdict::CompileError,
        reason: format!("the compiler {reason}"),
        compile: compile.map(Box::new),
        runs: Vec::new(),
        points: 0.0,
        files: Vec::new(),
    }
}

/// The report on all runs: the first that is not accepted gives the verdict.
pub(super) fn of_runs(compile: Option<CompileReport>, runs: Vec<RunReport>) -> Report {
    let points = runs.iter().map(|run| run.points).sum();
    let (verdict, reason) = match runs.iter().find(|run| run.verdict != Verdict::Accepted) {
        Some(run) => (run.verdict, with_test(run)),
        None => match runs.as_slice() {
            [run] => (Verdict::Accepted, run.reason.clone()),
            runs => (Verdict::Accepted, format!("all {} tests are accepted", runs.len())),
        },
    };
    let compile = compile.map(Box::new);
    Report { verdict, reason, compile, runs, points, files: Vec::new() }
}

fn with_test(run: &RunReport) -> String {
    match &run.test {
        Some(test) => format!("test {test}: {}", run.reason),
        None => run.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::StreamSummary;

    fn run(test: Option<&str>, verdict: Verdict, points: f64) -> RunReport {
        RunReport {
            test: test.map(str::to_owned),
            verdict,
            reason: format!("because {verdict}"),
            exit_code: Some(0),
            signal: None,
            stdout: StreamSummary::default(),
            stderr: StreamSummary::default(),
            cpu_time_ms: 1,
            wall_time_ms: 1,
            memory_bytes: 1,
            points,
        }
    }

    #[test]
    fn the_first_run_that_is_not_accepted_gives_the_verdict_and_points_are_added() {
        let report = of_runs(
            None,
            vec![
                run(Some("1"), Verdict::Accepted, 1.0),
                run(Some("2"), Verdict::WrongAnswer, 0.5),
                run(Some("3"), Verdict::RuntimeError, 0.0),
                run(Some("4"), Verdict::Accepted, 2.0),
            ],
        );
        assert_eq!(report.verdict, Verdict::WrongAnswer);
        assert_eq!(report.reason, "test 2: because wrong_answer");
        assert_eq!(report.points, 3.5);
    }

    #[test]
    fn accepted_needs_every_run() {
        let one = of_runs(None, vec![run(None, Verdict::Accepted, 0.0)]);
        assert_eq!((one.verdict, one.reason.as_str()), (Verdict::Accepted, "because accepted"));
        let tests = [Some("a"), Some("b")].map(|test| run(test, Verdict::Accepted, 1.0)).to_vec();
        assert_eq!(of_runs(None, tests).reason, "all 2 tests are accepted");
    }
}
