//! From what a client sent to what the engine takes: every bound of the documentation is checked
//! here, once, and every default filled in.
//!
//! Pure: the languages come in as a function. All faults of a request are found, not only the
//! first. Nothing is ever lowered or repaired.

mod files;
mod test_cases;

use std::collections::BTreeMap;

use super::{body::shorten, problem::FieldError, types as dto};
use crate::{
    language::{LanguageDefinition, LanguageEntry, Status},
    submission::{
        Interactive, LimitViolation, Limits, MAX_TOTAL_WALL_MS, MAXIMUM, SubmissionRequest,
    },
};

/// Most arguments of a program, or of its compiler.
const MAX_ARGS: usize = 100;
/// Most bytes of them together. Linux gives a program 128 KiB for one and a quarter of its stack
/// for all.
const MAX_ARGS_BYTES: usize = 64 << 10;
/// Most environment variables.
const MAX_ENV: usize = 64;
/// Most bytes of their names and values together.
const MAX_ENV_BYTES: usize = 64 << 10;
/// Most bytes of one standard input.
const MAX_STDIN_BYTES: usize = 1 << 20;
/// The priority of a submission that names none.
const DEFAULT_PRIORITY: u64 = 50;
/// The highest priority.
const MAX_PRIORITY: u64 = 100;
/// Most bytes of a client's text that an answer quotes.
const QUOTE: usize = 64;

/// The languages, as validation sees them.
pub trait Languages {
    /// The language with this id or alias.
    fn get(&self, id: &str) -> Option<LanguageEntry>;
    /// The ids of all languages.
    fn ids(&self) -> Vec<String>;
    /// The most that a submission may ask for now.
    fn maximum(&self) -> Limits;
}

impl Languages for crate::language::Catalog {
    fn get(&self, id: &str) -> Option<LanguageEntry> {
        crate::language::Catalog::get(self, id)
    }

    fn ids(&self) -> Vec<String> {
        self.list().into_iter().map(|entry| entry.definition.id.clone()).collect()
    }

    fn maximum(&self) -> Limits {
        crate::language::Catalog::maximum(self)
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.0.push(FieldError::new(field, detail));
    }

    /// Adds a fault unless `value` is at most `maximum`.
    fn at_most(&mut self, field: &str, value: usize, maximum: usize, unit: &str) {
        if value > maximum {
            self.add(field, format!("{value} {unit} are more than {maximum}"));
        }
    }
}

/// Checks a request and fills in its defaults.
///
/// # Errors
/// Every field that is wrong, with its value and bound.
pub fn validate(
    request: dto::SubmissionRequest,
    languages: &impl Languages,
) -> Result<SubmissionRequest, Vec<FieldError>> {
    let mut faults = Faults::default();
    let definition = language("language", &request.language, languages, &mut faults);
    // Without a language no default is known: its fault alone is reported with the plain bounds.
    let Some(entry) = definition else { return Err(faults.0) };
    let definition = &entry.definition;

    let interactive = interactive(&request, &mut faults);
    let program =
        files::program(request.source, request.files, request.entrypoint, definition, &mut faults);
    let args = request.args.unwrap_or_default();
    check_args("args", &args, &mut faults);
    let compile_args = request.compile_args.unwrap_or_default();
    check_args("compile_args", &compile_args, &mut faults);
    let env = request.env.unwrap_or_default();
    check_env(&env, &mut faults);
    let stdin = request.stdin.unwrap_or_default();
    check_stdin("stdin", &stdin, &mut faults);
    let most = match interactive {
        Some(_) => languages.maximum().of_interactive(),
        None => languages.maximum(),
    };
    let mut named = request.limits.unwrap_or_default();
    if interactive.is_some() {
        // People think between two lines; input ends when nobody is there any more.
        named.wall_time_ms.get_or_insert(most.wall_time_ms);
    }
    let limits = limits(named, definition, &most, &mut faults);
    // A default that follows from a wrong limit is not worth a word.
    let are_sound = limits.check_within(definition.minimum_memory(), &most).is_ok();
    if are_sound && program.disk_bytes > limits.disk_bytes {
        let (need, have) = (program.disk_bytes, limits.disk_bytes);
        let detail = format!("{have} is less than the {need} bytes that the program's files need");
        faults.add("limits.disk_bytes", detail);
    }
    let tests = request.tests.unwrap_or_default();
    check_total_wall(&limits, tests.len(), &mut faults);
    let tests = test_cases::test_cases(tests, &stdin, &args, languages, &mut faults);
    let collect = request.collect.unwrap_or_default();
    files::check_collect(&collect, !tests.is_empty(), &mut faults);
    let priority = request.priority.unwrap_or(DEFAULT_PRIORITY);
    if priority > MAX_PRIORITY {
        faults.add("priority", format!("{priority} is not between 0 and {MAX_PRIORITY}"));
    }

    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    Ok(SubmissionRequest {
        language: definition.id.clone(),
        source: program.source,
        files: program.files,
        entrypoint: program.entrypoint,
        stdin,
        args,
        env,
        compile_args,
        limits,
        tests,
        stop_on_failure: request.stop_on_failure.unwrap_or(false),
        priority: priority as u8,
        collect,
        interactive,
    })
}

