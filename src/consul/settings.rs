//! Where Consul is and as whom it is asked, as Consul's own command reads it.

use std::{fs, path::PathBuf};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use super::SettingsError;
use crate::tls::TlsSettings;

/// Where Consul is and as whom it is asked. Consul's own variables fill it, see
/// [`ClientSettings::from_env`].
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// `HOST`, `HOST:PORT` or `http(s)://HOST:PORT`. Default `127.0.0.1:8500`.
    pub address: String,
    /// Whether to speak TLS whatever the address says. An address with `https://` needs no more.
    pub ssl: bool,
    /// How TLS is spoken.
    pub tls: TlsSettings,
    /// The ACL token's secret.
    pub token: Option<String>,
    /// A file whose content, when it is not empty, is the token instead. Read when a client is
    /// made.
    pub token_file: Option<PathBuf>,
    /// `USER:PASSWORD` for a proxy before Consul that asks for it.
    pub auth: Option<String>,
    /// The namespace of every call; the token's own when absent. Consul Enterprise has them.
    pub namespace: Option<String>,
    /// The datacenter whose services and keys are asked for; the agent's own when absent. Services
    /// are always registered with the agent itself.
    pub datacenter: Option<String>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            address: "127.0.0.1:8500".to_owned(),
            ssl: false,
            tls: TlsSettings::default(),
            token: None,
            token_file: None,
            auth: None,
            namespace: None,
            datacenter: None,
        }
    }
}

impl std::fmt::Debug for ClientSettings {
    /// Shows whether there are a token and a password, never which.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSettings")
            .field("address", &self.address)
            .field("ssl", &self.ssl)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("token_file", &self.token_file)
            .field("auth", &self.auth.as_ref().map(|_| "..."))
            .field("namespace", &self.namespace)
            .field("datacenter", &self.datacenter)
            .finish()
    }
}

impl ClientSettings {
    /// From `CONSUL_HTTP_ADDR`, `CONSUL_HTTP_SSL`, `CONSUL_HTTP_SSL_VERIFY`, `CONSUL_CACERT`,
    /// `CONSUL_CAPATH`, `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY`, `CONSUL_TLS_SERVER_NAME`,
    /// `CONSUL_HTTP_TOKEN`, `CONSUL_HTTP_TOKEN_FILE`, `CONSUL_HTTP_AUTH` and `CONSUL_NAMESPACE`.
    /// Empty ones count as absent. There is no variable for the datacenter.
    ///
    /// # Errors
    /// A switch is neither true nor false; Consul's own command only warns and goes on without TLS.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let flag = |name: &'static str, default: bool| match get(name) {
            None => Ok(default),
            Some(value) => parse_flag(&value).ok_or(SettingsError::Flag { name, value }),
        };
        Ok(ClientSettings {
            address: get("CONSUL_HTTP_ADDR").unwrap_or_else(|| Self::default().address),
            ssl: flag("CONSUL_HTTP_SSL", false)?,
            tls: TlsSettings {
                ca_cert: path("CONSUL_CACERT"),
                ca_path: path("CONSUL_CAPATH"),
                client_cert: path("CONSUL_CLIENT_CERT"),
                client_key: path("CONSUL_CLIENT_KEY"),
                server_name: get("CONSUL_TLS_SERVER_NAME"),
                skip_verify: !flag("CONSUL_HTTP_SSL_VERIFY", true)?,
            },
            token: get("CONSUL_HTTP_TOKEN"),
            token_file: path("CONSUL_HTTP_TOKEN_FILE"),
            auth: get("CONSUL_HTTP_AUTH"),
            namespace: get("CONSUL_NAMESPACE"),
            datacenter: None,
        })
    }

    /// The address as a URL. `ssl` wins over an `http://`, as with Consul's own command.
    ///
    /// # Errors
    /// It is no HTTP address.
    pub fn url(&self) -> Result<Url, SettingsError> {
        let invalid = || SettingsError::Address(self.address.clone());
        let (scheme, rest) = self.address.split_once("://").unwrap_or(("http", &self.address));
        let scheme = match scheme {
            "unix" => return Err(SettingsError::SocketFile(self.address.clone())),
            "http" if !self.ssl => "http",
            "http" | "https" => "https",
            _ => return Err(invalid()),
        };
        // A Go program takes an address without a host for this machine.
        let here = if rest.starts_with(':') { "127.0.0.1" } else { "" };
        let url = Url::parse(&format!("{scheme}://{here}{rest}")).map_err(|_| invalid())?;
        let extra = url.query().is_some() || url.fragment().is_some() || !url.username().is_empty();
        if rest.is_empty() || !url.has_host() || extra { Err(invalid()) } else { Ok(url) }
    }

    /// What goes with every call to prove who asks.
    pub(super) fn headers(&self) -> Result<HeaderMap, SettingsError> {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.read_token()? {
            headers.insert("X-Consul-Token", secret(&token)?);
        }
        if let Some(auth) = &self.auth {
            // Without a colon it is a user without a password.
            let colon = if auth.contains(':') { "" } else { ":" };
            let encoded = BASE64_STANDARD.encode(format!("{auth}{colon}"));
            headers.insert(AUTHORIZATION, secret(&format!("Basic {encoded}"))?);
        }
        Ok(headers)
    }

    fn read_token(&self) -> Result<Option<String>, SettingsError> {
        let Some(path) = &self.token_file else { return Ok(self.token.clone()) };
        let text = fs::read_to_string(path)
            .map_err(|source| SettingsError::TokenFile { path: path.clone(), source })?;
        let text = text.trim();
        Ok(if text.is_empty() { self.token.clone() } else { Some(text.to_owned()) })
    }
}

