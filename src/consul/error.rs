//! What can go wrong between us and Consul.

use std::{io, path::PathBuf};

use crate::tls::TlsError;

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsulError {
    /// No connection could be made: nothing was asked.
    #[error("Consul cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The connection broke after the request was sent, or no answer came in time: it may have
    /// been carried out or not.
    #[error("the answer of Consul was lost")]
    Interrupted(#[source] reqwest::Error),
    /// Consul refused.
    #[error("Consul answered {status}: {body}")]
    Answered {
        /// The HTTP status, which alone says little: many refusals are 500.
        status: u16,
        /// What Consul said.
        body: String,
        /// What that means.
        problem: Problem,
    },
    /// Consul answered with something that we do not understand: perhaps it is no Consul.
    #[error("the answer of Consul makes no sense")]
    Undecodable(#[source] serde_json::Error),
    /// Consul took the request and said that it did not do it.
    #[error("Consul declined to store it")]
    Declined,
}

impl ConsulError {
    pub(super) fn sending(error: reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            ConsulError::Unreachable(error)
        } else {
            ConsulError::Interrupted(error)
        }
    }

    /// The error as anybody may read it: without addresses, and without Consul's words, which may name
    /// them too.
    pub fn public(&self) -> String {
        let ConsulError::Answered { status, problem, .. } = self else {
            // Their causes, which name the address, are not part of these.
            return self.to_string();
        };
        match problem {
            Problem::Forbidden => "Consul does not allow it with the daemon's token".to_owned(),
            Problem::NoLeader => "Consul has no leader now".to_owned(),
            Problem::DatacenterAway => "Consul has no path to the datacenter".to_owned(),
            _ => format!("Consul answered with status {status}"),
        }
    }

    /// What Consul's refusal means, when it is one.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            ConsulError::Answered { problem, .. } => Some(*problem),
            _ => None,
        }
    }
}

/// What a refusal of Consul means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The agent knows no such service or check.
    NotFound,
    /// The token is unknown or may not do this. Without any token, lists come back empty instead.
    Forbidden,
    /// The cluster has no leader now.
    NoLeader,
    /// There is no such datacenter, or none of its servers can be reached.
    DatacenterAway,
    /// We have too many connections or requests.
    TooMany,
    /// The request itself is malformed, or asks for what this Consul does not have.
    Malformed,
    /// Anything else; it may have been carried out.
    Other,
}

impl Problem {
    /// From the text where it says more than the status: Consul 1.8 answers 500 to a deregistration
    /// of what is not there, where later versions answer 404. What came through another server has
    /// `rpc error ...: ` before it.
    pub fn classify(status: u16, body: &str) -> Problem {
        const TEXTS: [(&str, Problem); 9] = [
            ("ACL not found", Problem::Forbidden),
            ("Permission denied", Problem::Forbidden),
            ("No cluster leader", Problem::NoLeader),
            ("No path to datacenter", Problem::DatacenterAway),
            ("Unknown service", Problem::NotFound),
            ("unknown service ID", Problem::NotFound),
            ("Unknown check", Problem::NotFound),
            ("does not have associated TTL", Problem::NotFound),
            ("rate limit", Problem::TooMany),
        ];
        if let Some((_, problem)) = TEXTS.iter().find(|(text, _)| body.contains(text)) {
            return *problem;
        }
        match status {
            401 | 403 => Problem::Forbidden,
            404 => Problem::NotFound,
            429 => Problem::TooMany,
            400 | 405 | 413 => Problem::Malformed,
            _ => Problem::Other,
        }
    }
}

/// Settings from which no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address is no HTTP address.
    #[error("`{0}` is no address of Consul: that is HOST:PORT or http(s)://HOST:PORT")]
    Address(String),
    /// A socket file, as Consul's own command takes.
    #[error(
        "`{0}` is a socket file; Consul is asked over TCP only, so give it an HTTP address too"
    )]
    SocketFile(String),
    /// A variable that switches something has another value than Consul's own command takes.
    #[error("{name} is `{value}`, which is neither true nor false")]
    Flag {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// The file of the token cannot be read.
    #[error("the token file {} cannot be read", path.display())]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token or the password cannot stand in a header.
    #[error("the token or the password for Consul has a character that a header cannot have")]
    Secret,
    /// The TLS settings cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_refusals_are_understood() {
        let text = include_str!("../../tests/data/consul-1.8.7/refusals.txt");
        let mut seen = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().expect("status, meaning, body");
            let (status, meaning, body) = (next().parse().unwrap(), next(), next());
            assert_eq!(format!("{:?}", Problem::classify(status, body)), meaning, "{line}");
            seen += 1;
        }
        assert!(seen > 10, "{seen} lines");
    }
}