/// What a program is connected with that is talked to.
fn interactive(request: &dto::SubmissionRequest, faults: &mut Faults) -> Option<Interactive> {
    let is_interactive = request.interactive.unwrap_or(false);
    let has_tty = request.tty.unwrap_or(false);
    if has_tty && !is_interactive {
        faults.add("tty", "is for `interactive` submissions alone, and this is none");
    }
    if is_interactive && request.tests.as_ref().is_some_and(|tests| !tests.is_empty()) {
        faults.add("interactive", "cannot be beside `tests`, whose input is fixed");
    }
    is_interactive.then_some(if has_tty { Interactive::Tty } else { Interactive::Pipes })
}

/// The entry of a language that can be used.
fn language(
    field: &str,
    id: &str,
    languages: &impl Languages,
    faults: &mut Faults,
) -> Option<LanguageEntry> {
    let Some(entry) = languages.get(id) else {
        let known = languages.ids().join(", ");
        faults.add(field, format!("unknown language `{}`; known are {known}", shorten(id, QUOTE)));
        return None;
    };
    if let Status::Unavailable(reason) = &entry.status {
        faults.add(field, format!("{} is unavailable: {reason}", entry.definition.id));
        return None;
    }
    Some(entry)
}

fn check_args(field: &str, args: &[String], faults: &mut Faults) {
    faults.at_most(field, args.len(), MAX_ARGS, "arguments");
    faults.at_most(field, args.iter().map(String::len).sum(), MAX_ARGS_BYTES, "bytes");
    if let Some(index) = args.iter().position(|arg| arg.contains('\0')) {
        faults.add(format!("{field}[{index}]"), "holds a NUL character");
    }
}

fn check_env(env: &BTreeMap<String, String>, faults: &mut Faults) {
    faults.at_most("env", env.len(), MAX_ENV, "variables");
    let bytes = env.iter().map(|(name, value)| name.len() + value.len()).sum();
    faults.at_most("env", bytes, MAX_ENV_BYTES, "bytes");
    for (name, value) in env {
        let field = || format!("env.{}", shorten(name, QUOTE));
        if !is_variable_name(name) {
            let rule = "is not a name of letters, digits and `_` that begins with no digit";
            faults.add(field(), rule);
        }
        if value.contains('\0') {
            faults.add(field(), "holds a NUL character");
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn check_stdin(field: &str, stdin: &str, faults: &mut Faults) {
    faults.at_most(field, stdin.len(), MAX_STDIN_BYTES, "bytes");
}

/// The limits as named, with defaults where they name none; those are never above `most`.
fn limits(
    named: dto::Limits,
    definition: &LanguageDefinition,
    most: &Limits,
    faults: &mut Faults,
) -> Limits {
    let base = definition.default_limits().at_most(most);
    let cpu_time_ms = named.cpu_time_ms.unwrap_or(base.cpu_time_ms);
    let memory_bytes = named.memory_bytes.unwrap_or(base.memory_bytes);
    // A language's own wall time goes with its own CPU time; a named CPU time brings its own.
    let own_wall = definition.limits.wall_time_ms.filter(|_| named.cpu_time_ms.is_none());
    let default_wall = own_wall.unwrap_or(Limits::default_wall_time_ms(cpu_time_ms));
    let limits = Limits {
        cpu_time_ms,
        wall_time_ms: named.wall_time_ms.unwrap_or(default_wall.min(most.wall_time_ms)),
        memory_bytes,
        processes: named.processes.unwrap_or(base.processes),
        output_bytes: named.output_bytes.unwrap_or(base.output_bytes),
        disk_bytes: named.disk_bytes.unwrap_or(base.disk_bytes.min(memory_bytes / 2)),
    };
    if let Err(violation) = limits.check_within(definition.minimum_memory(), most) {
        let detail = violation_detail(violation, definition, memory_bytes);
        faults.add(format!("limits.{}", violation.field), detail);
    }
    limits
}

/// What is wrong with a limit, in words that tell where its bound is from.
fn violation_detail(
    violation: LimitViolation,
    definition: &LanguageDefinition,
    memory_bytes: u64,
) -> String {
    let LimitViolation { field, value, minimum, maximum } = violation;
    if minimum > maximum {
        let id = &definition.id;
        return format!("{id} needs {minimum} at least, and {maximum} is the most allowed now");
    }
    let usual = [MAXIMUM, MAXIMUM.of_interactive()];
    let is_usual = usual.iter().any(|usual| usual.fields().contains(&(field, maximum)));
    let origin = match field {
        "disk_bytes" if maximum == memory_bytes / 2 => ", half of memory_bytes",
        _ if is_usual => "",
        _ => ", the most allowed now",
    };
    format!("{value} is not between {minimum} and {maximum}{origin}")
}

fn check_total_wall(limits: &Limits, tests: usize, faults: &mut Faults) {
    let total = limits.wall_time_ms.saturating_mul(tests.max(1) as u64);
    if total > MAX_TOTAL_WALL_MS {
        let each = limits.wall_time_ms;
        let detail = format!(
            "{each} for each of {tests} tests is {total} together, more than {MAX_TOTAL_WALL_MS}"
        );
        faults.add("limits.wall_time_ms", detail);
    }
}

#[cfg(test)]
mod tests;
