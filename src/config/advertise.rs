//! The URL by which others reach the daemon.

use std::net::SocketAddr;

use reqwest::Url;

use super::Config;

/// A URL that nobody could reach the daemon by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "advertise_url is {url:?}, which {why}; it has to be like http://HOST:PORT, as the nodes of the \
     cluster reach this daemon"
)]
pub struct AdvertiseError {
    url: String,
    why: &'static str,
}

impl Config {
    /// The URL by which nodes and Consul reach a daemon that listens at `listening`: the one that is
    /// configured, else that of the address itself. None where that is every address, or where it is
    /// one that only this machine knows and the cluster is not on it alone.
    pub fn advertised(&self, listening: SocketAddr, cluster_is_here: bool) -> Option<Url> {
        match &self.advertise_url {
            // It was looked at when the settings were read.
            Some(url) => parse(url).ok(),
            None => of_address(listening, cluster_is_here),
        }
    }
}

fn of_address(listening: SocketAddr, cluster_is_here: bool) -> Option<Url> {
    let ip = listening.ip().to_canonical();
    let is_of_use = !ip.is_unspecified() && (cluster_is_here || !ip.is_loopback());
    // An address with a zone, as of a link, does not go into a URL.
    is_of_use
        .then(|| Url::parse(&format!("http://{}", SocketAddr::new(ip, listening.port()))).ok())?
}

/// The URL, if others can make use of it.
///
/// # Errors
/// Why not.
pub(super) fn parse(text: &str) -> Result<Url, AdvertiseError> {
    let error = |why| AdvertiseError { url: text.to_owned(), why };
    let url = Url::parse(text).map_err(|_| error("is no URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error("is of neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(error("has a user name, which every node would show"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(error("has a part after `?` or `#`"));
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        return Err(error("names every address and so none"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listening: &str, cluster_is_here: bool) -> Option<String> {
        let url = Config::default().advertised(listening.parse().unwrap(), cluster_is_here);
        url.map(|url| url.to_string())
    }

    #[test]
    fn one_address_is_advertised_as_it_is() {
        for here in [false, true] {
            assert_eq!(of("10.1.2.3:8080", here).unwrap(), "http://10.1.2.3:8080/");
            assert_eq!(of("[2001:db8::7]:80", here).unwrap(), "http://[2001:db8::7]/");
        }
    }

    #[test]
    fn loopback_is_advertised_to_a_cluster_on_this_machine_alone() {
        for address in ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"] {
            assert!(of(address, true).is_some(), "{address}");
            assert_eq!(of(address, false), None, "{address}");
        }
    }

    #[test]
    fn every_address_is_none() {
        for address in ["0.0.0.0:8080", "[::]:8080"] {
            assert_eq!(of(address, true), None, "{address}");
            assert_eq!(of(address, false), None, "{address}");
        }
    }

    #[test]
    fn what_is_configured_wins() {
        let url = Some("https://drill.example/base/".to_owned());
        let config = Config { advertise_url: url, ..Config::default() };
        for here in [false, true] {
            let advertised = config.advertised("0.0.0.0:1".parse().unwrap(), here).unwrap();
            assert_eq!(advertised.as_str(), "https://drill.example/base/");
        }
    }

    #[test]
    fn what_nobody_can_use_is_refused_with_what_is_wrong() {
        for (url, why) in [
            ("drill.example:8080", "is of neither"),
            ("drill", "is no URL"),
            ("http://", "is no URL"),
            ("ftp://drill.example", "is of neither"),
            ("http://user@drill.example", "has a user name"),
            ("http://drill.example/?a=1", "has a part"),
            ("http://drill.example/#a", "has a part"),
            ("http://0.0.0.0:8080", "names every address"),
            ("http://[::]:8080", "names every address"),
        ] {
            let config = Config { advertise_url: Some(url.to_owned()), ..Config::default() };
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(why) && message.contains("http://HOST:PORT"), "{message}");
        }
    }
}
