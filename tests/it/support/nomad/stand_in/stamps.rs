//! Times and ids.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Nanoseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the stand-in lives in real time, as Nomad does")]
pub(super) fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos()).expect("before 2262")
}

/// As Go writes a time in JSON.
pub(super) fn rfc3339(nanoseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .expect("a time that was now once")
}

/// An id that no other thing has.
pub(super) fn uuid() -> String {
    let random = || u128::from(RandomState::new().build_hasher().finish());
    uuid::Uuid::from_u128(random() << 64 | random()).to_string()
}
