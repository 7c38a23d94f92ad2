//! What can be wrong with the settings.

use std::net::SocketAddr;

use super::AdvertiseError;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value has the wrong type, a name is not known, or the file is not TOML.
    #[error("cannot read the settings")]
    Read(#[from] Box<figment::Error>),
    /// A value is out of its bounds.
    #[error("{name} is {value}, which is not between {minimum} and {maximum}")]
    Bounds {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
    /// Everybody on the network could run code here.
    #[error(
        "{0} can be reached from other machines, and there are no tokens in this version: \
         everybody who reaches it could run code here. Listen on 127.0.0.1, or pass \
         --allow-anonymous if that is what you want"
    )]
    Exposed(SocketAddr),
    /// Nobody could use the URL.
    #[error(transparent)]
    Advertise(#[from] AdvertiseError),
    /// Programs would have a uid that is taken on every machine.
    #[error(
        "first_uid is {first}: with {slots} slots, programs would have the uids {first} to {last}, \
         and among them is {taken}, which is never theirs"
    )]
    TakenUid {
        /// The first slot's.
        first: u32,
        /// How many slots there are.
        slots: u32,
        /// The last slot's.
        last: u32,
        /// The one that is taken.
        taken: u32,
    },
    /// Programs without walls, for everybody on the network.
    #[error(
        "--unsafe-no-sandbox is for this machine alone, and {0} can be reached from others: whoever \
         reaches it could do here what this user can. Listen on 127.0.0.1, or leave the flag out"
    )]
    UnsafeExposed(SocketAddr),
    /// There are no warm workers to have more of.
    #[error("scale_job is for warm workers: --backend pool or auto")]
    ScaleElsewhere,
    /// Nobody would find them.
    #[error(
        "scale_job has Nomad start workers on ports of its choice, which only Consul tells daemons of:          leave out {0}"
    )]
    ScaleUnseen(&'static str),
    /// The nodes decide for themselves.
    #[error(
        "--unsafe-no-sandbox is for programs on this machine, and with this backend there are none"
    )]
    UnsafeElsewhere,
}
