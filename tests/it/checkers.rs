//! Custom checkers, in real jails.

use braindrill::{
    backend::Update,
    protocol::{Event, EventKind, ExecutionRequest, ExecutionResult, MAX_KEPT_OUTPUT_BYTES},
    submission::{Checker, FaultKind, Test, Verdict},
};

use crate::{
    local::{Local, test},
    support::disk::Disk,
};

fn custom(language: &str, source: &str) -> Checker {
    Checker::Custom { language: language.to_owned(), source: source.to_owned() }
}

/// A submission with one test whose checker is this.
fn checked(local: &Local, language: &str, checker: &str) -> ExecutionRequest {
    let mut request = local.request("bash", "echo 7");
    let mut one = test("1", "3 4\n", "secret");
    one.checker = custom(language, checker);
    one.points = 4.0;
    request.request.tests = vec![one];
    request.checker_languages = [(language.to_owned(), local.language(language))].into();
    request
}

#[tokio::test]
async fn a_custom_checker_sees_input_output_and_answer_and_decides() {
    let local = Local::start(1).await;
    let checker = "paste -d, $1 $2 $3 >&2; exit 0";
    let executed = local.execute(checked(&local, "bash", checker)).await;
    let report = executed.report();
    assert_eq!((report.verdict, report.points), (Verdict::Accepted, 4.0));
    assert_eq!(report.reason, "3 4,7,secret");

    let wrong = local.execute(checked(&local, "bash", "echo 'too small' >&2; exit 1")).await;
    assert_eq!((wrong.report().verdict, wrong.report().points), (Verdict::WrongAnswer, 0.0));
    assert_eq!(wrong.report().reason, "test 1: too small");

    let partial = local.execute(checked(&local, "bash", "echo 0.25; exit 7")).await;
    assert_eq!((partial.report().verdict, partial.report().points), (Verdict::WrongAnswer, 1.0));
}

