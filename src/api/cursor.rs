//! The opaque text that stands for a place in a list.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::problem::Failure;
use crate::submission::SubmissionId;

/// What a cursor looks like, for the description: 22 characters of 6 bits, of which the last has 2.
pub const PATTERN: &str = "^[A-Za-z0-9_-]{21}[AQgw]$";

/// The cursor of what comes after `last`.
pub fn encode(last: SubmissionId) -> String {
    URL_SAFE_NO_PAD.encode(last.as_uuid().as_bytes())
}

/// What a cursor stands for.
///
/// # Errors
/// It is none of ours.
pub fn decode(cursor: &str) -> Result<SubmissionId, Failure> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let id = bytes.and_then(|bytes| Uuid::from_slice(&bytes).ok());
    id.map(SubmissionId::from_uuid)
        .ok_or_else(|| Failure::invalid_field("cursor", "is not a next_cursor of this list"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::Timestamp;

    #[test]
    fn a_cursor_comes_back_as_the_id_it_was_made_of() {
        let id = SubmissionId::new(Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(decode(&encode(id)).expect("our own"), id);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "x", "AQ", "%00", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAAA", "ä"]
        {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
