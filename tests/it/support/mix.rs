//! Small programs of every verdict, to be sent by the hundred. Each says its own number, so that an
//! answer that belongs to another submission does not pass.

use serde_json::{Value, json};

/// A submission and how it must end.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) request: Value,
    pub(crate) verdict: &'static str,
    /// What the first run must have printed, where that is certain.
    pub(crate) stdout: Option<String>,
}

/// The word that stands in the command line of every program here that sleeps: one no other test
/// uses, as long as `seed` is its own.
pub(crate) fn marker(seed: u64) -> String {
    format!("61.{}{seed}", std::process::id())
}

/// Case number `number` of a sequence that has every verdict in each twenty.
pub(crate) fn case(number: usize, marker: &str) -> Case {
    let said = format!("this is {number}");
    let bash = |source: String| json!({ "language": "bash", "source": source });
    let python = |source: String| json!({ "language": "python", "source": source });
    let (mut request, verdict) = match number % 20 {
        0..=4 => (bash(format!("read -r x; echo \"this is $x\" # {number}")), "accepted"),
        5 => (python(format!("print('this is {number}')")), "accepted"),
        6 => {
            let source = format!(
                "#include <stdio.h>\nint main(void) {{ puts(\"this is {number}\"); return 0; }}"
            );
            (json!({ "language": "c", "source": source }), "accepted")
        }
        7..=8 => (bash(format!("echo this is {number}; exit 0")), "wrong_answer"),
        9..=10 => (bash(format!("echo this is {number}; exit 3")), "runtime_error"),
        11 => (bash(format!("echo this is {number}; kill -SEGV $$")), "runtime_error"),
        12 => {
            let source = format!("int main(void) {{ return number_{number}; }}");
            (json!({ "language": "c", "source": source }), "compile_error")
        }
        13 => (bash(format!("echo this is {number}; while :; do :; done")), "time_limit_exceeded"),
        14 => (bash(format!("echo this is {number}; sleep {marker}")), "time_limit_exceeded"),
        15 => (bash(format!("echo this is {number}; exec yes")), "output_limit_exceeded"),
        16 => (
            python(format!("print('this is {number}', flush=True)\nx = b'x' * (96 << 20)")),
            "memory_limit_exceeded",
        ),
        17 => (bash(format!("echo this is {number}")), "accepted"),
        _ => (bash(format!("sleep {marker}")), "cancelled"),
    };
    match number % 20 {
        0..=4 => request["stdin"] = json!(format!("{number}\n")),
        7..=8 => request["tests"] = json!([{ "expected_output": format!("that is {number}") }]),
        13 => request["limits"] = json!({ "cpu_time_ms": 50 }),
        14 => request["limits"] = json!({ "wall_time_ms": 150 }),
        15 => request["limits"] = json!({ "output_bytes": 2000 }),
        16 => request["limits"] = json!({ "memory_bytes": 48 << 20 }),
        17 => {
            request["tests"] = json!([
                { "expected_output": said, "checker": { "type": "exact" } },
                { "expected_output": said },
                { "expected_output": said, "points": 3.0 },
            ]);
            request["tests"][0]["expected_output"] = json!(format!("{said}\n"));
        }
        18 | 19 => request["limits"] = json!({ "wall_time_ms": 120_000 }),
        _ => {}
    }
    let printed = matches!(number % 20, 0..=11 | 17);
    let stdout = printed.then(|| format!("{said}\n"));
    Case { number, request, verdict, stdout }
}

impl Case {
    /// Whether it ends only when somebody ends it.
    pub(crate) fn is_to_be_cancelled(&self) -> bool {
        self.verdict == "cancelled"
    }

    /// Asserts that a finished submission is this one's and right.
    #[track_caller]
    pub(crate) fn check(&self, submission: &Value) {
        assert_eq!(submission["state"], "finished", "{submission}");
        let outcome = &submission["outcome"];
        assert_eq!(outcome["verdict"], self.verdict, "number {}: {submission}", self.number);
        if let Some(stdout) = &self.stdout {
            assert_eq!(outcome["runs"][0]["stdout"]["data"], **stdout, "{submission}");
        }
    }
}