#[tokio::test]
async fn a_compiled_checker_is_compiled_once_for_all_tests() {
    let local = Local::start(1).await;
    let checker = "#include <stdio.h>\nint main(int n, char **v) { int a, b; \
                   fscanf(fopen(v[2], \"r\"), \"%d\", &a); fscanf(fopen(v[3], \"r\"), \"%d\", &b); \
                   fprintf(stderr, \"%d of %d\", a, b); return a == b ? 0 : 1; }";
    let mut request = checked(&local, "c", checker);
    request.request.source = Some("cat".to_owned());
    let one = request.request.tests[0].clone();
    request.request.tests = [("5", "5"), ("6", "6"), ("7", "8")]
        .map(|(stdin, answer)| Test {
            stdin: stdin.to_owned(),
            expected_output: Some(answer.to_owned()),
            ..one.clone()
        })
        .to_vec();
    let executed = local.execute(request).await;
    let reasons: Vec<_> = executed.report().runs.iter().map(|run| run.reason.as_str()).collect();
    assert_eq!(reasons, ["5 of 5", "6 of 6", "7 of 8"]);
    assert_eq!(executed.report().points, 8.0);
    assert_eq!(local.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn a_checker_that_fails_is_our_fault_and_is_not_retried() {
    let local = Local::start(1).await;
    for (language, checker, message) in [
        ("bash", "exit 3", "exited with code 3"),
        ("bash", "kill -SEGV $$", "ended by signal 11 (SIGSEGV)"),
        // Of CPU time, or of wall time where the machine is busy.
        ("bash", "while :; do :; done", "000 ms of "),
        ("bash", "yes", "of 65536 bytes to stdout when it was killed"),
        ("bash", "exit 7", "gives no share"),
        ("c", "int main(void) { return undeclared; }", "does not compile (exited with code 1)"),
    ] {
        let executed = local.execute(checked(&local, language, checker)).await;
        let fault = executed.fault();
        assert_eq!(fault.kind, FaultKind::CheckerFailed, "{checker}");
        assert!(!fault.kind.is_retryable());
        assert!(fault.message.starts_with("the checker "), "{checker}: {}", fault.message);
        assert!(fault.message.contains(message), "{checker}: {}", fault.message);
    }
}

#[tokio::test]
async fn a_checker_sees_all_output_though_the_submission_keeps_less() {
    let local = Local::start(1).await;
    let mut request =
        local.request("bash", "head -c 6000000 /dev/zero | tr '\\0' x; echo; echo end");
    request.request.limits.output_bytes = 8 << 20;
    let mut one = test("1", "", "");
    one.checker = custom("bash", "tail -n 1 output >&2");
    request.request.tests = vec![one; 4];
    request.checker_languages = [("bash".to_owned(), local.language("bash"))].into();
    let executed = local.execute(request).await;
    let report = executed.report();
    assert_eq!(report.verdict, Verdict::Accepted, "{}", report.reason);
    assert!(report.runs.iter().all(|run| run.reason == "end"), "{:?}", report.runs);
    let truncated: Vec<_> = report.runs.iter().map(|run| run.stdout.truncated).collect();
    assert_eq!(truncated, [false, false, true, true]);
    let kept: usize = (0..4).map(|run| executed.stdout(run).len()).sum();
    assert_eq!(kept as u64, MAX_KEPT_OUTPUT_BYTES);
}

#[tokio::test]
async fn a_custom_checker_decides_without_an_expected_output_too() {
    let local = Local::start(1).await;
    let mut request = checked(&local, "bash", "[ -z \"$(cat $3)\" ] && exit $(cat $2)");
    request.request.tests[0].expected_output = None;
    for (output, verdict) in [("0", Verdict::Accepted), ("1", Verdict::WrongAnswer)] {
        request.request.source = Some(format!("echo {output}"));
        let executed = local.execute(request.clone()).await;
        assert_eq!(executed.report().verdict, verdict, "{}", executed.report().reason);
    }
}

/// Checkers in C, all different, each of so many MiB when it is compiled; one test for each.
fn large(local: &Local, checkers: usize, mib: usize) -> ExecutionRequest {
    let mut request = checked(local, "c", "");
    let one = request.request.tests[0].clone();
    let source =
        |number| format!("char a[{mib}<<20]={{{number}}}; int main(void) {{ return !*a; }}");
    request.request.tests = (1..=checkers)
        .map(|number| Test { checker: custom("c", &source(number)), ..one.clone() })
        .collect();
    request
}

#[tokio::test]
async fn two_checkers_of_one_submission_judge_each_its_own_tests() {
    let local = Local::start(1).await;
    let mut request = checked(&local, "bash", "echo bash >&2");
    let compiled = "#include <stdio.h>\nint main(void) { fprintf(stderr, \"c\"); return 1; }";
    let one = request.request.tests[0].clone();
    let other = Test { checker: custom("c", compiled), ..one.clone() };
    request.request.tests = vec![one.clone(), other.clone(), one, other];
    request.checker_languages.insert("c".to_owned(), local.language("c"));
    let executed = local.execute(request).await;
    let reasons: Vec<_> = executed.report().runs.iter().map(|run| run.reason.as_str()).collect();
    assert_eq!(reasons, ["bash", "c", "bash", "c"]);
    assert_eq!(executed.report().points, 8.0);
    assert_eq!(local.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn compiled_checkers_of_one_submission_take_a_bounded_part_of_the_disk() {
    let local = Local::start(1).await;
    // Each fits, and all together fit.
    let executed = local.execute(large(&local, 3, 16)).await;
    assert_eq!(executed.report().verdict, Verdict::Accepted, "{}", executed.report().reason);

    let mut execution = local.start_attempt(large(&local, 5, 60)).await;
    let mut most = 0;
    let mut last = None;
    while let Some(update) = execution.events.recv().await {
        most = most.max(local.bytes_on_disk());
        last = Some(update);
    }
    // What may be kept, and one that is being measured.
    assert!(most <= 128 << 20, "{most} bytes");
    let Some(Update::Event(Event { kind: EventKind::Finished { result }, .. })) = last else {
        panic!("{last:?}")
    };
    let ExecutionResult::Fault(fault) = result else { panic!("{result:?}") };
    assert_eq!(fault.kind, FaultKind::CheckerFailed, "{fault}");
    assert!(fault.message.contains("of the 67108864 that the checkers"), "{fault}");
    assert_eq!(local.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn a_checker_is_not_compiled_where_its_program_might_not_fit() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let Some(disk) = Disk::mount(folder.path(), 72 << 20) else { return };
    let local = Local::start_in(1, folder.path().join("programs")).await;
    let executed = local.execute(large(&local, 1, 16)).await;
    assert_eq!(executed.report().verdict, Verdict::Accepted, "{}", executed.report().reason);

    let executed = local.execute(large(&local, 2, 16)).await;
    let fault = executed.fault();
    assert_eq!(fault.kind, FaultKind::NoRoom, "a checker is not at fault for the disk");
    assert!(fault.message.contains("the disk for compiled programs is full"), "{fault}");
    assert_eq!(local.left_over(), Vec::<String>::new());
    drop((local, disk));
}
