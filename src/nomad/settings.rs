//! Where Nomad is and as whom it is asked, from the variables of its own command.

use std::{path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};

use super::{SettingsError, budget::MOST_IDLE};
use crate::tls::TlsSettings;

/// Where Nomad is unless something says otherwise.
pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:4646";

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// As whom Nomad is asked, and by what means. Nomad's own variables fill it, see
/// [`ClientSettings::from_env`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// The ACL token's secret.
    pub token: Option<String>,
    /// The namespace of every call; `default` when absent.
    pub namespace: Option<String>,
    /// The region of every call; the agent's own when absent.
    pub region: Option<String>,
    /// `USER:PASSWORD` for a proxy in front of Nomad; the password may be absent, with its colon.
    pub http_auth: Option<String>,
    /// How to trust and be trusted where an address begins with `https`.
    pub tls: TlsSettings,
}

impl std::fmt::Debug for ClientSettings {
    /// Shows whether there are secrets, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSettings")
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("namespace", &self.namespace)
            .field("region", &self.region)
            .field("http_auth", &self.http_auth.as_ref().map(|_| "..."))
            .field("tls", &self.tls)
            .finish()
    }
}

impl ClientSettings {
    /// From `NOMAD_TOKEN`, `NOMAD_NAMESPACE`, `NOMAD_REGION`, `NOMAD_HTTP_AUTH`, `NOMAD_CACERT`,
    /// `NOMAD_CAPATH`, `NOMAD_CLIENT_CERT`, `NOMAD_CLIENT_KEY`, `NOMAD_TLS_SERVER_NAME` and
    /// `NOMAD_SKIP_VERIFY`, as Nomad's own command reads them: empty ones count as absent, and so
    /// does a last one that is no truth value to Go. `NOMAD_ADDR` is read by [`address_from_env`].
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name| variable(name).filter(|value| !value.is_empty());
        ClientSettings {
            token: get("NOMAD_TOKEN"),
            namespace: get("NOMAD_NAMESPACE"),
            region: get("NOMAD_REGION"),
            http_auth: get("NOMAD_HTTP_AUTH"),
            tls: TlsSettings {
                ca_cert: get("NOMAD_CACERT").map(PathBuf::from),
                ca_path: get("NOMAD_CAPATH").map(PathBuf::from),
                client_cert: get("NOMAD_CLIENT_CERT").map(PathBuf::from),
                client_key: get("NOMAD_CLIENT_KEY").map(PathBuf::from),
                server_name: get("NOMAD_TLS_SERVER_NAME"),
                skip_verify: get("NOMAD_SKIP_VERIFY").is_some_and(|value| is_true(&value)),
            },
        }
    }

    /// An HTTP client that shows these credentials to whom it asks, and to nobody else.
    pub(super) fn http_client(&self) -> Result<reqwest::Client, SettingsError> {
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            headers.insert("X-Nomad-Token", secret(token, SettingsError::Token)?);
        }
        if let Some(auth) = &self.http_auth {
            let pair = if auth.contains(':') { auth.clone() } else { format!("{auth}:") };
            let value = format!("Basic {}", STANDARD.encode(pair));
            headers.insert(AUTHORIZATION, secret(&value, SettingsError::HttpAuth)?);
        }
        self.tls
            .http_client()?
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(MOST_IDLE)
            // Nomad's API never sends elsewhere, and the token would go along.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(SettingsError::Client)
    }
}

/// Whether Go takes this for true (`strconv.ParseBool`).
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn secret(text: &str, error: SettingsError) -> Result<HeaderValue, SettingsError> {
    let Ok(mut value) = HeaderValue::from_str(text) else { return Err(error) };
    value.set_sensitive(true);
    Ok(value)
}

/// What `NOMAD_ADDR` says, unless it is empty.
pub fn address_from_env(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    variable("NOMAD_ADDR").filter(|value| !value.is_empty())
}

