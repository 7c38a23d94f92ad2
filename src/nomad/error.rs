//! What can go wrong between us and Nomad.

use crate::tls::TlsError;

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum NomadError {
    /// The list of servers is empty: nothing was asked.
    #[error("no Nomad server is known")]
    NoServer,
    /// No connection could be made: nothing was asked.
    #[error("Nomad cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The connection broke after the request was sent, or no answer came in time: it may have
    /// been carried out or not.
    #[error("the answer of Nomad was lost")]
    Interrupted(#[source] reqwest::Error),
    /// Nothing came for too long in the middle of an answer.
    #[error("Nomad stopped in the middle of an answer")]
    Stalled,
    /// Nomad refused.
    #[error("Nomad answered {status}: {body}")]
    Answered {
        /// The HTTP status, which alone says little: most refusals are 500.
        status: u16,
        /// What Nomad said.
        body: String,
        /// What that means.
        problem: Problem,
    },
    /// Nomad answered with something that we do not understand.
    #[error("the answer of Nomad makes no sense")]
    Undecodable(#[source] serde_json::Error),
}

impl NomadError {
    pub(super) fn sending(error: reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            NomadError::Unreachable(error)
        } else {
            NomadError::Interrupted(error)
        }
    }

    /// What Nomad's refusal means, when it is one.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            NomadError::Answered { problem, .. } => Some(*problem),
            _ => None,
        }
    }

    /// The error as anybody may read it: without addresses, and without the words of Nomad, which may
    /// name them too.
    pub fn public(&self) -> String {
        let problem = match self {
            NomadError::Answered { problem, .. } => *problem,
            // Their causes, which name the address, are not part of these.
            other => return other.to_string(),
        };
        let words = match problem {
            Problem::JobMissing => "the job to dispatch from is not registered with Nomad",
            Problem::JobStopped => "the job to dispatch from was stopped in Nomad",
            Problem::JobUnfit => "the job to dispatch from is, in Nomad, not one of braindrill's",
            Problem::PayloadTooLarge => "the request is longer than Nomad takes",
            Problem::Forbidden => "Nomad does not allow it with the daemon's token",
            Problem::Disabled => "Nomad's operators have turned dispatching off",
            Problem::NoLeader => "Nomad has no leader now",
            Problem::TooMany => "Nomad has too many requests",
            _ => "Nomad refused",
        };
        words.to_owned()
    }

    /// Whether the request was surely not carried out.
    pub fn nothing_was_done(&self) -> bool {
        match self {
            NomadError::NoServer | NomadError::Unreachable(_) => true,
            NomadError::Answered { problem, .. } => !matches!(problem, Problem::Other),
            NomadError::Interrupted(_) | NomadError::Stalled | NomadError::Undecodable(_) => false,
        }
    }
}

/// What a refusal of Nomad means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Problem {
    /// There is no such job, evaluation, allocation, node or file.
    NotFound,
    /// The job to dispatch is not registered.
    JobMissing,
    /// The job to dispatch was stopped.
    JobStopped,
    /// The job to dispatch is not a parameterized one, or wants another payload or other meta.
    JobUnfit,
    /// The payload is over 16,384 bytes.
    PayloadTooLarge,
    /// The token is unknown or expired, or may not do this.
    Forbidden,
    /// The operators of the cluster have turned registering and dispatching off for now.
    Disabled,
    /// The server cannot pass the request on: the cluster has no leader now, or this server sees
    /// none, or none of the region.
    NoLeader,
    /// We have too many connections or requests.
    TooMany,
    /// The allocation has no logs: its task never began, or they were collected.
    NoLogs,
    /// The node of the allocation cannot be reached.
    NodeAway,
    /// The request itself is malformed.
    Malformed,
    /// The job to register is not valid.
    JobInvalid,
    /// Anything else; it may have been carried out.
    Other,
}

/// How Nomad words its problems, beginnings of sentences or parts of them. From the source of 1.1.0
/// (nomad/structs/errors.go, nomad/job_endpoint.go, client/fs_endpoint.go) and later versions.
const TEXTS: [(&str, Problem); 34] = [
    ("Payload exceeds maximum size", Problem::PayloadTooLarge),
    ("parameterized job not found", Problem::JobMissing),
    ("is not a parameterized job", Problem::JobUnfit),
    ("unpermitted metadata keys", Problem::JobUnfit),
    ("did not provide required meta keys", Problem::JobUnfit),
    ("Payload is not provided but required", Problem::JobUnfit),
    ("Payload provided but forbidden", Problem::JobUnfit),
    ("No cluster leader", Problem::NoLeader),
    ("No path to region", Problem::NoLeader),
    ("Not ready to serve consistent reads", Problem::NoLeader),
    ("Permission denied", Problem::Forbidden),
    ("ACL token not found", Problem::Forbidden),
    ("ACL token expired", Problem::Forbidden),
    ("ACL token is invalid", Problem::Forbidden),
    ("are disabled by the scheduler configuration", Problem::Disabled),
    ("No logs available", Problem::NoLogs),
    ("Unknown allocation", Problem::NoLogs),
    ("not found on client", Problem::NoLogs),
    ("failed to list entries", Problem::NoLogs),
    ("unknown task name", Problem::NoLogs),
    ("alloc not found", Problem::NotFound),
    ("job not found", Problem::NotFound),
    ("eval not found", Problem::NotFound),
    ("node not found", Problem::NotFound),
    ("Unknown job", Problem::NotFound),
    ("Unknown evaluation", Problem::NotFound),
    ("Unknown node", Problem::NotFound),
    ("no such file or directory", Problem::NotFound),
    ("No path to node", Problem::NodeAway),
    ("Node does not support RPC", Problem::NodeAway),
    ("node is not running a Nomad Client", Problem::NodeAway),
    ("Path escapes the alloc directory", Problem::Malformed),
    ("is a directory", Problem::Malformed),
    ("is in nonexistent namespace", Problem::JobInvalid),
];

