//! What reaches a program that is talked to while it runs: one JSON object a line, to a worker.

use serde::{Deserialize, Serialize};

use crate::submission::Blob;

/// The most that one [`Input::Data`] carries, in bytes, before base64.
pub const MAX_INPUT_BYTES: usize = 64 << 10;

/// The longest line of one, in bytes: base64 is a third longer than what it stands for.
const MAX_LINE_BYTES: usize = 2 * MAX_INPUT_BYTES;

/// Something for a program that runs. Standard input ends with [`Input::End`], or when nobody is left who
/// could send more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Input {
    /// Bytes for its standard input.
    Data {
        /// At most [`MAX_INPUT_BYTES`].
        data: Blob,
    },
    /// The end of its standard input; on a terminal what Ctrl-D does, after which more may come.
    End,
    /// A signal for its process group.
    Signal {
        /// Which.
        signal: InputSignal,
    },
    /// Its terminal has another size; nothing without one.
    Resize(WindowSize),
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// From top to bottom.
    pub rows: u16,
    /// From left to right.
    pub columns: u16,
}

impl WindowSize {
    /// Of a terminal that nobody has resized: the usual one.
    pub const DEFAULT: WindowSize = WindowSize { rows: 24, columns: 80 };
}

/// The signals that may be sent to a program: see signal(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say it, and signal(7) has the rest")]
pub enum InputSignal {
    Hup,
    Int,
    Quit,
    Kill,
    Usr1,
    Usr2,
    Term,
    Stop,
    Cont,
}

/// Cuts what a connection gives into inputs.
#[derive(Debug, Default)]
pub struct InputDecoder {
    rest: Vec<u8>,
}

/// What came is no line of inputs.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// One has no end.
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// One is not understood.
    #[error("a line is no input")]
    Malformed(#[from] serde_json::Error),
}

impl Input {
    /// As a line.
    pub fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("it has no map");
        line.push(b'\n');
        line
    }
}

impl InputDecoder {
    /// The inputs that are whole with these bytes, which may be cut anywhere.
    ///
    /// # Errors
    /// See [`InputError`]; nothing after it is understood any more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Input>, InputError> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return if self.rest.len() > MAX_LINE_BYTES {
                Err(InputError::TooLong)
            } else {
                Ok(Vec::new())
            };
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let lines = whole[..end].split(|byte| *byte == b'\n');
        Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Vec<Input> {
        vec![
            Input::Data { data: "one\n".into() },
            Input::Resize(WindowSize { rows: 1, columns: 2 }),
            Input::Signal { signal: InputSignal::Usr1 },
            Input::Data { data: Blob(vec![0xff; MAX_INPUT_BYTES].into()) },
            Input::End,
        ]
    }

    proptest! {
        #[test]
        fn inputs_are_the_same_wherever_their_lines_are_cut(cut in 1usize..5000) {
            let bytes: Vec<u8> = all().iter().flat_map(Input::encode).collect();
            let mut decoder = InputDecoder::default();
            let read = bytes.chunks(cut).map(|piece| decoder.push(piece).expect("lines"));
            prop_assert_eq!(read.flatten().collect::<Vec<_>>(), all());
        }
    }

    #[test]
    fn a_line_has_the_words_of_the_documentation() {
        let line = |input: Input| String::from_utf8(input.encode()).expect("text");
        assert_eq!(line(Input::End), "{\"type\":\"end\"}\n");
        let signal = Input::Signal { signal: InputSignal::Usr1 };
        assert_eq!(line(signal), "{\"type\":\"signal\",\"signal\":\"USR1\"}\n");
        let size = Input::Resize(WindowSize::DEFAULT);
        assert_eq!(line(size), "{\"type\":\"resize\",\"rows\":24,\"columns\":80}\n");
    }

    #[test]
    fn what_has_no_end_or_no_sense_is_refused() {
        let mut decoder = InputDecoder::default();
        assert!(matches!(decoder.push(b"{\"type\":\"sing\"}\n"), Err(InputError::Malformed(_))));
        let mut decoder = InputDecoder::default();
        let endless = vec![b'a'; MAX_LINE_BYTES + 1];
        assert!(matches!(decoder.push(&endless), Err(InputError::TooLong)));
    }
}