/// The addresses in a list with commas, each of the form `http://HOST:PORT` or `https://HOST:PORT`,
/// with a path when Nomad is behind a proxy.
///
/// # Errors
/// There is none, or one is not of this form.
pub fn addresses(text: &str) -> Result<Vec<Url>, SettingsError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let urls = parts.map(address).collect::<Result<Vec<_>, _>>()?;
    if urls.is_empty() {
        return Err(SettingsError::Address(text.to_owned()));
    }
    Ok(urls)
}

fn address(text: &str) -> Result<Url, SettingsError> {
    let invalid = || SettingsError::Address(text.to_owned());
    let url = Url::parse(text).map_err(|_| invalid())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SettingsError::Credentials);
    }
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !fits || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nomad::{Client, Servers};

    fn from(pairs: &[(&str, &str)]) -> ClientSettings {
        ClientSettings::from_env(|name| {
            let value = pairs.iter().find(|(key, _)| *key == name);
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    fn client(settings: &ClientSettings) -> Result<Client, SettingsError> {
        Client::new(settings, Servers::fixed(addresses(DEFAULT_ADDRESS).unwrap()))
    }

    #[test]
    fn addresses_are_told_from_what_is_none() {
        let two = addresses("http://a:4646, https://b/nomad/,").unwrap();
        let two: Vec<_> = two.iter().map(Url::as_str).collect();
        assert_eq!(two, ["http://a:4646/", "https://b/nomad/"]);
        for text in
            ["", ",", "127.0.0.1:4646", "unix:///run/nomad.sock", "ftp://host", "http://a:1/?b=c"]
        {
            assert!(matches!(addresses(text), Err(SettingsError::Address(_))), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = addresses("http://user:hunter2@host:4646").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.to_string().contains("NOMAD_HTTP_AUTH"));
    }

    #[test]
    fn the_variables_of_nomads_own_command_are_read() {
        let settings = from(&[
            ("NOMAD_TOKEN", "t"),
            ("NOMAD_NAMESPACE", "judges"),
            ("NOMAD_REGION", "eu"),
            ("NOMAD_HTTP_AUTH", "me"),
            ("NOMAD_CACERT", "/ca.pem"),
            ("NOMAD_CAPATH", "/cas"),
            ("NOMAD_CLIENT_CERT", "/cert.pem"),
            ("NOMAD_CLIENT_KEY", "/key.pem"),
            ("NOMAD_TLS_SERVER_NAME", "server.global.nomad"),
            ("NOMAD_SKIP_VERIFY", "T"),
        ]);
        let expected = ClientSettings {
            token: Some("t".to_owned()),
            namespace: Some("judges".to_owned()),
            region: Some("eu".to_owned()),
            http_auth: Some("me".to_owned()),
            tls: TlsSettings {
                ca_cert: Some("/ca.pem".into()),
                ca_path: Some("/cas".into()),
                client_cert: Some("/cert.pem".into()),
                client_key: Some("/key.pem".into()),
                server_name: Some("server.global.nomad".to_owned()),
                skip_verify: true,
            },
        };
        assert_eq!(settings, expected);
        for no in ["0", "false", "yes"] {
            assert!(!from(&[("NOMAD_SKIP_VERIFY", no)]).tls.skip_verify, "{no}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named() {
        let error = client(&from(&[("NOMAD_CACERT", "/nowhere/ca.pem")])).unwrap_err();
        assert!(matches!(error, SettingsError::Tls(_)));
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn variables_that_are_empty_count_as_absent() {
        let empty = ClientSettings::from_env(|_| Some(String::new()));
        assert_eq!(empty, ClientSettings::default());
        assert_eq!(address_from_env(|_| Some(String::new())), None);
    }

    #[test]
    fn secrets_are_never_shown() {
        let settings = from(&[("NOMAD_TOKEN", "secret-id"), ("NOMAD_HTTP_AUTH", "me:secret-too")]);
        let client = client(&settings).unwrap();
        let shown = format!("{settings:?} {client:?} {:?}", settings.http_client().unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(!shown.contains(&STANDARD.encode("me:secret-too")), "{shown}");
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        let newline = from(&[("NOMAD_TOKEN", "a\nb")]);
        assert!(matches!(client(&newline), Err(SettingsError::Token)));
    }
}
