//! How a submission ended, as an exit code.

use serde_json::Value;

use crate::cli::client::{Event, text};

/// Braindrill failed, or would not; as `docker run` has it.
pub(super) const FAILED: u8 = 125;

/// Cancelled, as a shell has it for Ctrl-C.
pub(super) const CANCELLED: u8 = 130;

/// What is known of the end.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Ending {
    /// In a word; empty until it is known.
    pub(super) verdict: String,
    /// In a sentence.
    pub(super) reason: String,
    exit_code: Option<u8>,
    signal: Option<u8>,
}

impl Ending {
    /// Takes note of an event.
    pub(super) fn take(&mut self, event: &Event) {
        match event.kind.as_str() {
            "test" => {
                let number = |pointer| {
                    let value = event.value.pointer(pointer).and_then(Value::as_u64);
                    value.and_then(|value| u8::try_from(value).ok())
                };
                // The verdict of the whole is that of the first run that is not accepted.
                if self.exit_code.unwrap_or(0) == 0 && self.signal.is_none() {
                    self.exit_code = number("/run/exit_code");
                    self.signal = number("/run/signal");
                }
            }
            "finished" => {
                self.verdict = text(&event.value, "/verdict").to_owned();
                self.reason = text(&event.value, "/reason").to_owned();
            }
            // What an earlier attempt did is void.
            "state" => *self = Ending::default(),
            _ => {}
        }
    }

    /// Whether the program ended by itself.
    pub(super) fn is_its_own(&self) -> bool {
        match self.verdict.as_str() {
            "accepted" => true,
            "runtime_error" => self.signal.is_none(),
            _ => false,
        }
    }

    /// The same where something of it could not be saved, which the program's own failure outweighs.
    pub(super) fn exit_code_with(&self, is_incomplete: bool) -> u8 {
        match self.exit_code() {
            0 if is_incomplete => FAILED,
            code => code,
        }
    }

    /// The exit code that `--help` names.
    pub(super) fn exit_code(&self) -> u8 {
        match self.verdict.as_str() {
            "accepted" => 0,
            "runtime_error" => match (self.exit_code, self.signal) {
                (_, Some(signal)) => 128 + (signal & 0x7f),
                (Some(code), None) if code != 0 => code,
                _ => 1,
            },
            "wrong_answer" => 120,
            "compile_error" => 121,
            "output_limit_exceeded" => 122,
            "memory_limit_exceeded" => 123,
            "time_limit_exceeded" => 124,
            "cancelled" => CANCELLED,
            _ => FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ending(run: Value, verdict: &str) -> Ending {
        let event = |kind: &str, value| Event { kind: kind.to_owned(), attempt: 1, value };
        let mut ending = Ending::default();
        ending.take(&event("test", json!({ "run": run })));
        ending.take(&event("finished", json!({ "verdict": verdict, "reason": "so" })));
        ending
    }

    #[test]
    fn a_program_that_ended_by_itself_gives_its_own_code() {
        assert_eq!(ending(json!({ "exit_code": 0 }), "accepted").exit_code(), 0);
        let own = ending(json!({ "exit_code": 3 }), "runtime_error");
        assert_eq!((own.exit_code(), own.is_its_own()), (3, true));
        let killed = ending(json!({ "signal": 11 }), "runtime_error");
        assert_eq!((killed.exit_code(), killed.is_its_own()), (139, false));
    }

    #[test]
    fn every_other_verdict_has_a_code_of_its_own() {
        let verdicts = [
            "wrong_answer",
            "compile_error",
            "output_limit_exceeded",
            "memory_limit_exceeded",
            "time_limit_exceeded",
            "internal_error",
            "cancelled",
        ];
        let codes = verdicts.map(|verdict| ending(json!({ "exit_code": 0 }), verdict).exit_code());
        assert_eq!(codes, [120, 121, 122, 123, 124, 125, 130]);
        assert_eq!(Ending::default().exit_code(), FAILED);
    }
}
