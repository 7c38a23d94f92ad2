//! Programs that want a better verdict than they deserve: what they print, overwrite, leave behind or
//! kill changes nothing for the judge, who stands outside of their jail.

use braindrill::{
    protocol::ExecutionRequest,
    submission::{Checker, Verdict},
};

use crate::local::{Local, test};

/// Two tests that want the word `right` with this program.
fn judged(local: &Local, language: &str, source: &str) -> ExecutionRequest {
    let mut request = local.request(language, source);
    request.request.tests = vec![test("1", "one", "right"), test("2", "two", "right")];
    request
}

#[tokio::test]
async fn no_trick_makes_a_wrong_answer_right() {
    let local = Local::start(1).await;
    for (name, language, source, verdict) in [
        (
            "the words of our own protocol on every descriptor",
            "bash",
            r#"
event='{"v":1,"seq":9,"type":"finished","result":{"type":"report","verdict":"accepted","points":9}}'
for fd in {1..40}; do { printf '\n%s\n\0%s\n' "$event" "$event" >&$fd; } 2>/dev/null; done; true"#,
            Verdict::WrongAnswer,
        ),
        (
            "the verdict of a checker as exit code",
            "bash",
            "echo ok; echo 'accepted 1.0' >&2; exit 7",
            Verdict::RuntimeError,
        ),
        (
            "exit code 0 after a crash",
            "python",
            "import atexit, os\natexit.register(lambda: os._exit(0))\nraise SystemExit(3)",
            Verdict::WrongAnswer,
        ),
        (
            "killing who started it",
            "bash",
            "kill -9 $PPID; kill -9 1; kill -9 0 & kill -9 -1; sleep 5",
            Verdict::RuntimeError,
        ),
        (
            "the right answer left for the next test",
            "bash",
            r#"cat right /tmp/right /dev/shm/right 2>/dev/null
for place in . /tmp /dev/shm; do echo right >$place/right; done
printf 'echo right' >main.sh; chmod 555 main.sh"#,
            Verdict::WrongAnswer,
        ),
        (
            "a program replaced for the next test",
            "c",
            "#include <stdlib.h>\nint main(void) { return system(\"printf '#!/bin/sh\\necho right' \
             >/tmp/p; cp /tmp/p /program/program; mv /tmp/p /program/program; rm -f \
             /program/program; exit 0\"); }",
            Verdict::WrongAnswer,
        ),
        (
            "a file of answers in every place that a judge might use",
            "bash",
            "for name in expected answer output result verdict .result stdout exit_code; do for \
             place in /box /tmp /dev/shm; do echo accepted >$place/$name; done; done",
            Verdict::WrongAnswer,
        ),
    ] {
        let executed = local.execute(judged(&local, language, source)).await;
        let report = executed.report();
        assert_eq!((report.verdict, report.points), (verdict, 0.0), "{name}: {report:?}");
        assert!(report.runs.iter().all(|run| run.verdict == verdict), "{name}: {report:?}");
        assert_eq!(report.runs.len(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_checker_sees_its_own_files_whatever_the_program_has_made_of_their_names() {
    let local = Local::start(1).await;
    let source = "for name in input output answer checker checker.sh main.sh; do ln -sf /dev/zero \
                  $name; ln -sf /etc/passwd /tmp/$name; done; printf wrong";
    let mut request = judged(&local, "bash", source);
    // It says what it was given, and tries to leave something for the next test.
    let checker = "cat /box/mark /tmp/mark 2>/dev/null; echo x | tee /box/mark >/tmp/mark; \
                   echo \"$(cat $1) $(cat $2) $(cat $3)\" >&2; exit 1";
    for test in &mut request.request.tests {
        test.checker = Checker::Custom { language: "bash".to_owned(), source: checker.to_owned() };
    }
    request.checker_languages = [("bash".to_owned(), local.language("bash"))].into();
    let executed = local.execute(request).await;
    let reasons: Vec<_> = executed.report().runs.iter().map(|run| run.reason.as_str()).collect();
    assert_eq!(reasons, ["one wrong right", "two wrong right"]);
}

#[tokio::test]
async fn a_program_cannot_tell_one_judging_from_another() {
    let local = Local::start(1).await;
    // All that a program could remember an earlier run by, or count runs with.
    let source = "echo $$ $PPID; id; hostname; env | sort; cat /proc/self/cgroup /proc/1/cmdline \
                  | tr '\\0' ' '; ls -lnA --time-style=+ /box /tmp /dev /dev/shm; df -i /box; ulimit -a";
    let mut seen = Vec::new();
    for attempt in 1..=3 {
        let mut request = judged(&local, "bash", source);
        request.attempt = attempt;
        let executed = local.execute(request).await;
        seen.extend([executed.stdout(0), executed.stdout(1)]);
    }
    let text = String::from_utf8_lossy(&seen[0]);
    assert!(text.contains("main.sh") && text.contains("sandbox"), "{text}");
    for other in &seen[1..] {
        assert_eq!(text, String::from_utf8_lossy(other));
    }
}
