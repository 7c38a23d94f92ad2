//! What the runner and the local backend promise about whole requests, shown in real jails.

use std::{sync::Arc, time::Duration};

use braindrill::{
    backend::{Backend as _, Update},
    language::{LanguageDefinition, Status},
    protocol::EventKind,
    runner::self_test,
    submission::{FaultKind, SourceFile, Verdict},
};
use tokio_util::sync::CancellationToken;

use crate::local::{DEADLINE, Local, test};

#[tokio::test]
async fn each_test_gets_its_own_input_and_a_fresh_jail() {
    let local = Local::start(1).await;
    let mut request =
        local.request("bash", "read line; ls /tmp; touch mark /tmp/mark; echo $line; ls -A");
    request.request.tests =
        vec![test("a", "1\n", "1 main.sh mark"), test("b", "2\n", "2 main.sh mark")];
    let executed = local.execute(request).await;
    let report = executed.report();
    assert_eq!((report.verdict, report.points), (Verdict::Accepted, 2.0), "{}", report.reason);
    assert_eq!(report.reason, "all 2 tests are accepted");
    assert_eq!(executed.stdout(0), b"1\nmain.sh\nmark\n");
    assert_eq!(executed.stdout(1), b"2\nmain.sh\nmark\n");
}

#[tokio::test]
async fn a_program_is_compiled_once_for_all_tests() {
    let local = Local::start(1).await;
    let source =
        "#include <stdio.h>\nint main(void) { int n; scanf(\"%d\", &n); printf(\"%d\", 2 * n); }";
    let mut request = local.request("c", source);
    request.request.tests =
        (1..=3).map(|n| test(&n.to_string(), &n.to_string(), &(2 * n).to_string())).collect();
    let executed = local.execute(request).await;
    let compiled = |event: &&_| {
        matches!(&event, braindrill::protocol::Event { kind: EventKind::Compiled { .. }, .. })
    };
    assert_eq!(executed.events.iter().filter(compiled).count(), 1);
    assert_eq!(executed.report().points, 3.0);
    let compile = executed.report().compile.as_ref().expect("c is compiled");
    assert!(compile.success && compile.wall_time_ms > 0 && compile.memory_bytes > 0, "{compile:?}");
    assert_eq!(local.left_over(), Vec::<String>::new());
}

#[tokio::test]
async fn a_failing_test_stops_the_rest_only_when_asked_to() {
    let local = Local::start(1).await;
    let mut request = local.request("bash", "cat");
    request.request.tests = vec![test("1", "a", "a"), test("2", "b", "x"), test("3", "c", "c")];
    let go_on = local.execute(request.clone()).await;
    let verdicts =
        |e: &crate::local::Executed| e.report().runs.iter().map(|r| r.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts(&go_on), [Verdict::Accepted, Verdict::WrongAnswer, Verdict::Accepted]);
    assert_eq!(go_on.report().points, 2.0);
    request.request.stop_on_failure = true;
    let stop = local.execute(request).await;
    assert_eq!(verdicts(&stop), [Verdict::Accepted, Verdict::WrongAnswer, Verdict::Skipped]);
    assert_eq!(stop.report().points, 1.0);
    assert_eq!(stop.report().reason, "test 2: word 1 is `b` where `x` was expected");
    assert_eq!(stop.stdout(2), b"");
}

#[tokio::test]
async fn expected_output_and_other_inputs_are_nowhere_in_the_jail() {
    let local = Local::start(1).await;
    let source = "grep -rl 'needle-[0-9]' /box /tmp /dev/shm /program /proc/self/environ /proc/[0-9]*/cmdline 2>/dev/null; echo done";
    let mut request = local.request("bash", source);
    request.request.tests = vec![test("1", "", "needle-1"), test("2", "needle-2", "done")];
    let executed = local.execute(request).await;
    assert_eq!(executed.stdout(0), b"done\n");
    assert_eq!(executed.stdout(1), b"done\n");
}

