//! Limits where the operator allows less than the documentation.

use serde_json::json;

use super::*;

/// The same languages, with less allowed. Rust needs more memory than that, and can be used.
struct Lowered(Limits);

impl Languages for Lowered {
    fn get(&self, id: &str) -> Option<LanguageEntry> {
        let mut entry = Three.get(id)?;
        if id == "rust" {
            let mut definition = (*entry.definition).clone();
            definition.minimum_memory_bytes = Some(128 << 20);
            entry = LanguageEntry {
                definition: Arc::new(definition),
                status: Status::Ready,
                version: None,
            };
        }
        Some(entry)
    }

    fn ids(&self) -> Vec<String> {
        Three.ids()
    }

    fn maximum(&self) -> Limits {
        self.0
    }
}

const LESS: Limits = Limits {
    cpu_time_ms: 2_000,
    wall_time_ms: 7_000,
    memory_bytes: 64 << 20,
    processes: 8,
    output_bytes: 4096,
    disk_bytes: 48 << 20,
};

fn with(language: &str, limits: serde_json::Value) -> Result<Limits, String> {
    let request = json!({ "language": language, "source": "", "limits": limits });
    let request = serde_json::from_value(request).expect("the right shape");
    match validate(request, &Lowered(LESS)) {
        Ok(request) => Ok(request.limits),
        Err(faults) => {
            assert_eq!(faults.len(), 1, "{faults:?}");
            Err(format!("{}: {}", faults[0].field, faults[0].detail))
        }
    }
}

#[test]
fn a_default_above_what_is_allowed_is_brought_down_to_it() {
    let expected = Limits { disk_bytes: 32 << 20, ..LESS };
    assert_eq!(with("python", json!({})), Ok(expected), "the disk is half of the memory");
    let named = with("python", json!({ "cpu_time_ms": 1_999 })).expect("sound");
    assert_eq!((named.cpu_time_ms, named.wall_time_ms), (1_999, 7_000));
}

#[test]
fn a_limit_above_what_is_allowed_is_refused_with_the_bound_in_force() {
    for (name, most) in LESS.fields() {
        if name == "disk_bytes" {
            continue;
        }
        assert!(with("python", json!({ name: most })).is_ok(), "{name}");
        let message = with("python", json!({ name: most + 1 })).expect_err("too much");
        let least = if name == "memory_bytes" { 16 << 20 } else { 1 };
        let bound = format!("{} is not between {least} and {most}, the most allowed now", most + 1);
        assert_eq!(message, format!("limits.{name}: {bound}"));
    }
    let message = with("python", json!({ "disk_bytes": 33 << 20 })).expect_err("more than half");
    assert!(message.ends_with("and 33554432, half of memory_bytes"), "{message}");
}

#[test]
fn a_language_that_needs_more_memory_than_is_allowed_says_so() {
    for limits in [json!({}), json!({ "memory_bytes": 128 << 20 })] {
        let message = with("rust", limits).expect_err("no memory is right");
        let reason = "rust needs 134217728 at least, and 67108864 is the most allowed now";
        assert_eq!(message, format!("limits.memory_bytes: {reason}"));
    }
}

#[test]
fn an_operator_who_allows_less_time_allows_it_to_nobody() {
    let ask = |limits: serde_json::Value| {
        let sent = python(json!({ "interactive": true, "limits": limits }));
        let sent = serde_json::from_value(sent).expect("the right shape");
        validate(sent, &Lowered(LESS)).map(|request| request.limits.wall_time_ms)
    };
    assert_eq!(ask(json!({ "wall_time_ms": 1 })), Ok(1));
    assert_eq!(ask(json!({})), Ok(7_000));
    let detail = "7001 is not between 1 and 7000, the most allowed now";
    assert_eq!(
        ask(json!({ "wall_time_ms": 7_001 })),
        Err(vec![FieldError::new("limits.wall_time_ms", detail)])
    );
}
