//! Step 5 in a cluster: the dispatch of one attempt.

use std::collections::BTreeMap;

use reqwest::Url;
use tracing::{debug, warn};

use super::{Driver, JobFile, NomadBackend, job};
use crate::{
    backend::{Execution, StartError},
    error_chain::error_chain,
    nomad::{Dispatched, NomadError, Problem},
    protocol::{ExecutionRequest, RequestSecret, payload},
};

/// What the payload of a dispatch may hold, in bytes before base64; Nomad 1.1 to 2.0
/// (`DispatchPayloadSizeLimit`).
pub const MAX_PAYLOAD_BYTES: usize = 16_384;

/// Makes the addresses that nodes fetch long requests from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestUrls {
    /// Where nodes reach the daemon; http or https, with or without a path.
    pub base: Url,
    /// What tokens are made from, the daemon's API having the same.
    pub secret: RequestSecret,
}

impl RequestUrls {
    /// That of an attempt. Without a query: the job for containers adds one.
    fn url(&self, request: &ExecutionRequest) -> String {
        let path = self.secret.path(request.submission, request.attempt);
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }
}

impl NomadBackend {
    /// Dispatches an attempt; see [`crate::backend::Backend::start`].
    pub(super) async fn place(&self, request: &ExecutionRequest) -> Result<Execution, StartError> {
        let job = self.job();
        let parcel = Parcel::of(request, &job)?;
        self.ensure_registered(&job).await.map_err(unavailable)?;
        let child = match self.dispatch(&parcel).await {
            Err(error) if is_gone(error.problem()) => {
                // Somebody purged, stopped or replaced it, or the cluster is a new one.
                *self.registered.lock().await = None;
                self.ensure_registered(&job).await.map_err(unavailable)?;
                self.dispatch(&parcel).await
            }
            other => other,
        };
        let Dispatched { job_id, evaluation_id } = child.map_err(start_error)?;
        Ok(self.follow((request.submission, request.attempt), job_id, evaluation_id, None))
    }

    async fn dispatch(&self, parcel: &Parcel) -> Result<Dispatched, NomadError> {
        let Parcel { job, payload, meta, token } = parcel;
        self.client.dispatch(job, payload, meta, Some(token)).await
    }
}

/// What a dispatch is made of.
#[derive(Debug)]
struct Parcel {
    /// The job to dispatch from.
    job: String,
    /// Empty where the request is fetched.
    payload: Vec<u8>,
    meta: BTreeMap<&'static str, String>,
    /// Of the attempt: a dispatch that is sent again makes no second child.
    token: String,
}

impl Parcel {
    fn of(request: &ExecutionRequest, settings: &job::JobSettings) -> Result<Parcel, StartError> {
        let payload = payload::encode(request);
        let mut parcel = Parcel {
            job: settings.name.clone(),
            payload: Vec::new(),
            meta: BTreeMap::from([
                (job::META_SUBMISSION, request.submission.to_string()),
                (job::META_ATTEMPT, request.attempt.to_string()),
                (job::META_INSTANCE, settings.instance.clone()),
            ]),
            token: format!("{}-{}", request.submission, request.attempt),
        };
        let url = settings.requests.as_ref().map(|urls| urls.url(request));
        if payload.len() <= MAX_PAYLOAD_BYTES {
            // The runner calls there when it is done; one in a container without network cannot.
            if let (Some(url), Driver::RawExec) = (url, &settings.driver) {
                parcel.meta.insert(job::META_REQUEST_URL, url);
            }
            parcel.payload = payload;
            return Ok(parcel);
        }
        let Some(url) = url else {
            return Err(StartError::Refused(format!(
                "the request is {} bytes when compressed, of which Nomad takes {MAX_PAYLOAD_BYTES}, \
                 and the nodes know no address of the daemon to fetch a longer one from: \
                 --advertise-url has to name the URL by which they reach it",
                payload.len()
            )));
        };
        parcel.meta.insert(job::META_REQUEST_URL, url);
        if matches!(settings.driver, Driver::Docker { .. }) {
            // A container without network fetches nothing; Nomad does, for this job.
            parcel.job = settings.id(JobFile::RunDockerFetch);
        }
        Ok(parcel)
    }
}

/// Whether the job to dispatch from is not there as it was registered.
fn is_gone(problem: Option<Problem>) -> bool {
    matches!(problem, Some(Problem::JobMissing | Problem::JobStopped | Problem::JobUnfit))
}

/// Whether a dispatch that failed counts, and whether it may have been carried out. Only what is said of
/// the payload is about the submission: a request that is found malformed may be one to a server that
/// has been set to TLS, or to a proxy.
fn start_error(error: NomadError) -> StartError {
    match error.problem() {
        Some(Problem::PayloadTooLarge) => {
            tell(&error);
            StartError::Refused(error.public())
        }
        _ if error.nothing_was_done() => unavailable(error),
        _ => {
            tell(&error);
            StartError::Ambiguous(error.public())
        }
    }
}

fn unavailable(error: NomadError) -> StartError {
    tell(&error);
    StartError::Unavailable(error.public())
}