fn secret(text: &str) -> Result<HeaderValue, SettingsError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| SettingsError::Secret)?;
    value.set_sensitive(true);
    Ok(value)
}

/// As Go's `strconv.ParseBool` has it.
fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<ClientSettings, SettingsError> {
        ClientSettings::from_env(|name| {
            let found = variables.iter().find(|(each, _)| *each == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn url(address: &str, ssl: bool) -> Result<String, SettingsError> {
        let settings =
            ClientSettings { address: address.to_owned(), ssl, ..ClientSettings::default() };
        settings.url().map(|url| url.to_string())
    }

    #[test]
    fn an_address_needs_no_scheme() {
        for (address, ssl, expected) in [
            ("127.0.0.1:8500", false, "http://127.0.0.1:8500/"),
            ("consul.example:8501", true, "https://consul.example:8501/"),
            ("http://127.0.0.1:8500", false, "http://127.0.0.1:8500/"),
            ("http://127.0.0.1:8500", true, "https://127.0.0.1:8500/"),
            ("https://consul.example:8501", false, "https://consul.example:8501/"),
            ("[::1]:8500", false, "http://[::1]:8500/"),
            ("consul.example", false, "http://consul.example/"),
            (":8500", false, "http://127.0.0.1:8500/"),
            ("http://proxy/consul/", false, "http://proxy/consul/"),
        ] {
            assert_eq!(url(address, ssl).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_http_address_is_refused() {
        for address in ["", "http://", "ftp://host:1", "host:port", "host:1?x=y", "me@host:1"] {
            assert!(matches!(url(address, false), Err(SettingsError::Address(_))), "{address}");
        }
        let refused = url("unix:///run/consul.sock", false).unwrap_err();
        assert!(matches!(refused, SettingsError::SocketFile(_)), "{refused}");
    }

    #[test]
    fn consuls_own_variables_are_read() {
        let settings = from(&[
            ("CONSUL_HTTP_ADDR", "consul.example:8501"),
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_HTTP_SSL_VERIFY", "0"),
            ("CONSUL_CACERT", "/ca.pem"),
            ("CONSUL_CAPATH", "/cas"),
            ("CONSUL_CLIENT_CERT", "/cert.pem"),
            ("CONSUL_CLIENT_KEY", "/key.pem"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_HTTP_TOKEN", "secret-id"),
            ("CONSUL_HTTP_TOKEN_FILE", "/token"),
            ("CONSUL_HTTP_AUTH", "user:password"),
            ("CONSUL_NAMESPACE", "judges"),
        ])
        .unwrap();
        let expected = ClientSettings {
            address: "consul.example:8501".to_owned(),
            ssl: true,
            tls: TlsSettings {
                ca_cert: Some("/ca.pem".into()),
                ca_path: Some("/cas".into()),
                client_cert: Some("/cert.pem".into()),
                client_key: Some("/key.pem".into()),
                server_name: Some("server.dc1.consul".to_owned()),
                skip_verify: true,
            },
            token: Some("secret-id".to_owned()),
            token_file: Some("/token".into()),
            auth: Some("user:password".to_owned()),
            namespace: Some("judges".to_owned()),
            datacenter: None,
        };
        assert_eq!(settings, expected);
        assert_eq!(from(&[("CONSUL_HTTP_TOKEN", "")]).unwrap(), ClientSettings::default());
        let refused = from(&[("CONSUL_HTTP_SSL", "yes")]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "CONSUL_HTTP_SSL is `yes`, which is neither true nor false"
        );
    }

    #[test]
    fn the_token_of_a_file_wins_over_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let settings = ClientSettings {
            token: Some("from-variable".to_owned()),
            token_file: Some(file.clone()),
            ..ClientSettings::default()
        };
        assert!(matches!(settings.headers(), Err(SettingsError::TokenFile { .. })));
        fs::write(&file, "from-file\n").unwrap();
        assert_eq!(settings.headers().unwrap()["X-Consul-Token"], "from-file");
        fs::write(&file, "\n").unwrap();
        assert_eq!(settings.headers().unwrap()["X-Consul-Token"], "from-variable");
    }

    #[test]
    fn user_and_password_become_a_basic_authorization() {
        let header = |auth: &str| {
            let auth = Some(auth.to_owned());
            let settings = ClientSettings { auth, ..ClientSettings::default() };
            settings.headers().unwrap()[AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(header("user:password"), "Basic dXNlcjpwYXNzd29yZA==");
        assert_eq!(header("user"), "Basic dXNlcjo=");
    }

    #[test]
    fn secrets_are_never_shown() {
        let settings = ClientSettings {
            token: Some("secret-id".to_owned()),
            auth: Some("user:password".to_owned()),
            ..ClientSettings::default()
        };
        let shown = format!("{settings:?} {:?}", settings.headers().unwrap());
        assert!(!shown.contains("secret-id") && !shown.contains("password"), "{shown}");
        let newline = ClientSettings { token: Some("a\nb".to_owned()), ..settings };
        assert!(matches!(newline.headers(), Err(SettingsError::Secret)));
    }
}
