//! An execution request as bytes: its JSON line, compressed with zstd (RFC 8878).
//!
//! This is what travels where room is scarce, as in the payload of a dispatched Nomad job.

use std::io::Read;

use super::{ExecutionRequest, VERSION};

/// Source and tests shrink well at this level, in about a millisecond for 64 KiB; the highest
/// levels gain a few per cent and take far longer.
const LEVEL: i32 = 9;

/// The longest request line that is read, in bytes: a small frame may claim to hold terabytes.
/// A body is 1 MiB by default, and base64 and escapes make a request a few times as long.
pub const MAX_REQUEST_BYTES: u64 = 64 << 20;

/// How a zstd frame begins.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Bytes that are no request for this runner.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The compressed frame is damaged.
    #[error("the request cannot be decompressed")]
    Compressed(#[source] std::io::Error),
    /// It is longer than [`MAX_REQUEST_BYTES`].
    #[error("the request is longer than {MAX_REQUEST_BYTES} bytes")]
    TooLong,
    /// It is not JSON of the right shape.
    #[error("the request is malformed")]
    Malformed(#[source] serde_json::Error),
    /// It is of another version of the protocol.
    #[error("the request is of version {found} of the protocol, and this runner of {VERSION}")]
    Version {
        /// The version it names.
        found: u64,
    },
}

/// The request, compressed.
pub fn encode(request: &ExecutionRequest) -> Vec<u8> {
    let line = serde_json::to_vec(request).expect("requests hold no map with keys other than text");
    zstd::bulk::compress(&line, LEVEL).expect("compressing into memory cannot fail")
}

/// The request in `bytes`: compressed, or plain JSON as a person would write it.
///
/// # Errors
/// See [`PayloadError`].
pub fn decode(bytes: &[u8]) -> Result<ExecutionRequest, PayloadError> {
    let mut line = Vec::new();
    if bytes.starts_with(&ZSTD_MAGIC) {
        zstd::stream::read::Decoder::new(bytes)
            .and_then(|frame| frame.take(MAX_REQUEST_BYTES + 1).read_to_end(&mut line))
            .map_err(PayloadError::Compressed)?;
    } else {
        line.extend_from_slice(bytes);
    }
    if line.len() as u64 > MAX_REQUEST_BYTES {
        return Err(PayloadError::TooLong);
    }
    let value: serde_json::Value =
        serde_json::from_slice(&line).map_err(PayloadError::Malformed)?;
    match value.get("v").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(VERSION) => Err(PayloadError::Version { found }),
        _ => serde_json::from_value(value).map_err(PayloadError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn request(source: &str) -> ExecutionRequest {
        serde_json::from_value(serde_json::json!({
            "v": VERSION,
            "submission": "01890a5d-ac96-774b-bcce-b302099a8057",
            "attempt": 1,
            "request": {
                "language": "bash",
                "source": source,
                "entrypoint": "main.sh",
                "limits": crate::submission::Limits::DEFAULT,
                "priority": 50,
            },
            "language": {
                "id": "bash",
                "name": "Bash",
                "extension": "sh",
                "source_file": "main.sh",
                "tools": BTreeMap::from([("bash", ["/bin/bash"])]),
                "version": { "command": ["{tool:bash}", "--version"] },
                "run": { "command": ["{tool:bash}", "{entrypoint}"] },
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_request_comes_back_as_it_was() {
        let request = request("print(6*7)");
        assert_eq!(decode(&encode(&request)).unwrap(), request);
        assert_eq!(decode(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
    }

    #[test]
    fn a_damaged_request_is_refused() {
        let mut bytes = encode(&request("print(6*7)"));
        bytes.truncate(bytes.len() / 2);
        assert!(matches!(decode(&bytes), Err(PayloadError::Compressed(_))));
        assert!(matches!(decode(b"hello"), Err(PayloadError::Malformed(_))));
        assert!(matches!(decode(b""), Err(PayloadError::Malformed(_))));
    }

    #[test]
    fn a_request_of_another_version_is_refused_as_such() {
        assert!(matches!(
            decode(br#"{"v":7,"shape":"unknown"}"#),
            Err(PayloadError::Version { found: 7 })
        ));
    }

    #[test]
    fn a_small_frame_that_grows_without_end_is_given_up() {
        let bomb = zstd::bulk::compress(&vec![b' '; (MAX_REQUEST_BYTES + 2) as usize], 1).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(matches!(decode(&bomb), Err(PayloadError::TooLong)));
    }
}
