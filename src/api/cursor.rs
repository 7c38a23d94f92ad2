//! The opaque text that stands for a place in a list.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use super::problem::Failure;
use crate::submission::SubmissionId;

/// First byte of a cursor, so that its content may change one day.
const VERSION: u8 = 1;

/// The cursor of what comes after `last`.
pub fn encode(last: SubmissionId) -> String {
    let mut bytes = [VERSION; 17];
    bytes[1..].copy_from_slice(last.as_uuid().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a cursor stands for.
///
/// # Errors
/// It is none of ours.
pub fn decode(cursor: &str) -> Result<SubmissionId, Failure> {
    let invalid = || Failure::invalid_field("cursor", "is not a next_cursor of this list");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
    match bytes.split_first() {
        Some((&VERSION, id)) => {
            Ok(SubmissionId::from_uuid(Uuid::from_slice(id).map_err(|_| invalid())?))
        }
        _ => Err(invalid()),
    }
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
        for text in ["", "x", "AQ", "%00", "AgAAAAAAAAAAAAAAAAAAAAA", "ä"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }
}
