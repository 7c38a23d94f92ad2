//! One test for each row of the precedence, and for each sentence.

use super::*;
use crate::{language::Catalog, submission::StreamSummary};

const MIB: u64 = 1 << 20;

fn well() -> Measured {
    Measured {
        end: End::Exited(0),
        killed_for: None,
        oom_kills: 0,
        destroyed_sandbox: false,
        cpu_time: Duration::from_millis(10),
        wall_time: Duration::from_millis(20),
        memory_peak_bytes: 8 * MIB,
        stdout: StreamSummary::default(),
        stderr: StreamSummary::default(),
        disk_used_bytes: 0,
        disk_full: None,
        taken: Vec::new(),
    }
}

fn caps() -> Caps {
    Caps {
        cpu_time: Duration::from_millis(1000),
        wall_time: Duration::from_millis(2000),
        memory_bytes: 256 * MIB,
        output_keep: 1000,
        output_kill: 1000,
        disk_bytes: 64 * MIB,
        inodes: 4096,
        ..Caps::default()
    }
}

fn judged_as(
    language: &str,
    measured: &Measured,
    stderr: &str,
    checked: Option<&Checked>,
) -> (Verdict, String) {
    let language = Catalog::load(None).expect("embedded").get(language).expect("known").definition;
    let mut caps = caps();
    caps.memory_bytes += language.memory_overhead_bytes;
    let evidence =
        Evidence { measured, caps: &caps, language: &language, stderr_tail: stderr.as_bytes() };
    let Judgement { verdict, reason } = judge(&evidence, checked);
    (verdict, reason)
}

fn judged(measured: &Measured) -> (Verdict, String) {
    // A checker that would accept must never outweigh anything.
    let right = Checked { right: true, reason: "the output is right".to_owned(), share: 1.0 };
    judged_as("python", measured, "", Some(&right))
}

fn is(verdict: Verdict, reason: &str) -> (Verdict, String) {
    (verdict, reason.to_owned())
}

#[test]
fn a_kill_for_memory_says_how_much_was_used() {
    let measured = Measured {
        end: End::Signaled(9),
        killed_for: Some(Cap::Memory),
        memory_peak_bytes: 262_144_000,
        ..well()
    };
    let reason = "used 262144000 of 268435456 bytes of memory when it was killed";
    assert_eq!(judged(&measured), is(Verdict::MemoryLimitExceeded, reason));
    let by_the_kernel = Measured { killed_for: None, oom_kills: 1, ..measured };
    assert_eq!(judged(&by_the_kernel), is(Verdict::MemoryLimitExceeded, reason));
}

#[test]
fn a_child_killed_for_memory_counts_though_its_parent_exits_well() {
    let measured = Measured { oom_kills: 1, memory_peak_bytes: 256 * MIB, ..well() };
    assert_eq!(
        judged(&measured),
        is(
            Verdict::MemoryLimitExceeded,
            "one of its processes was killed for memory: used 268435456 of 268435456 bytes of \
             memory, then exited with code 0"
        )
    );
}

#[test]
fn memory_outranks_what_else_it_was_killed_for() {
    for cap in [Cap::Cpu, Cap::Wall, Cap::Output] {
        let measured =
            Measured { oom_kills: 1, killed_for: Some(cap), end: End::Signaled(9), ..well() };
        assert_eq!(judged(&measured).0, Verdict::MemoryLimitExceeded, "{cap:?}");
    }
}

#[test]
fn a_memory_error_near_the_limit_is_the_memory_limit() {
    let text = "Traceback\nMemoryError\n";
    let near = Measured { end: End::Exited(1), memory_peak_bytes: 192 * MIB, ..well() };
    assert_eq!(
        judged_as("python", &near, text, None),
        is(
            Verdict::MemoryLimitExceeded,
            "ran out of memory: used 201326592 of 268435456 bytes of memory, then exited with code 1"
        )
    );
    let far = Measured { memory_peak_bytes: 192 * MIB - 1, ..near.clone() };
    assert_eq!(judged_as("python", &far, text, None).0, Verdict::RuntimeError, "peak too low");
    let silent = judged_as("python", &near, "ValueError", None);
    assert_eq!(silent, is(Verdict::RuntimeError, "exited with code 1"), "no such text");
    let fine = Measured { end: End::Exited(0), ..near };
    assert_eq!(judged_as("python", &fine, text, None).0, Verdict::Accepted, "it ended well");
}

