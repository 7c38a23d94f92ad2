//! The filter's instructions, and the shapes of its rules.

use nix::libc::{self, sock_filter};

// Offsets in struct seccomp_data; arguments are 64-bit, little-endian on both architectures.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCH: u32 = 4;
pub(super) const fn argument_low(index: u32) -> u32 {
    16 + 8 * index
}

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(super) const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
pub(super) const fn errno(code: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (code as u32 & libc::SECCOMP_RET_DATA)
}

/// What a rule looks at in an argument.
pub(super) enum Test {
    /// The low 32 bits have one of these bits.
    AnyBit(u32),
    /// The low 32 bits have one of the first bits, or all of the second.
    AnyBitOrAll(u32, u32),
    /// The low 32 bits are one of these.
    OneOf(&'static [u32]),
}

/// Appends the verdicts on calls whose arguments do not matter. Falls through for other calls.
///
/// The kernel tries every number there is when a filter is loaded, to know those that are always allowed; so
/// groups in which a number cannot be are stepped over.
pub(super) fn answer_whatever_the_arguments(
    code: &mut Vec<sock_filter>,
    mut verdicts: Vec<(u32, u32)>,
) {
    const GROUP: usize = 8;
    verdicts.sort_unstable();
    let mut groups: Vec<Vec<sock_filter>> = Vec::new();
    for group in verdicts.chunks(GROUP) {
        let answers =
            group.iter().flat_map(|&(call, verdict)| [jump_equal(call, 0, 1), answer(verdict)]);
        groups.push(answers.collect());
    }
    // Each with a jump over it before, and one behind it to the end.
    let mut rest: usize = groups.iter().map(|group| group.len() + 2).sum();
    for (group, answers) in verdicts.chunks(GROUP).zip(groups) {
        let (length, last) = (answers.len() + 2, group[group.len() - 1].0);
        rest -= length;
        code.push(jump_above(last, answers.len() as u8 + 1, 0));
        code.extend(answers);
        code.push(jump(rest as u32));
    }
}

/// Appends a rule for one call: `verdict` where `test` holds of its argument, else allow. Falls
/// through for other calls with the number still loaded.
pub(super) fn rule(
    code: &mut Vec<sock_filter>,
    call: libc::c_long,
    index: u32,
    test: Test,
    verdict: u32,
) {
    rule_of(code, call, look(index, test, vec![answer(verdict)]));
}

/// Names of a level, with the verdict on them.
pub(super) type Named<'a> = &'a [(&'static [u32], u32)];

/// The same for a call whose second argument is a level, and its third a name that means other things at other
/// levels. A level is named once.
pub(super) fn rule_by_level(
    code: &mut Vec<sock_filter>,
    call: libc::c_long,
    levels: &[(libc::c_int, Named<'_>)],
) {
    let mut body = vec![load(argument_low(1))];
    for &(level, named) in levels {
        let mut of_level = vec![load(argument_low(2))];
        for &(names, verdict) in named {
            for name in names {
                of_level.extend([jump_equal(*name, 0, 1), answer(verdict)]);
            }
        }
        of_level.push(answer(ALLOW));
        body.push(jump_equal(level as u32, 0, of_level.len() as u8));
        body.extend(of_level);
    }
    body.push(answer(ALLOW));
    rule_of(code, call, body);
}

/// Appends a rule for one call: `verdict` unless the low 32 bits of its argument are one of `values`.
pub(super) fn rule_unless(
    code: &mut Vec<sock_filter>,
    call: libc::c_long,
    index: u32,
    values: &[u32],
    verdict: u32,
) {
    let mut body = unless(index, values, verdict);
    body.push(answer(ALLOW));
    rule_of(code, call, body);
}

/// Appends what decides on one call, which ends in an answer.
pub(super) fn rule_of(code: &mut Vec<sock_filter>, call: libc::c_long, body: Vec<sock_filter>) {
    code.push(jump_equal(call as u32, 0, body.len() as u8));
    code.extend(body);
}

/// Answers unless the low 32 bits of an argument are one of these values.
pub(super) fn unless(index: u32, values: &[u32], verdict: u32) -> Vec<sock_filter> {
    let mut code = vec![load(argument_low(index))];
    for (at, value) in values.iter().enumerate() {
        code.push(jump_equal(*value, (values.len() - at) as u8, 0));
    }
    code.push(answer(verdict));
    code
}

/// Goes on with `then`, which ends in an answer, where `test` holds of an argument; else allows.
fn look(index: u32, test: Test, then: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut code = vec![load(argument_low(index))];
    let over_then = then.len() as u8;
    match test {
        Test::AnyBit(bits) => code.push(jump_any_bit(bits, 0, over_then)),
        Test::AnyBitOrAll(any, all) => {
            code.extend([jump_any_bit(any, 2, 0), and(all), jump_equal(all, 0, over_then)]);
        }
        Test::OneOf(values) => {
            for (index, value) in values.iter().enumerate() {
                let to_then = (values.len() - index - 1) as u8;
                let last = index + 1 == values.len();
                code.push(jump_equal(*value, to_then, if last { over_then } else { 0 }));
            }
        }
    }
    code.extend(then);
    code.push(answer(ALLOW));
    code
}

fn and(bits: u32) -> sock_filter {
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, bits)
}

pub(super) fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

pub(super) fn answer(verdict: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, verdict)
}

fn jump(over: u32) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, over)
}

pub(super) fn jump_equal(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value)
}

pub(super) fn jump_above(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, yes, no, value)
}

pub(super) fn jump_at_least(value: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, yes, no, value)
}

fn jump_any_bit(bits: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, yes, no, bits)
}

fn instruction(code: u32, yes: u8, no: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: yes, jf: no, k }
}
