//! How the bytes of two pieces of output alternate, one of each stream, that were joined while both
//! streams wrote. Made by the runner where it joins, merged where the daemon joins once more, and read
//! where output is shown in the order in which it was written. Pure.

use serde::{Deserialize, Serialize};

use crate::submission::Blob;

/// The most turns that are kept for two pieces. Whoever joins begins two new ones then, so that no order
/// is lost; what comes beyond it all the same follows piece by piece.
pub const MAX_TURNS: usize = 4096;

/// Lengths in bytes: so many of the first piece, then so many of the second, and so on in turn. Empty
/// where there is nothing to tell: all of the first, then all of the second.
///
/// They are taken for what they say as far as the bytes go, and no further: a list that does not fit its
/// pieces, as after a piece was cut short, gives every byte once all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Blob", into = "Blob")]
pub struct Turns(Vec<u32>);

impl Turns {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing more is noted.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_TURNS
    }

    /// Notes bytes that come next, of the second piece or of the first.
    pub fn note(&mut self, second: bool, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if length == 0 || self.is_full() {
            return;
        }
        let is_next = (self.0.len() % 2 == 1) == second;
        match self.0.last_mut() {
            Some(last) if !is_next => *last = last.saturating_add(length),
            None if second => self.0.extend([0, length]),
            _ => self.0.push(length),
        }
    }

    /// Those of the two pieces until here, if there is anything to tell of them; begins anew.
    pub fn take(&mut self) -> Turns {
        if self.0.len() > 2 {
            return std::mem::take(self);
        }
        self.0.clear();
        Turns::default()
    }

    /// The turns of two pieces of these lengths: of which one, the second or the first, and how many bytes.
    pub fn of(&self, first: usize, second: usize) -> impl Iterator<Item = (bool, usize)> + '_ {
        let mut left = [first, second];
        let told = self.0.iter().enumerate().map(|(index, length)| (index % 2, *length as usize));
        let rest = [(0, usize::MAX), (1, usize::MAX)];
        told.chain(rest).filter_map(move |(piece, length)| {
            let length = length.min(left[piece]);
            left[piece] -= length;
            (length > 0).then_some((piece == 1, length))
        })
    }

    /// The bytes of two pieces in their order.
    pub fn join(&self, first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(first.len() + second.len());
        let mut left = [first, second];
        for (second, length) in self.of(first.len(), second.len()) {
            let left = &mut left[usize::from(second)];
            let (next, rest) = left.split_at(length);
            joined.extend_from_slice(next);
            *left = rest;
        }
        joined
    }

    /// As they travel and are stored: each in as many bytes as it has groups of seven bits, the lowest
    /// first (LEB128). Most are short, and a list of numbers in JSON would be twice as long.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        for &length in &self.0 {
            let mut left = length;
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        bytes
    }

    /// Those that are written so, up to what is none.
    pub fn from_bytes(bytes: &[u8]) -> Turns {
        let lengths = bytes.split_inclusive(|byte| byte & 0x80 == 0).map_while(|group| {
            let (last, _) = group.split_last()?;
            if last & 0x80 != 0 || group.len() > 5 {
                return None;
            }
            let add = |high: u64, byte: &u8| high << 7 | u64::from(byte & 0x7f);
            u32::try_from(group.iter().rev().fold(0, add)).ok()
        });
        Turns(lengths.take(MAX_TURNS).collect())
    }
}

impl From<Blob> for Turns {
    fn from(bytes: Blob) -> Turns {
        Turns::from_bytes(&bytes)
    }
}

impl From<Turns> for Blob {
    fn from(turns: Turns) -> Blob {
        turns.to_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noted(writes: &[(bool, usize)]) -> Turns {
        let mut turns = Turns::default();
        writes.iter().for_each(|&(second, length)| turns.note(second, length));
        turns.take()
    }

    #[test]
    fn bytes_written_in_turn_are_read_in_turn() {
        let turns = noted(&[(false, 1), (true, 1), (false, 1)]);
        assert_eq!(turns, Turns(vec![1, 1, 1]));
        assert_eq!(turns.join(b"ac", b"b"), b"abc");
        assert_eq!(noted(&[(false, 2), (false, 1), (true, 3), (true, 1)]), Turns::default());
        assert_eq!(noted(&[]), Turns::default());
    }

    #[test]
    fn what_follows_the_last_turn_that_is_kept_is_piece_by_piece() {
        let mut turns = Turns::default();
        (0..2 * MAX_TURNS).for_each(|number| turns.note(number % 2 == 1, 1));
        assert_eq!(turns.len(), MAX_TURNS);
        assert!(turns.is_full());
        let joined = turns.take().join(&[b'a'; MAX_TURNS], &[b'b'; MAX_TURNS]);
        let (told, rest) = joined.split_at(MAX_TURNS);
        assert_eq!(told, b"ab".repeat(MAX_TURNS / 2));
        assert_eq!(rest, [[b'a'; MAX_TURNS / 2], [b'b'; MAX_TURNS / 2]].concat());
    }

    #[test]
    fn turns_that_are_none_are_not_taken() {
        assert_eq!(Turns::from_bytes(&[0xff; 100]), Turns::default());
        assert_eq!(Turns::from_bytes(&[0x81]), Turns::default());
        assert_eq!(Turns::from_bytes(&[5, 0xff, 0xff, 0xff, 0xff, 0x1f, 6]), Turns(vec![5]));
        assert_eq!(Turns::from_bytes(&vec![1; 1 << 20]).len(), MAX_TURNS);
    }

    proptest! {
        #[test]
        fn every_byte_is_given_once_and_each_piece_stays_in_its_order(
            lengths in proptest::collection::vec(
                prop_oneof![0u32..9, Just(u32::MAX)], 0..40
            ),
            first in 0u8..100,
            second in 100u8..200,
        ) {
            let (first, second): (Vec<_>, Vec<_>) = ((0..first).collect(), (100..second).collect());
            let joined = Turns(lengths).join(&first, &second);
            let (low, high): (Vec<u8>, Vec<u8>) = joined.iter().partition(|byte| **byte < 100);
            prop_assert_eq!(low, first);
            prop_assert_eq!(high, second);
        }

        #[test]
        fn they_are_stored_as_they_are(
            lengths in proptest::collection::vec(any::<u32>(), 0..40),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let turns = Turns(lengths);
            prop_assert_eq!(Turns::from_bytes(&turns.to_bytes()), turns);
            let _ = Turns::from_bytes(&bytes);
        }
    }
}
