use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::PrivatePkcs8KeyDer,
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tempfile::TempDir;

use super::*;

/// A certificate with its key, and files of both.
struct Identity {
    certificate: Certificate,
    key: KeyPair,
    cert_file: PathBuf,
    key_file: PathBuf,
}

/// A folder of certificates.
struct Office(TempDir);

impl Office {
    fn new() -> Office {
        Office(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn keep(&self, name: &str, certificate: Certificate, key: KeyPair) -> Identity {
        let cert_file = self.file(&format!("{name}.pem"), &certificate.pem());
        let key_file = self.file(&format!("{name}-key.pem"), &key.serialize_pem());
        Identity { certificate, key, cert_file, key_file }
    }

    fn authority(&self, name: &str) -> Identity {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        self.keep(name, params.self_signed(&key).unwrap(), key)
    }

    fn signed(&self, by: &Identity, name: &str) -> Identity {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &by.certificate, &by.key).unwrap();
        self.keep(name, certificate, key)
    }
}

/// A server on loopback that answers one request, as `identity`, to clients that `authority`
/// signed, or to all. Its thread ends after one connection.
fn serve(identity: &Identity, authority: Option<&Identity>) -> (String, JoinHandle<()>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients: Arc<dyn ClientCertVerifier> = match authority {
        None => Arc::new(NoClientAuth),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap()
        }
    };
    let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![identity.certificate.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // A client that refuses us ends the handshake: that is for the client's side to judge.
        let _ = answer(stream, Arc::new(config));
    });
    (url, thread)
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What a client with these settings gets from such a server.
async fn ask(
    settings: &TlsSettings,
    identity: &Identity,
    authority: Option<&Identity>,
) -> Result<String, String> {
    let (url, thread) = serve(identity, authority);
    let client = settings.http_client().unwrap().no_proxy().build().unwrap();
    let told = |error: reqwest::Error| format!("{error:?}");
    let answer = match client.get(url).send().await {
        Ok(answer) => answer.text().await.map_err(told),
        Err(error) => Err(told(error)),
    };
    thread.join().unwrap();
    answer
}

fn trusting(authority: &Identity) -> TlsSettings {
    TlsSettings { ca_cert: Some(authority.cert_file.clone()), ..TlsSettings::default() }
}

#[tokio::test]
async fn the_authority_of_the_server_is_trusted_and_no_other() {
    let office = Office::new();
    let (ours, theirs) = (office.authority("ours"), office.authority("theirs"));
    let server = office.signed(&ours, "127.0.0.1");
    assert_eq!(ask(&trusting(&ours), &server, None).await.as_deref(), Ok("hello"));
    for settings in [trusting(&theirs), TlsSettings::default()] {
        let refused = ask(&settings, &server, None).await.unwrap_err();
        assert!(refused.contains("UnknownIssuer"), "{settings:?}: {refused}");
    }
}

#[tokio::test]
async fn a_folder_of_authorities_is_trusted() {
    let office = Office::new();
    let ours = office.authority("folder/ours");
    office.authority("folder/theirs");
    office.file("folder/README", "what these are");
    let server = office.signed(&ours, "127.0.0.1");
    let folder = ours.cert_file.parent().unwrap().to_owned();
    let settings = TlsSettings { ca_path: Some(folder), ..TlsSettings::default() };
    assert_eq!(ask(&settings, &server, None).await.as_deref(), Ok("hello"));
}

#[tokio::test]
async fn the_server_name_is_looked_for_instead_of_the_host() {
    let office = Office::new();
    let ours = office.authority("ours");
    let server = office.signed(&ours, "server.global.nomad");
    let named = |name: &str| TlsSettings { server_name: Some(name.to_owned()), ..trusting(&ours) };
    assert_eq!(ask(&named("server.global.nomad"), &server, None).await.as_deref(), Ok("hello"));
    for settings in [trusting(&ours), named("client.global.nomad")] {
        let refused = ask(&settings, &server, None).await.unwrap_err();
        assert!(refused.contains("NotValidForName"), "{settings:?}: {refused}");
    }
    // The name replaces the host's: a certificate for the host alone does not do any more.
    let by_host = office.signed(&ours, "127.0.0.1");
    let refused = ask(&named("server.global.nomad"), &by_host, None).await.unwrap_err();
    assert!(refused.contains("NotValidForName"), "{refused}");
    // A name does not replace trust.
    let name = Some("server.global.nomad".to_owned());
    let untrusting = TlsSettings { server_name: name, ..TlsSettings::default() };
    let refused = ask(&untrusting, &server, None).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[tokio::test]
async fn a_client_proves_who_it_is() {
    let office = Office::new();
    let ours = office.authority("ours");
    let server = office.signed(&ours, "127.0.0.1");
    let client = office.signed(&ours, "client.global.nomad");
    let stranger = office.signed(&office.authority("theirs"), "stranger");
    let as_one = |one: &Identity| TlsSettings {
        client_cert: Some(one.cert_file.clone()),
        client_key: Some(one.key_file.clone()),
        ..trusting(&ours)
    };
    assert_eq!(ask(&as_one(&client), &server, Some(&ours)).await.as_deref(), Ok("hello"));
    for settings in [trusting(&ours), as_one(&stranger)] {
        assert!(ask(&settings, &server, Some(&ours)).await.is_err(), "{settings:?}");
    }
}

#[tokio::test]
async fn any_certificate_is_taken_when_nothing_is_verified() {
    let office = Office::new();
    let server = office.signed(&office.authority("theirs"), "elsewhere");
    let settings = TlsSettings { skip_verify: true, ..TlsSettings::default() };
    assert_eq!(ask(&settings, &server, None).await.as_deref(), Ok("hello"));
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_file_or_the_name() {
    let office = Office::new();
    let ours = office.authority("ours");
    let (one, other) = (office.signed(&ours, "one"), office.signed(&ours, "other"));
    let text = office.file("empty/notes.txt", "no certificate");
    let nowhere = office.0.path().join("nowhere.pem");
    let none = TlsSettings::default;
    let refusal = |settings: TlsSettings| settings.http_client().unwrap_err();

    let missing = refusal(TlsSettings { ca_cert: Some(nowhere), ..none() });
    assert!(missing.to_string().ends_with("nowhere.pem cannot be read"), "{missing}");
    let folder = text.parent().unwrap().to_owned();
    for settings in [
        TlsSettings { ca_cert: Some(text.clone()), ..none() },
        TlsSettings { ca_path: Some(folder), ..none() },
    ] {
        assert!(matches!(refusal(settings), TlsError::NoCertificate { .. }));
    }
    let half = TlsSettings { client_cert: Some(one.cert_file.clone()), ..none() };
    assert!(matches!(refusal(half), TlsError::KeyMissing));
    let half = TlsSettings { client_key: Some(one.key_file.clone()), ..none() };
    assert!(matches!(refusal(half), TlsError::CertificateMissing));
    let mixed = TlsSettings {
        client_cert: Some(one.cert_file.clone()),
        client_key: Some(other.key_file),
        ..none()
    };
    assert!(matches!(refusal(mixed), TlsError::Identity(_)));
    let keyless =
        TlsSettings { client_cert: Some(one.cert_file.clone()), client_key: Some(text), ..none() };
    assert!(matches!(refusal(keyless), TlsError::Pem { .. }));
    let named = TlsSettings { server_name: Some("not a name".to_owned()), ..none() };
    assert!(refusal(named).to_string().contains("`not a name`"));
}