#[tokio::test]
async fn a_program_that_writes_too_much_and_is_gone_before_it_can_be_killed_gets_that_verdict() {
    let local = Local::start(2).await;
    let source = "#include <unistd.h>\nchar text[60000];\n\
                  int main(void) { write(1, text, sizeof text); _exit(0); }";
    let mut request = local.request("c", source);
    request.request.limits.output_bytes = 50_000;
    request.request.tests = (1..=50).map(|n| test(&n.to_string(), "", "")).collect();
    let executed = local.execute(request).await;
    for run in &executed.report().runs {
        assert_eq!(run.verdict, Verdict::OutputLimitExceeded, "{}", run.reason);
        assert_eq!((run.stdout.bytes, run.stdout.truncated), (60_000, true));
        assert!(run.reason.starts_with("wrote 60000 of 50000 bytes to stdout"), "{}", run.reason);
    }
}

#[tokio::test]
async fn a_work_directory_without_room_for_another_file_is_named_as_that() {
    let local = Local::start(1).await;
    let source = "set -e; mkdir many; n=0; while :; do : >many/$n; n=$((n + 1)); done";
    let executed = local.execute(local.request("bash", source)).await;
    assert_eq!(executed.report().verdict, Verdict::RuntimeError);
    assert_eq!(
        executed.report().reason,
        "exited with code 1; work directory full, 4096 of 4096 files"
    );
    // Who can do without is not blamed.
    let source = "mkdir many; n=0; while { : >many/$n; } 2>/dev/null; do n=$((n + 1)); done; \
                  echo $((n > 4000 && n < 4096))";
    let executed = local.execute(local.request("bash", source)).await;
    assert_eq!(executed.report().verdict, Verdict::Accepted, "{:?}", executed.report());
    assert_eq!(executed.stdout(0), b"1\n");
}

#[tokio::test]
async fn a_compile_that_breaks_a_limit_is_a_compile_error_that_says_which() {
    let local = Local::start(1).await;
    let mut request = local.request("c", "#include \"/dev/zero\"\nint main(void) {}");
    let compile = request.language.compile.as_mut().expect("c is compiled");
    compile.limits.cpu_time_ms = Some(2_000);
    compile.limits.memory_bytes = Some(64 << 20);
    let executed = local.execute(request).await;
    let report = executed.report();
    assert_eq!(report.verdict, Verdict::CompileError);
    assert!(report.reason.starts_with("the compiler used "), "{}", report.reason);
    assert!(report.runs.is_empty());
    assert!(!report.compile.as_ref().expect("compiled").success);
}

#[tokio::test]
async fn a_compile_that_leaves_no_program_is_a_compile_error() {
    let local = Local::start(1).await;
    let mut request = local.request("c", "int main(void) {}");
    request.request.compile_args = vec!["-fsyntax-only".to_owned()];
    let executed = local.execute(request.clone()).await;
    assert_eq!(executed.report().reason, "the compiler exited with code 0, but left no program");
    request.request.compile_args = vec!["-c".to_owned()];
    let object = local.execute(request).await;
    assert_eq!(object.report().verdict, Verdict::RuntimeError);
    assert_eq!(object.report().reason, "the compiled program cannot be executed");
}

#[tokio::test]
async fn only_files_of_a_bounded_size_are_taken_from_a_compile() {
    let local = Local::start(1).await;
    for (script, reason) in [
        ("ln -s /etc/shadow /out/program", "left no program"),
        ("mkfifo /out/program", "left no program"),
        ("mkdir /out/program", "left no program"),
        (
            "head -c 68000000 /dev/zero >/out/program",
            "the compiler left something in /out that was not taken",
        ),
    ] {
        let mut request = local.request("bash", "");
        request.language = compiling_with(request.language, script);
        let executed = local.execute(request).await;
        let report = executed.report();
        assert_eq!(report.verdict, Verdict::CompileError, "{script}");
        assert!(report.reason.contains(reason), "{script}: {}", report.reason);
        assert_eq!(local.left_over(), Vec::<String>::new());
    }
}

/// Bash with a compile step that is this script.
fn compiling_with(mut language: LanguageDefinition, script: &str) -> LanguageDefinition {
    let compile = "command = [\"{tool:bash}\", \"-c\", \"\"]";
    let mut compile: braindrill::language::CompileStep = toml::from_str(compile).expect("sound");
    compile.command[2] = script.to_owned();
    language.compile = Some(compile);
    language.run.command = vec!["{program}/program".to_owned()];
    language
}

