//! From the limits that users know to the caps that the sandbox enforces.

use std::time::Duration;

use crate::{language::LanguageDefinition, sandbox::Caps, submission::Limits};

/// Stack of a main thread: deep recursion works, endless recursion ends.
const STACK_BYTES: u64 = 64 << 20;

/// Bytes of one stream at which a compile is ended; what is kept of it is far less.
const COMPILE_OUTPUT_KILL: u64 = 16 << 20;

/// The caps of a run under the request's `limits`.
pub(super) fn of_run(limits: &Limits, language: &LanguageDefinition) -> Caps {
    Caps {
        cpu_time: Duration::from_millis(limits.cpu_time_ms),
        wall_time: Duration::from_millis(limits.wall_time_ms),
        memory_bytes: limits.memory_bytes.saturating_add(language.memory_overhead_bytes),
        processes: limits.processes,
        output_keep: limits.output_bytes,
        output_kill: limits.output_bytes,
        disk_bytes: limits.disk_bytes,
        inodes: 4_096,
        open_files: 512,
        stack_bytes: STACK_BYTES,
    }
}

/// The caps of a compile step, from its language alone.
pub(super) fn of_compile(language: &LanguageDefinition) -> Caps {
    of_compiler(language.compile_limits(), language)
}

/// The caps of the step that makes what compiling needs once.
pub(super) fn of_cache(language: &LanguageDefinition) -> Caps {
    let step = language.cache.as_ref();
    of_compiler(step.map_or(Limits::COMPILE, |step| step.limits.over(Limits::COMPILE)), language)
}

fn of_compiler(limits: Limits, language: &LanguageDefinition) -> Caps {
    Caps {
        memory_bytes: limits.memory_bytes,
        output_kill: COMPILE_OUTPUT_KILL,
        inodes: 16_384,
        open_files: 1_024,
        ..of_run(&limits, language)
    }
}

/// The limits of a custom checker: its language's defaults where it names some (a JVM does not
/// start in what is enough for C).
pub(super) fn checker_limits(language: &LanguageDefinition) -> Limits {
    let named = language.limits;
    Limits {
        memory_bytes: named.memory_bytes.unwrap_or(Limits::CHECKER.memory_bytes),
        processes: named.processes.unwrap_or(Limits::CHECKER.processes),
        ..Limits::CHECKER
    }
}

/// The caps of a custom checker.
pub(super) fn of_checker(language: &LanguageDefinition) -> Caps {
    Caps { open_files: 256, ..of_run(&checker_limits(language), language) }
}
