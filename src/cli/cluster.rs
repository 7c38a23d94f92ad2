//! What the settings make of Nomad: which jobs, by which client. For `serve` and `jobs`.

use std::path::PathBuf;

use anyhow::Context as _;
use reqwest::Url;

use crate::{
    api,
    backend::nomad::{Driver, JobSettings, RequestUrls},
    config::{Config, NomadDriver},
};

/// Where braindrill is on the nodes of a cluster that is not this machine.
const NODE_EXECUTABLE: &str = "/usr/local/bin/braindrill";

/// The jobs of the installation of this name, on a Nomad that is on this machine or is not.
pub(super) fn job_settings(
    config: &Config,
    instance: &str,
    nomad_is_here: bool,
    requests: Option<RequestUrls>,
) -> anyhow::Result<JobSettings> {
    let runner_path = match &config.runner_path {
        Some(path) => path.clone(),
        None if nomad_is_here => {
            std::env::current_exe().context("cannot find the own executable")?
        }
        None => PathBuf::from(NODE_EXECUTABLE),
    };
    let own = JobSettings::own(instance, runner_path);
    let datacenters = config.nomad_datacenters.split(',').map(str::trim);
    Ok(JobSettings {
        name: config.nomad_job.clone().unwrap_or_else(|| own.name.clone()),
        shared: config.nomad_job.is_some(),
        driver: match config.nomad_driver {
            NomadDriver::RawExec => Driver::RawExec,
            NomadDriver::Docker => Driver::Docker { image: config.nomad_image.clone() },
        },
        datacenters: datacenters.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        requests,
        ..own
    })
}

/// Whether this URL is one of this machine's own.
pub(super) fn is_this_machine(url: &Url) -> bool {
    url.host_str().is_some_and(api::is_loopback_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_has_a_job_of_its_own_unless_one_is_named() {
        let own = job_settings(&Config::default(), "0123abcd", false, None).unwrap();
        assert_eq!((own.name.as_str(), own.shared), ("braindrill-run-0123abcd", false));
        assert_eq!(own.runner_path.to_str(), Some("/usr/local/bin/braindrill"));
        assert_eq!((own.driver, own.datacenters), (Driver::RawExec, vec!["dc1".to_owned()]));

        let config = Config {
            nomad_job: Some("judges".to_owned()),
            nomad_driver: NomadDriver::Docker,
            nomad_image: "worker:1".to_owned(),
            nomad_datacenters: "eu, us,".to_owned(),
            ..Config::default()
        };
        let shared = job_settings(&config, "0123abcd", true, None).unwrap();
        assert_eq!((shared.name.as_str(), shared.shared), ("judges", true));
        assert_eq!(shared.instance, "0123abcd", "by which its children are told apart");
        assert_eq!(shared.driver, Driver::Docker { image: "worker:1".to_owned() });
        assert_eq!(shared.datacenters, ["eu", "us"]);
    }

    #[test]
    fn only_names_of_this_machine_are_here() {
        let is_here = |text: &str| is_this_machine(&Url::parse(text).unwrap());
        assert!(is_here("http://localhost:4646") && is_here("https://[::1]:1"));
        assert!(!is_here("http://nomad.example:4646"));
    }
}