#[tokio::test]
async fn a_requests_variables_override_those_of_the_language() {
    let local = Local::start(1).await;
    let mut request = local.request("bash", "echo $A $B $HOME");
    request.language.env =
        [("A", "ours"), ("B", "ours")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    request.request.env = [("B".to_owned(), "{theirs}".to_owned())].into();
    let executed = local.execute(request).await;
    assert_eq!(String::from_utf8_lossy(&executed.stdout(0)), "ours {theirs} /box\n");
}

#[tokio::test]
async fn file_names_that_look_like_options_are_files() {
    let local = Local::start(1).await;
    let mut request = local.request("c", "");
    request.request.source = None;
    request.request.files = [
        ("main.c", "int f(void); int main(void) { return f(); }"),
        ("-x.c", "int f(void) { return 0; }"),
    ]
    .map(|(path, text)| SourceFile {
        path: path.to_owned(),
        content: text.into(),
        encoding: Default::default(),
    })
    .to_vec();
    let executed = local.execute(request).await;
    assert_eq!(executed.report().verdict, Verdict::Accepted, "{:?}", executed.report());
}

#[tokio::test]
async fn names_however_odd_are_names_of_files_in_the_work_directory() {
    let local = Local::start(1).await;
    let long = "a".repeat(255);
    let mut names =
        vec!["$(touch x)", "*", "-rf", "...", "a b;c", "a.b/c..d", "`id`", "ä'\"", &long];
    let mut request = local.request("bash", "find . -type f -printf '%P\\n'");
    let source = request.request.source.take().expect("one source");
    names.push("main.sh");
    request.request.files = names
        .iter()
        .map(|name| SourceFile {
            path: (*name).to_owned(),
            content: source.clone().into(),
            encoding: Default::default(),
        })
        .collect();
    let executed = local.execute(request).await;
    let output = String::from_utf8_lossy(&executed.stdout(0)).into_owned();
    let mut found: Vec<_> = output.lines().collect();
    found.sort_unstable();
    names.sort_unstable();
    assert_eq!(found, names, "{:?}", executed.report());
}

#[tokio::test]
async fn a_missing_tool_chain_is_a_fault_that_names_the_tool_and_is_retried() {
    let local = Local::start(1).await;
    let mut request = local.request("lua", "print(1)");
    request.language.tools = [("lua".to_owned(), vec!["/nowhere/lua".into()])].into();
    let fault = local.execute(request).await.fault().clone();
    assert_eq!(fault.kind, FaultKind::ToolChainMissing);
    assert!(fault.kind.is_retryable());
    assert_eq!(fault.message, "the tool chain of Lua is not here: no lua");
}

#[tokio::test]
async fn a_request_of_another_version_is_refused() {
    let local = Local::start(1).await;
    let mut request = local.request("bash", "echo 1");
    request.v += 1;
    let executed = local.execute(request).await;
    assert!(executed.fault().message.contains("version"), "{}", executed.fault());
}

#[tokio::test]
async fn dropping_the_events_ends_the_program_and_release_waits_for_that() {
    let local = Local::start(1).await;
    for (language, source) in [("bash", "echo on; sleep 3600"), ("bash", "yes")] {
        let mut execution = local.start_attempt(local.request(language, source)).await;
        let placement = execution.placement.clone();
        loop {
            let update = tokio::time::timeout(DEADLINE, execution.events.recv()).await;
            if let Some(Update::Event(event)) = update.expect("it says something")
                && matches!(event.kind, EventKind::Stdout { .. })
            {
                break;
            }
        }
        drop(execution);
        let released =
            tokio::time::timeout(Duration::from_secs(10), local.backend.release(&placement));
        released.await.expect("the program ends").expect("released");
        let workers = local.backend.workers().await.expect("workers");
        assert_eq!((workers[0].busy, workers[0].slots), (Some(0), Some(1)));
    }
    // The slot is free again.
    let executed = local.execute(local.request("bash", "echo on")).await;
    assert_eq!(executed.stdout(0), b"on\n");
}

#[tokio::test]
async fn release_does_not_wait_for_attempts_that_are_read() {
    let local = Local::start(1).await;
    let execution = local.start_attempt(local.request("bash", "sleep 3600")).await;
    local.backend.release(&execution.placement).await.expect("released");
    assert_eq!(local.backend.workers().await.expect("workers")[0].busy, Some(1));
    drop(execution);
    local.backend.shut_down().await;
    assert!(local.backend.start(Arc::new(local.request("bash", ""))).await.is_err());
    assert!(!local.backend.workers().await.expect("workers")[0].healthy);
}

#[tokio::test]
async fn the_self_test_finds_versions_remembers_passes_and_turns_off_what_fails() {
    let local = Local::start(2).await;
    let folder = tempfile::tempdir().expect("tempdir");
    let file = self_test::file_in(folder.path());
    let cancel = CancellationToken::new();
    let demand = local.backend.demand();
    self_test::check_all(&local.catalog, &local.runner, file.clone(), demand.clone(), &cancel)
        .await;
    for entry in local.catalog.list() {
        println!("{}: {:?} {:?}", entry.definition.id, entry.version, entry.status);
        match entry.status {
            Status::Ready => assert!(entry.version.is_some(), "{}", entry.definition.id),
            // Not installed: said so before the test.
            Status::Unavailable(reason) => assert!(reason.contains("is not installed"), "{reason}"),
            Status::Checking | Status::Held(_) => panic!("{} was passed over", entry.definition.id),
        }
    }

    // A second time everything is remembered, but for a language that changed and is broken now.
    let broken = folder.path().join("more.toml");
    let text = "[[language]]\nid = 'lua'\nname = 'Lua'\nextension = 'lua'\nsource_file = 'main.lua'\n\
                tools.bash = ['/usr/bin/bash']\nversion = { command = ['{tool:bash}', '--version'] }\n\
                run = { command = ['{tool:bash}', '-c', 'echo broken >&2; exit 5'] }\n\
                self_test = { source = '', stdout = '' }\n";
    std::fs::write(&broken, text).expect("write");
    let catalog = braindrill::language::Catalog::load(Some(&broken)).expect("sound");
    catalog.find_tool_chains();
    self_test::check_all(&catalog, &local.runner, file, demand, &cancel).await;
    assert_eq!(
        catalog.get("lua").expect("lua").status,
        Status::Unavailable(
            "its self-test failed: test self-test: exited with code 5: broken".to_owned()
        )
    );
    assert_eq!(catalog.get("bash"), local.catalog.get("bash"));
}

#[tokio::test]
async fn a_self_test_gives_way_to_submissions() {
    let local = Local::start(1).await;
    let folder = tempfile::tempdir().expect("tempdir");
    let more = folder.path().join("more.toml");
    // Its program ends well only when nobody interrupts it for a while.
    let text = "[[language]]\nid = 'aaa'\nname = 'A'\nextension = 'sh'\nsource_file = 'main.sh'\n\
                tools.bash = ['/usr/bin/bash']\nversion = { command = ['{tool:bash}', '--version'] }\n\
                run = { command = ['{tool:bash}', '{entrypoint}'] }\n\
                self_test = { source = 'sleep 2', stdout = '' }\n";
    std::fs::write(&more, text).expect("write");
    let catalog = braindrill::language::Catalog::load(Some(&more)).expect("sound");
    for entry in catalog.list().iter().filter(|entry| entry.definition.id != "aaa") {
        catalog.set(&entry.definition.id, Status::Ready, None);
    }
    let (cancel, demand) = (CancellationToken::new(), local.backend.demand());
    let file = self_test::file_in(folder.path());
    let test = self_test::check_all(&catalog, &local.runner, file, demand, &cancel);
    let submissions = async {
        // The one slot is taken by the test, sooner or later in its two seconds.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let begin = std::time::Instant::now();
            local.execute(local.request("bash", "echo 1")).await;
            let took = begin.elapsed();
            assert!(took < Duration::from_millis(1_000), "waited {took:?} for a self-test");
        }
        assert_eq!(catalog.get("aaa").expect("aaa").status, Status::Checking);
    };
    tokio::join!(test, submissions);
    assert_eq!(catalog.get("aaa").expect("aaa").status, Status::Ready);
}
