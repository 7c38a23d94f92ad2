//! What one run may use, and the bounds on what may be asked for.

use serde::{Deserialize, Serialize};

/// The limits of one run, all of them positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// User and system time of all processes of the run together, in milliseconds.
    pub cpu_time_ms: u64,
    /// Time on the clock from exec to end, in milliseconds.
    pub wall_time_ms: u64,
    /// Anonymous memory, tmpfs and kernel memory of the run, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads alive at once.
    pub processes: u64,
    /// Bytes kept of stdout, and of stderr; the first byte beyond ends the run.
    pub output_bytes: u64,
    /// Bytes that the work directory, /tmp and /dev/shm hold together; they count as memory too.
    pub disk_bytes: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Limits {
    /// What a run gets that names nothing and whose language raises nothing.
    pub const DEFAULT: Limits = Limits {
        cpu_time_ms: 5_000,
        wall_time_ms: 10_000,
        memory_bytes: 256 * MIB,
        processes: 64,
        output_bytes: MIB,
        disk_bytes: 64 * MIB,
    };

    /// What a compile gets unless its language says otherwise: 64 KiB of output are kept.
    pub const COMPILE: Limits = Limits {
        cpu_time_ms: 30_000,
        wall_time_ms: 60_000,
        memory_bytes: 1024 * MIB,
        processes: 128,
        output_bytes: 64 * KIB,
        disk_bytes: 256 * MIB,
    };

    /// What a custom checker gets.
    pub const CHECKER: Limits = Limits {
        cpu_time_ms: 5_000,
        wall_time_ms: 10_000,
        memory_bytes: 256 * MIB,
        processes: 16,
        output_bytes: 64 * KIB,
        disk_bytes: 64 * MIB,
    };

    /// The wall time that goes with a CPU time when none is named: twice as much, 10 s at least.
    pub const fn default_wall_time_ms(cpu_time_ms: u64) -> u64 {
        let twice = cpu_time_ms.saturating_mul(2);
        if twice < 10_000 { 10_000 } else { twice }
    }

    /// Each field with its name and its value, in the order of the documentation.
    pub const fn fields(&self) -> [(&'static str, u64); 6] {
        [
            ("cpu_time_ms", self.cpu_time_ms),
            ("wall_time_ms", self.wall_time_ms),
            ("memory_bytes", self.memory_bytes),
            ("processes", self.processes),
            ("output_bytes", self.output_bytes),
            ("disk_bytes", self.disk_bytes),
        ]
    }

    /// Checks every field against its bounds, the memory also against the language's `minimum_memory`.
    ///
    /// # Errors
    /// The first field that is out of bounds, with the bound.
    pub fn check(&self, minimum_memory: u64) -> Result<(), LimitViolation> {
        self.check_within(minimum_memory, &MAXIMUM)
    }

    /// What a request that is talked to may ask for, where no other may ask for more than this: as ever, but for
    /// the time on the clock, unless an operator has set that.
    pub const fn of_interactive(self) -> Limits {
        let is_usual = self.wall_time_ms == MAXIMUM.wall_time_ms;
        let wall_time_ms = if is_usual { MAX_INTERACTIVE_WALL_MS } else { self.wall_time_ms };
        Limits { wall_time_ms, ..self }
    }

    /// [`Limits::check`] where no more than `most` is allowed.
    ///
    /// # Errors
    /// The first field that is out of bounds, with the bound.
    pub fn check_within(&self, minimum_memory: u64, most: &Limits) -> Result<(), LimitViolation> {
        for ((field, value), (_, maximum)) in self.fields().into_iter().zip(most.fields()) {
            let minimum = if field == "memory_bytes" { minimum_memory } else { 1 };
            if value < minimum || value > maximum {
                return Err(LimitViolation { field, value, minimum, maximum });
            }
        }
        let half = self.memory_bytes / 2;
        if self.disk_bytes > half {
            return Err(LimitViolation {
                field: "disk_bytes",
                value: self.disk_bytes,
                minimum: 1,
                maximum: half,
            });
        }
        Ok(())
    }

    /// These limits, each brought down to that of `most` where it is above.
    pub fn at_most(&self, most: &Limits) -> Limits {
        Limits {
            cpu_time_ms: self.cpu_time_ms.min(most.cpu_time_ms),
            wall_time_ms: self.wall_time_ms.min(most.wall_time_ms),
            memory_bytes: self.memory_bytes.min(most.memory_bytes),
            processes: self.processes.min(most.processes),
            output_bytes: self.output_bytes.min(most.output_bytes),
            disk_bytes: self.disk_bytes.min(most.disk_bytes),
        }
    }
}

/// The most that a request may ask for; an operator may allow less.
pub const MAXIMUM: Limits = Limits {
    cpu_time_ms: 60_000,
    wall_time_ms: 120_000,
    memory_bytes: 1024 * MIB,
    processes: 256,
    output_bytes: 8 * MIB,
    disk_bytes: 512 * MIB,
};

/// The most time on the clock of a run that is talked to: people think between two lines.
pub const MAX_INTERACTIVE_WALL_MS: u64 = 600_000;

/// The least memory a run may ask for; a language may demand more.
pub const MINIMUM_MEMORY_BYTES: u64 = 16 * MIB;

/// The most that the wall times of all tests of a submission may add up to: 20 minutes.
pub const MAX_TOTAL_WALL_MS: u64 = 1_200_000;

/// The most different custom checkers of one submission, by language and source: each is compiled,
/// so they cost time and disk that no other limit counts. A set of tests rarely needs two.
pub const MAX_CUSTOM_CHECKERS: usize = 8;

/// A limit out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, which is not between {minimum} and {maximum}")]
pub struct LimitViolation {
    /// The field of [`Limits`].
    pub field: &'static str,
    /// What was asked for.
    pub value: u64,
    /// The least allowed.
    pub minimum: u64,
    /// The most allowed.
    pub maximum: u64,
}
