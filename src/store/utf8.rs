//! Whether bytes that come in pieces are UTF-8.

/// Checks bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// Bytes of whole characters.
    valid: u64,
    /// The beginning of a character that is not whole yet: up to three bytes.
    begun: Vec<u8>,
    broken: bool,
}

impl Utf8 {
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first()
            && !self.begun.is_empty()
            && !self.broken
        {
            self.begun.push(first);
            bytes = rest;
            match std::str::from_utf8(&self.begun) {
                Ok(_) => self.valid += std::mem::take(&mut self.begun).len() as u64,
                Err(error) => self.broken = error.error_len().is_some(),
            }
        }
        if self.broken {
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => self.valid += bytes.len() as u64,
            Err(error) => {
                self.valid += error.valid_up_to() as u64;
                self.begun = bytes[error.valid_up_to()..].to_vec();
                if error.error_len().is_some() {
                    (self.broken, self.begun) = (true, Vec::new());
                }
            }
        }
    }

    /// The bytes of whole characters, if nothing but the beginning of one more comes after them.
    pub(super) fn end(&self) -> Option<u64> {
        (!self.broken).then_some(self.valid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checked(pieces: &[&[u8]]) -> Option<u64> {
        let mut utf8 = Utf8::default();
        pieces.iter().for_each(|piece| utf8.push(piece));
        utf8.end()
    }

    fn at_once(bytes: &[u8]) -> Option<u64> {
        match std::str::from_utf8(bytes) {
            Ok(_) => Some(bytes.len() as u64),
            Err(error) if error.error_len().is_none() => Some(error.valid_up_to() as u64),
            Err(_) => None,
        }
    }

    #[test]
    fn a_character_may_be_spread_over_pieces_and_may_lack_its_end() {
        assert_eq!(checked(&[b"gr\xc3", b"\xbcn"]), Some(5));
        assert_eq!(checked(&[b"\xf0", b"\x9f", b"", b"\xa6", b"\x80x"]), Some(5));
        assert_eq!(checked(&[b"ab", b"\xf0\x9f"]), Some(2));
        assert_eq!(checked(&[b"ab\xf0", b"x"]), None);
        assert_eq!(checked(&[b"\xff", b"x"]), None);
        assert_eq!(checked(&[]), Some(0));
    }

    proptest! {
        #[test]
        fn pieces_are_judged_like_the_whole(
            parts in prop::collection::vec(
                prop_oneof![
                    any::<char>().prop_map(|c| c.to_string().into_bytes()),
                    any::<char>().prop_map(|c| c.to_string().into_bytes()),
                    prop::collection::vec(any::<u8>(), 0..3),
                ],
                0..8,
            ),
            length in 1usize..5,
        ) {
            let bytes = parts.concat();
            let pieces: Vec<_> = bytes.chunks(length).collect();
            prop_assert_eq!(checked(&pieces), at_once(&bytes));
        }
    }
}
