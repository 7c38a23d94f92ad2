//! What is kept, in the order of its last use.

use std::collections::{BTreeMap, HashMap};

use super::Key;

/// The most entries: each takes up some memory and, at the start, a look.
const MAX_ENTRIES: usize = 10_000;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub(in crate::runner) struct Bounds {
    /// Of all entries together; 0: nothing is kept.
    pub(in crate::runner) bytes: u64,
    pub(in crate::runner) entries: usize,
}

impl Bounds {
    /// So many bytes in as many entries as there may be.
    pub(in crate::runner) fn of_bytes(bytes: u64) -> Bounds {
        Bounds { bytes, entries: MAX_ENTRIES }
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Key, Entry>,
    /// By the number of the last use.
    by_use: BTreeMap<u64, Key>,
    /// How often one was used.
    uses: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl Index {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Adds one, in place of what had this key, as the one used last.
    pub(super) fn insert(&mut self, key: Key, bytes: u64) {
        self.remove(&key);
        self.uses += 1;
        self.entries.insert(key, Entry { bytes, used: self.uses });
        self.by_use.insert(self.uses, key);
        self.bytes += bytes;
    }

    /// Makes one the one used last.
    pub(super) fn touch(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, *key);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.bytes -= entry.bytes;
        }
    }

    /// The one that was not used for longest.
    pub(super) fn oldest(&self) -> Option<Key> {
        self.by_use.values().next().copied()
    }

    /// Whether another of so many bytes is within the bounds; of none, whether what there is is.
    pub(super) fn fits(&self, bytes: u64, bounds: Bounds) -> bool {
        let entries = self.entries.len() + usize::from(bytes > 0);
        entries <= bounds.entries && self.bytes.saturating_add(bytes) <= bounds.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str) -> Key {
        blake3::hash(of.as_bytes())
    }

    #[test]
    fn what_was_not_used_for_longest_is_the_oldest() {
        let mut index = Index::default();
        for name in ["a", "b", "c"] {
            index.insert(key(name), 10);
        }
        assert_eq!(index.oldest(), Some(key("a")));
        index.touch(&key("a"));
        assert_eq!(index.oldest(), Some(key("b")));
        index.insert(key("b"), 20);
        assert_eq!(index.oldest(), Some(key("c")));
        index.touch(&key("not there"));
        index.remove(&key("c"));
        index.remove(&key("c"));
        assert_eq!(index.oldest(), Some(key("a")));
        assert_eq!((index.bytes, index.entries.len(), index.by_use.len()), (30, 2, 2));
    }

    #[test]
    fn bytes_and_entries_are_both_bounded() {
        let bounds = Bounds { bytes: 100, entries: 2 };
        let mut index = Index::default();
        assert!(index.fits(100, bounds) && !index.fits(101, bounds));
        index.insert(key("a"), 60);
        assert!(index.fits(40, bounds) && !index.fits(41, bounds) && !index.fits(u64::MAX, bounds));
        index.insert(key("b"), 10);
        assert!(!index.fits(1, bounds), "two are enough");
        assert!(index.fits(0, bounds), "as it is, it is within");
    }
}