/// Says in the log what is for nobody else: what Nomad answered, and where it is.
fn tell(error: &NomadError) {
    let reason = error_chain(error);
    match error.problem() {
        Some(_) => warn!(reason, "Nomad refused an attempt"),
        None => debug!(reason, "Nomad could not be asked to place an attempt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::nomad::JobSettings, protocol::VERSION};

    /// A request that compresses to nothing much, or with `length` to about as much.
    fn request(length: usize) -> ExecutionRequest {
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut bytes = vec![0; length];
        noise.fill(&mut bytes);
        use base64::Engine as _;
        let source = base64::engine::general_purpose::STANDARD.encode(bytes);
        let value = serde_json::json!({
            "v": VERSION,
            "submission": "01890a5d-ac96-774b-bcce-b302099a8057",
            "attempt": 2,
            "request": {
                "language": "bash", "source": source, "entrypoint": "main.sh",
                "limits": crate::submission::Limits::DEFAULT, "priority": 50,
            },
            "language": {
                "id": "bash", "name": "Bash", "extension": "sh", "source_file": "main.sh",
                "tools": BTreeMap::from([("bash", ["/bin/bash"])]),
                "version": { "command": ["{tool:bash}", "--version"] },
                "run": { "command": ["{tool:bash}", "{entrypoint}"] },
            },
        });
        serde_json::from_value(value).unwrap()
    }

    fn settings(base: Option<&str>) -> JobSettings {
        let secret = RequestSecret::new([7; 32]);
        let requests = base.map(|base| RequestUrls { base: base.parse().unwrap(), secret });
        JobSettings { requests, ..JobSettings::own("0123abcd", "/braindrill".into()) }
    }

    #[test]
    fn a_short_request_travels_as_the_payload() {
        let request = request(0);
        let parcel = Parcel::of(&request, &settings(Some("http://daemon:8080"))).unwrap();
        assert_eq!(payload::decode(&parcel.payload).unwrap(), request);
        let meta = [
            ("braindrill_attempt", "2"),
            ("braindrill_instance", "0123abcd"),
            ("braindrill_submission", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ];
        let meta = BTreeMap::from(meta.map(|(name, value)| (name, value.to_owned())));
        let (mut named, rest): (BTreeMap<_, _>, _) =
            parcel.meta.into_iter().partition(|(name, _)| *name == job::META_REQUEST_URL);
        assert_eq!(rest, meta);
        let url = named.remove(job::META_REQUEST_URL).unwrap();
        assert!(url.starts_with("http://daemon:8080/internal/requests/"), "to call at: {url}");
        assert_eq!(parcel.job, "braindrill-run-0123abcd");
        assert_eq!(Parcel::of(&request, &settings(None)).unwrap().meta, meta);
    }

    #[test]
    fn a_container_without_network_is_given_no_address_to_call_at() {
        let driver = Driver::Docker { image: "worker".to_owned() };
        let settings = JobSettings { driver, ..settings(Some("http://daemon:8080")) };
        let parcel = Parcel::of(&request(0), &settings).unwrap();
        assert!(!parcel.meta.contains_key(job::META_REQUEST_URL) && !parcel.payload.is_empty());
    }

    #[test]
    fn a_long_request_stays_here_and_its_address_travels() {
        let request = request(20_000);
        for (base, expected) in [
            ("http://daemon:8080", "http://daemon:8080/internal/requests/"),
            ("https://example.org/drill/", "https://example.org/drill/internal/requests/"),
        ] {
            let settings = settings(Some(base));
            let parcel = Parcel::of(&request, &settings).unwrap();
            assert!(parcel.payload.is_empty());
            assert_eq!(parcel.job, settings.name);
            let url = &parcel.meta[job::META_REQUEST_URL];
            let path = url.strip_prefix(expected).unwrap();
            let [submission, attempt, token] =
                path.split('/').collect::<Vec<_>>().try_into().unwrap();
            assert_eq!((submission.parse(), attempt), (Ok(request.submission), "2"));
            assert!(RequestSecret::new([7; 32]).admits(request.submission, 2, token));
        }
    }

    #[test]
    fn for_containers_a_long_request_goes_to_the_job_that_has_it_fetched() {
        let driver = Driver::Docker { image: "worker".to_owned() };
        let settings = JobSettings { driver, ..settings(Some("http://daemon:8080")) };
        let job = |length| Parcel::of(&request(length), &settings).unwrap().job;
        assert_eq!(job(0), "braindrill-run-0123abcd");
        assert_eq!(job(20_000), "braindrill-run-0123abcd-fetch");
    }

    #[test]
    fn without_an_address_a_long_request_is_refused_with_what_to_set() {
        let refused = Parcel::of(&request(20_000), &settings(None)).unwrap_err();
        let StartError::Refused(reason) = &refused else { panic!("{refused:?}") };
        assert!(reason.contains("--advertise-url"), "{reason}");
        assert!(reason.contains("of which Nomad takes 16384"), "{reason}");
    }

    fn answered(status: u16, body: &str) -> NomadError {
        let problem = Problem::classify(status, body);
        NomadError::Answered { status, body: body.to_owned(), problem }
    }

    #[test]
    fn a_failed_dispatch_counts_only_when_it_can_never_be_placed() {
        let refused = ["Payload exceeds maximum size; 20000 > 16384"];
        let later = [
            "Specified job \"braindrill-run\" is stopped",
            "Dispatch request included unpermitted metadata keys: [braindrill_attempt]",
            "rpc error: No cluster leader",
            "parameterized job not found",
            "rpc error: Permission denied",
        ];
        let unclear = ["leadership lost while committing log", "rpc error: EOF"];
        for body in refused {
            assert!(matches!(start_error(answered(500, body)), StartError::Refused(_)), "{body}");
        }
        for body in later {
            let error = start_error(answered(500, body));
            assert!(matches!(error, StartError::Unavailable(_)), "{body}");
        }
        for body in unclear {
            let error = start_error(answered(500, body));
            assert!(matches!(error, StartError::Ambiguous(_)), "{body}");
        }
    }
}
