//! TLS as Nomad's and Consul's own variables describe it (`NOMAD_CACERT`, `CONSUL_TLS_SERVER_NAME`
//! and so on), made into a client of reqwest.
//!
//! Its callers are `nomad/` and `consul/`. Both products sign their certificates with a private
//! authority and for a name that is no host name (`server.global.nomad`, `server.dc1.consul`), while
//! agents are asked by address: so the name to look for in the certificate can be said apart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        VerifierBuilderError, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

/// Whom to trust and how to prove who we are. The default is what a browser does: the platform's
/// authorities, the name in the URL, no certificate of our own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// A PEM file of authorities, which then are the only ones trusted.
    pub ca_cert: Option<PathBuf>,
    /// A folder of PEM files of authorities, which then are the only ones trusted; files without a
    /// certificate are passed over. Not looked at when there is `ca_cert`, as in Nomad's and
    /// Consul's own commands.
    pub ca_path: Option<PathBuf>,
    /// A PEM file of our own certificate with what leads to its authority; needs `client_key`.
    pub client_cert: Option<PathBuf>,
    /// A PEM file of the private key of `client_cert`: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub client_key: Option<PathBuf>,
    /// The name that the server's certificate must bear instead of the URL's host. The host is
    /// still what is sent as the name wanted (SNI), so a proxy that routes by name is not reached.
    pub server_name: Option<String>,
    /// Take any certificate. For development: whoever is in between reads and changes everything.
    pub skip_verify: bool,
}

impl TlsSettings {
    /// A builder whose client speaks TLS like this; what else it does is the caller's. Reads the
    /// files now, so a certificate that is renewed later takes a new client.
    ///
    /// # Errors
    /// A file cannot be read or holds nothing of what it should, certificate and key do not belong
    /// together, or the server name is none.
    pub fn http_client(&self) -> Result<reqwest::ClientBuilder, TlsError> {
        // The program installs one when it starts; a second try is refused, and that is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder();
        if *self == TlsSettings::default() {
            return Ok(builder);
        }
        Ok(builder.tls_backend_preconfigured(self.client_config()?))
    }

    fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring knows the suites of both versions")
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(provider)?);
        let mut config = match (&self.client_cert, &self.client_key) {
            (None, None) => config.with_no_client_auth(),
            (Some(cert), Some(key)) => config
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(TlsError::Identity)?,
            (Some(_), None) => return Err(TlsError::KeyMissing),
            (None, Some(_)) => return Err(TlsError::CertificateMissing),
        };
        // With a configuration that is given, reqwest leaves this to the giver.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.skip_verify {
            return Ok(Arc::new(AnyCertificate(provider)));
        }
        let verifier: Arc<dyn ServerCertVerifier> = match self.authorities()? {
            Some(roots) => {
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?
            }
            None => Arc::new(
                rustls_platform_verifier::Verifier::new(provider).map_err(TlsError::Platform)?,
            ),
        };
        let Some(name) = &self.server_name else { return Ok(verifier) };
        let name = ServerName::try_from(name.clone())
            .map_err(|source| TlsError::ServerName { name: name.clone(), source })?;
        Ok(Arc::new(FixedName { name, verifier }))
    }

    /// The authorities that replace the platform's, if any do.
    fn authorities(&self) -> Result<Option<RootCertStore>, TlsError> {
        let (place, found) = match (&self.ca_cert, &self.ca_path) {
            (Some(file), _) => (file, certificates(file)?),
            (None, Some(folder)) => (folder, certificates_in_folder(folder)?),
            (None, None) => return Ok(None),
        };
        let mut roots = RootCertStore::empty();
        for certificate in found {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Authority { path: place.clone(), source })?;
        }
        Ok(Some(roots))
    }
}

/// Why there is no client with these settings.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is broken PEM, or has no private key where one belongs.
    #[error("{} is no PEM file of what it should hold", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file or folder has no certificate at all.
    #[error("{} holds no certificate in PEM form", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A certificate cannot be an authority.
    #[error("{} holds a certificate that cannot be an authority", path.display())]
    Authority {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: Error,
    },
    /// The authorities cannot be used.
    #[error("the authorities cannot be used")]
    Authorities(#[from] VerifierBuilderError),
    /// The platform's authorities cannot be had.
    #[error("the authorities of this machine cannot be used")]
    Platform(#[source] Error),
    /// A client certificate without its key.
    #[error("there is a client certificate but no client key")]
    KeyMissing,
    /// A client key without its certificate.
    #[error("there is a client key but no client certificate")]
    CertificateMissing,
    /// The key is of a kind that is not known, or not that of the certificate.
    #[error("client certificate and client key cannot be used together")]
    Identity(#[source] Error),
    /// The server name is neither a DNS name nor an address.
    #[error("`{name}` cannot be the name of a TLS server")]
    ServerName {
        /// What was given.
        name: String,
        /// Why.
        source: InvalidDnsNameError,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// The certificates of a PEM file: one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = certificates_if_any(path)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

fn certificates_if_any(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

/// The certificates of all files right in the folder: one at least.
fn certificates_in_folder(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() {
            found.extend(certificates_if_any(&file)?);
        }
    }
    if found.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

/// Asks for one name whatever the URL's host is.
#[derive(Debug)]
struct FixedName {
    name: ServerName<'static>,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for FixedName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Takes any certificate whose key the server really has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
