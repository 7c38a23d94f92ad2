//! What a load test submits: one of five kinds of Python program, or a file.

use std::{fmt, io, path::PathBuf, str::FromStr};

/// The names that `--program` knows; anything else is a path.
const KINDS: [(&str, Kind); 5] = [
    ("instant", Kind::Instant),
    ("loop", Kind::Loop),
    ("cpu", Kind::Cpu),
    ("memory", Kind::Memory),
    ("output", Kind::Output),
];

/// The fewest and most lines that an `output` program prints: 64 bytes each, so 64 KiB to 640 KiB,
/// below the default limit of 1 MiB.
const OUTPUT_LINES: (u64, u64) = (1_024, 10_240);

/// What `--program` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProgramArg {
    /// One of the built-in kinds, in Python.
    Kind(Kind),
    /// A file of the user's own.
    File(PathBuf),
}

/// A built-in kind of program, chosen for what it keeps busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Prints a line and ends: the cost of everything but the program.
    Instant,
    /// A short loop that prints ten lines.
    Loop,
    /// Counts primes: a tenth of a second or so of CPU time.
    Cpu,
    /// Fills 64 MiB.
    Memory,
    /// Prints many lines; how many is drawn anew for each submission.
    Output,
}

impl FromStr for ProgramArg {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let kind = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
        Ok(kind.map_or_else(|| ProgramArg::File(text.into()), ProgramArg::Kind))
    }
}

impl fmt::Display for ProgramArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramArg::Kind(wanted) => {
                let name = KINDS.iter().find(|(_, kind)| kind == wanted).map(|(name, _)| *name);
                f.write_str(name.expect("every kind stands in the table"))
            }
            ProgramArg::File(path) => path.display().fmt(f),
        }
    }
}

/// Where the sources of all submissions of one load test come from.
///
/// A pure function of the seed and the submission's number: two runs with one seed submit the same
/// programs, whatever order their connections take them in.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    program: Loaded,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Loaded {
    Kind(Kind),
    Text(String),
}

impl Sources {
    /// Reads the file, where one was named.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
    pub(super) fn load(program: &ProgramArg, seed: u64) -> io::Result<Self> {
        let program = match program {
            ProgramArg::Kind(kind) => Loaded::Kind(*kind),
            ProgramArg::File(path) => Loaded::Text(std::fs::read_to_string(path)?),
        };
        Ok(Sources { program, seed })
    }

    /// The source of submission number `index`.
    pub(super) fn source(&self, index: u64) -> String {
        let kind = match &self.program {
            Loaded::Kind(kind) => *kind,
            Loaded::Text(text) => return text.clone(),
        };
        match kind {
            Kind::Instant => "print('hello')\n".to_owned(),
            Kind::Loop => "for i in range(10):\n    print(i)\n".to_owned(),
            Kind::Cpu => concat!(
                "n = 0\n",
                "for i in range(2, 20000):\n",
                "    if all(i % d for d in range(2, int(i ** 0.5) + 1)):\n",
                "        n += 1\n",
                "print(n)\n",
            )
            .to_owned(),
            Kind::Memory => concat!(
                "data = bytearray(64 << 20)\n",
                "for i in range(0, len(data), 4096):\n",
                "    data[i] = 1\n",
                "print(sum(data[::4096]))\n",
            )
            .to_owned(),
            Kind::Output => {
                let (low, high) = OUTPUT_LINES;
                let lines = low + draw(self.seed, index) % (high - low + 1);
                format!("for i in range({lines}):\n    print(f'{{i:063d}}')\n")
            }
        }
    }
}

/// A number that looks random and depends on nothing but its arguments: SplitMix64 (Steele, Lea and
/// Flood 2014), seeded with `seed` and stepped `index` times at once.
fn draw(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(name: &str, seed: u64) -> Sources {
        Sources::load(&name.parse().unwrap(), seed).unwrap()
    }

    #[test]
    fn every_kind_has_a_name_that_parses_back() {
        for (name, kind) in KINDS {
            let parsed: ProgramArg = name.parse().unwrap();
            assert_eq!(parsed, ProgramArg::Kind(kind));
            assert_eq!(parsed.to_string(), name);
        }
    }

    #[test]
    fn another_word_is_a_file() {
        assert_eq!("./loop".parse(), Ok(ProgramArg::File("./loop".into())));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let missing = ProgramArg::File("/no/such/file".into());
        assert_eq!(Sources::load(&missing, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn output_programs_differ_by_number_and_seed_and_repeat_for_equal_ones() {
        let sources_of = |seed| {
            let sources = sources("output", seed);
            (0..100).map(move |index| sources.source(index)).collect::<Vec<_>>()
        };
        let first = sources_of(7);
        assert_eq!(first, sources_of(7));
        assert_ne!(first, sources_of(8));
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 90, "{} of 100 lengths differ", distinct.len());
    }

    #[test]
    fn output_lengths_stay_in_their_range() {
        let sources = sources("output", 42);
        for index in 0..1_000 {
            let source = sources.source(index);
            let lines = source.strip_prefix("for i in range(").unwrap().split(')').next().unwrap();
            let lines: u64 = lines.parse().unwrap();
            assert!((OUTPUT_LINES.0..=OUTPUT_LINES.1).contains(&lines), "{lines}");
        }
    }
}
