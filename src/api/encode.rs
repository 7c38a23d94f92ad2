//! Bytes as they stand in an answer, made of them piece by piece. Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

/// How bytes stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Raw,
    /// UTF-8, as a JSON string.
    JsonText,
    /// As a JSON string in base64.
    JsonBase64,
}

/// Writes bytes in one form.
#[derive(Debug)]
pub(super) struct Encoder {
    form: Form,
    begun: bool,
    /// Bytes that wait for others: base64 is written by threes.
    rest: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(form: Form) -> Encoder {
        Encoder { form, begun: false, rest: Vec::new() }
    }

    /// What these bytes add.
    pub(super) fn encode(&mut self, bytes: Bytes) -> Bytes {
        match self.form {
            Form::Raw => return bytes,
            Form::JsonText => {
                let mut text = self.begin(bytes.len() + bytes.len() / 8);
                bytes.iter().for_each(|&byte| escape(byte, &mut text));
                text
            }
            Form::JsonBase64 => {
                self.rest.extend_from_slice(&bytes);
                let whole = self.rest.len() - self.rest.len() % 3;
                let mut text = self.begin(whole / 3 * 4);
                text.extend_from_slice(STANDARD.encode(&self.rest[..whole]).as_bytes());
                self.rest.drain(..whole);
                text
            }
        }
        .into()
    }

    /// What comes after the last bytes.
    pub(super) fn end(&mut self) -> Bytes {
        if self.form == Form::Raw {
            return Bytes::new();
        }
        let mut text = self.begin(8);
        text.extend_from_slice(STANDARD.encode(std::mem::take(&mut self.rest)).as_bytes());
        text.push(b'"');
        text.into()
    }

    fn begin(&mut self, room: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(room + 1);
        if !std::mem::replace(&mut self.begun, true) {
            text.push(b'"');
        }
        text
    }
}

/// A byte of a text in a JSON string (RFC 8259, section 7), in the same words as serde_json's.
fn escape(byte: u8, text: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            return text.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        _ => return text.push(byte),
    };
    text.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(form: Form, bytes: &[u8], length: usize) -> Vec<u8> {
        let mut encoder = Encoder::new(form);
        let mut all = Vec::new();
        for piece in bytes.chunks(length) {
            all.extend_from_slice(&encoder.encode(Bytes::copy_from_slice(piece)));
        }
        all.extend_from_slice(&encoder.end());
        all
    }

    #[test]
    fn every_character_below_128_stands_as_serde_json_writes_it() {
        let text: String = (0..128u8).map(char::from).collect();
        let expected = serde_json::to_vec(&text).expect("a text");
        assert_eq!(encoded(Form::JsonText, text.as_bytes(), 5), expected);
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_make_the_same_text(text: String, length in 1usize..9) {
            let expected = serde_json::to_vec(&text).expect("a text");
            prop_assert_eq!(encoded(Form::JsonText, text.as_bytes(), length), expected);
        }

        #[test]
        fn pieces_of_any_length_make_the_same_base64(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            length in 1usize..9,
        ) {
            let expected = serde_json::to_vec(&STANDARD.encode(&bytes)).expect("a text");
            prop_assert_eq!(encoded(Form::JsonBase64, &bytes, length), expected);
            prop_assert_eq!(encoded(Form::Raw, &bytes, length), bytes);
        }
    }
}
