//! The daemon's settings: flags, then `BRAINDRILL_*`, then `braindrill.toml`, then defaults.

use std::{net::SocketAddr, path::PathBuf};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

/// The file that is read from the working directory when there is one.
const FILE: &str = "braindrill.toml";

/// Names of all settings: what `BRAINDRILL_` may stand in front of. Other variables with that prefix
/// belong to other commands.
const NAMES: [&str; 11] = [
    "listen",
    "data_dir",
    "backend",
    "languages",
    "slots",
    "queue_limit",
    "body_limit",
    "grace_seconds",
    "allow_anonymous",
    "runner_path",
    "self_test",
];

/// The settings of `braindrill serve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// Where everything is kept. Default `data`.
    pub data_dir: PathBuf,
    /// Where programs run. Default `local`.
    pub backend: BackendKind,
    /// A file with more languages.
    #[serde(default)]
    pub languages: Option<PathBuf>,
    /// Programs at once. Default as many as there are processors.
    #[serde(default)]
    pub slots: Option<u32>,
    /// Most submissions that wait. Default 10,000.
    pub queue_limit: u64,
    /// Most bytes of a request's body. Default 1 MiB.
    pub body_limit: usize,
    /// Seconds that running programs have to end when the daemon is told to. Default 10.
    pub grace_seconds: u64,
    /// Whether to listen on other addresses than loopback although everybody may do everything.
    pub allow_anonymous: bool,
    /// Whether each language is tried out on this machine before it is said to be ready. Default yes.
    pub self_test: bool,
    /// With Nomad: where braindrill is on the nodes.
    #[serde(default)]
    pub runner_path: Option<PathBuf>,
}

/// The kinds of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// This machine.
    Local,
    /// A Nomad cluster.
    Nomad,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("data"),
            backend: BackendKind::Local,
            languages: None,
            slots: None,
            queue_limit: 10_000,
            body_limit: 1 << 20,
            grace_seconds: 10,
            allow_anonymous: false,
            self_test: true,
            runner_path: None,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value has the wrong type, a name is not known, or the file is not TOML.
    #[error("cannot read the settings: {0}")]
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
}

impl Config {
    /// Puts the settings together; `flags` holds those that were given as flags.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(flags: impl Serialize) -> Result<Config, ConfigError> {
        let config: Config = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::file(FILE))
            .merge(Env::prefixed("BRAINDRILL_").only(&NAMES))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (name, value, minimum, maximum) in [
            ("slots", self.slots.map_or(1, u64::from), 1, 1024),
            ("queue_limit", self.queue_limit, 1, 10_000_000),
            ("body_limit", self.body_limit as u64, 1024, 1 << 30),
            ("grace_seconds", self.grace_seconds, 0, 3600),
        ] {
            if !(minimum..=maximum).contains(&value) {
                return Err(ConfigError::Bounds { name, value, minimum, maximum });
            }
        }
        if !self.is_loopback() && !self.allow_anonymous {
            return Err(ConfigError::Exposed(self.listen));
        }
        Ok(())
    }

    /// Whether only this machine can reach the daemon.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(listen: &str) -> Config {
        Config { listen: listen.parse().expect("an address"), ..Config::default() }
    }

    #[test]
    fn an_address_that_others_reach_is_refused_unless_asked_for() {
        let exposed = at("0.0.0.0:8080");
        let message = exposed.check().expect_err("exposed").to_string();
        assert!(message.contains("--allow-anonymous"), "{message}");
        assert!(Config { allow_anonymous: true, ..exposed }.check().is_ok());
        assert!(at("127.0.0.1:0").check().is_ok());
        assert!(at("[::1]:0").check().is_ok());
        assert!(at("[::]:0").check().is_err());
    }

    #[test]
    fn a_setting_out_of_bounds_is_named() {
        let none = Config { slots: Some(0), ..Config::default() };
        let message = none.check().expect_err("no slots").to_string();
        assert_eq!(message, "slots is 0, which is not between 1 and 1024");
    }
}
