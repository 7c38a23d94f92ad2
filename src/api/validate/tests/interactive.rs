//! Programs that are talked to.

use serde_json::json;

use super::*;
use crate::submission::{Interactive, MAX_INTERACTIVE_WALL_MS};

#[test]
fn what_a_program_is_connected_with_is_as_it_was_asked_for() {
    for (sent, meant) in [
        (json!({}), None),
        (json!({ "interactive": false, "tty": false }), None),
        (json!({ "interactive": true }), Some(Interactive::Pipes)),
        (json!({ "interactive": true, "tty": true, "tests": [] }), Some(Interactive::Tty)),
    ] {
        assert_eq!(check(python(sent)).expect("sound").interactive, meant);
    }
}

#[test]
fn a_terminal_is_for_interactive_ones_and_these_have_no_tests() {
    let alone = "tty: is for `interactive` submissions alone, and this is none";
    only_fault(python(json!({ "tty": true })), alone);
    only_fault(
        python(json!({ "interactive": true, "tests": [{}] })),
        "interactive: cannot be beside `tests`, whose input is fixed",
    );
}

#[test]
fn they_have_ten_minutes_and_may_ask_for_less() {
    let wall = |ms: u64| python(json!({ "interactive": true, "limits": { "wall_time_ms": ms } }));
    assert_eq!(check(wall(1)).expect("sound").limits.wall_time_ms, 1);
    only_fault(wall(600_001), "limits.wall_time_ms: 600001 is not between 1 and 600000");
    let unnamed = check(python(json!({ "interactive": true }))).expect("sound");
    assert_eq!(unnamed.limits.wall_time_ms, MAX_INTERACTIVE_WALL_MS);
    assert_eq!(unnamed.limits.cpu_time_ms, 5_000);
}