impl Problem {
    /// From the text, since the status says little: Nomad answers 500 to most refusals of a
    /// dispatch (1.1 to 2.0), 200 to those of files (1.1), and puts `rpc error: ` before a text that
    /// came through another server.
    pub fn classify(status: u16, body: &str) -> Problem {
        let problem = TEXTS.iter().find(|(text, _)| body.contains(text));
        if let Some((_, problem)) = problem {
            return *problem;
        }
        // These are too short to mean the same wherever they stand.
        if body.contains("Specified job ") && body.ends_with(" is stopped") {
            return Problem::JobStopped;
        }
        if body == "no servers" || body.ends_with(": no servers") {
            return Problem::NoLeader;
        }
        match status {
            400 | 405 => Problem::Malformed,
            401 | 403 => Problem::Forbidden,
            404 => Problem::NotFound,
            429 => Problem::TooMany,
            500 if body.contains("errors occurred:") || body.contains("error occurred:") => {
                Problem::JobInvalid
            }
            _ => Problem::Other,
        }
    }

    /// Whether another server, or the same one a moment later, would say so too.
    pub(super) fn is_final(self) -> bool {
        !matches!(self, Problem::NoLeader | Problem::TooMany | Problem::Other)
    }
}

/// Settings that no client can be made from.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The address is not one of an HTTP server.
    #[error("the address of Nomad is {0:?}, which is not of the form http://HOST:PORT")]
    Address(String),
    /// An address with a password in it, which would be shown wherever the address is.
    #[error("the address of Nomad holds a user's name or password: they belong in NOMAD_HTTP_AUTH")]
    Credentials,
    /// The token holds characters that no token has.
    #[error("the token for Nomad holds characters that cannot be sent")]
    Token,
    /// The user's name or password holds characters that cannot be sent.
    #[error("NOMAD_HTTP_AUTH holds characters that cannot be sent")]
    HttpAuth,
    /// The settings about TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client could not be built.
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status and text as Nomad sends them, and what they mean.
    const RECORDED: &str = include_str!("../../tests/data/nomad-1.1.0/refusals.txt");

    fn problem(name: &str) -> Problem {
        use Problem::*;
        let all = [
            NotFound,
            JobMissing,
            JobStopped,
            JobUnfit,
            PayloadTooLarge,
            Forbidden,
            Disabled,
            NoLeader,
            TooMany,
            NoLogs,
            NodeAway,
            Malformed,
            JobInvalid,
            Other,
        ];
        *all.iter().find(|problem| format!("{problem:?}") == name).unwrap()
    }

    #[test]
    fn every_recorded_refusal_is_understood() {
        let lines: Vec<_> =
            RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(lines.len() > 15);
        for line in lines {
            let mut parts = line.splitn(3, ' ');
            let (status, name, body) =
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            let status: u16 = status.parse().unwrap();
            let body = body.replace("\\n", "\n");
            assert_eq!(Problem::classify(status, &body), problem(name), "{line}");
            let wrapped = format!("rpc error: {body}");
            assert_eq!(Problem::classify(status, &wrapped), problem(name), "{wrapped}");
        }
    }

    #[test]
    fn what_anybody_may_read_has_no_word_of_nomads() {
        for line in RECORDED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.splitn(3, ' ');
            let status = parts.next().unwrap().parse().unwrap();
            let body = parts.nth(1).unwrap().to_owned();
            let problem = Problem::classify(status, &body);
            let public = NomadError::Answered { status, body: body.clone(), problem }.public();
            assert!(!public.contains(&body) && public.contains("Nomad"), "{line}: {public}");
        }
    }

    #[test]
    fn what_is_not_understood_may_have_been_carried_out() {
        let unclear = RECORDED.lines().filter_map(|line| line.split_once(" Other "));
        let bodies: Vec<_> = unclear.map(|(_, body)| body).chain([""]).collect();
        assert!(bodies.len() > 5);
        for body in bodies {
            let problem = Problem::classify(500, body);
            let error = NomadError::Answered { status: 500, body: body.to_owned(), problem };
            assert!(!error.nothing_was_done(), "{body}");
        }
    }
}