#[test]
fn the_overhead_of_a_language_does_not_move_its_memory_error() {
    let near = Measured { end: End::Exited(1), memory_peak_bytes: 192 * MIB, ..well() };
    let text = "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space";
    assert_eq!(judged_as("java", &near, text, None).0, Verdict::MemoryLimitExceeded);
}

#[test]
fn a_run_is_judged_by_what_it_was_killed_for_first() {
    let killed = |cap| Measured { end: End::Signaled(9), killed_for: Some(cap), ..well() };
    let cpu = Measured { cpu_time: Duration::from_micros(1_002_100), ..killed(Cap::Cpu) };
    assert_eq!(judged(&cpu), is(Verdict::TimeLimitExceeded, "used 1003 of 1000 ms of CPU time"));
    let wall = Measured { wall_time: Duration::from_millis(2001), ..killed(Cap::Wall) };
    assert_eq!(judged(&wall), is(Verdict::TimeLimitExceeded, "took 2001 of 2000 ms of wall time"));
    let stdout = StreamSummary { bytes: 4096, truncated: true };
    let output = Measured { stdout, ..killed(Cap::Output) };
    assert_eq!(
        judged(&output),
        is(Verdict::OutputLimitExceeded, "wrote 4096 of 1000 bytes to stdout when it was killed")
    );
    let errors = Measured { stderr: stdout, stdout: StreamSummary::default(), ..output.clone() };
    assert!(judged(&errors).1.contains("to stderr"));
    let late = Measured { cpu_time: Duration::from_secs(9), ..output };
    assert_eq!(judged(&late).0, Verdict::OutputLimitExceeded, "the kill outranks the figures");
}

#[test]
fn time_over_its_limit_counts_even_when_the_program_exits_well() {
    let cpu = Measured { cpu_time: Duration::from_micros(1_000_001), ..well() };
    assert_eq!(judged(&cpu), is(Verdict::TimeLimitExceeded, "used 1001 of 1000 ms of CPU time"));
    let wall =
        Measured { wall_time: Duration::from_micros(2_000_001), end: End::Exited(1), ..well() };
    assert_eq!(judged(&wall), is(Verdict::TimeLimitExceeded, "took 2001 of 2000 ms of wall time"));
    let exact = Measured { cpu_time: Duration::from_millis(1000), ..well() };
    assert_eq!(judged(&exact).0, Verdict::Accepted, "the limit itself is allowed");
}

#[test]
fn a_failing_end_is_a_runtime_error_even_with_the_right_output() {
    let exit = Measured { end: End::Exited(3), ..well() };
    assert_eq!(judged(&exit), is(Verdict::RuntimeError, "exited with code 3"));
    let signal = Measured { end: End::Signaled(11), ..well() };
    assert_eq!(judged(&signal), is(Verdict::RuntimeError, "ended by signal 11 (SIGSEGV)"));
    let rare = Measured { end: End::Signaled(40), ..well() };
    assert_eq!(judged(&rare), is(Verdict::RuntimeError, "ended by signal 40"));
    let gone = Measured { end: End::Signaled(9), destroyed_sandbox: true, ..well() };
    assert_eq!(judged(&gone), is(Verdict::RuntimeError, "destroyed its own sandbox"));
}

#[test]
fn a_full_disk_is_named_when_the_program_fails_and_forgiven_when_it_does_not() {
    let full = Measured { disk_full: Some(Space::Bytes), disk_used_bytes: 64 * MIB, ..well() };
    assert_eq!(judged(&full).0, Verdict::Accepted);
    assert_eq!(
        judged(&Measured { end: End::Exited(1), ..full }),
        is(
            Verdict::RuntimeError,
            "exited with code 1; work directory full, 67108864 of 67108864 bytes"
        )
    );
    let files = Measured { disk_full: Some(Space::Inodes), disk_used_bytes: 4096, ..well() };
    assert_eq!(
        judged(&Measured { end: End::Exited(1), ..files }),
        is(Verdict::RuntimeError, "exited with code 1; work directory full, 4096 of 4096 files")
    );
}

#[test]
fn the_checker_decides_what_is_left() {
    let wrong = Checked { right: false, reason: "word 1 differs".to_owned(), share: 0.0 };
    let right = Checked { right: true, reason: "the output is right".to_owned(), share: 1.0 };
    let of = |checked| judged_as("python", &well(), "MemoryError", checked);
    assert_eq!(of(Some(&wrong)), is(Verdict::WrongAnswer, "word 1 differs"));
    assert_eq!(of(Some(&right)), is(Verdict::Accepted, "the output is right"));
    assert_eq!(of(None), is(Verdict::Accepted, "exited with code 0"));
}
