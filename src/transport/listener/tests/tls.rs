//! TLS: versions, ALPN, certificates of both sides, and files that cannot be used.

use std::{error::Error, fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{super::TlsConfig, *};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A directory with the server's files, and the authority that signed its certificate.
pub(super) struct Files {
    dir: TempDir,
    authority: Authority,
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

// === impl Files ===

impl Files {
    pub(super) fn new() -> Self {
        let files = Self { dir: TempDir::new().unwrap(), authority: authority("one") };
        files.write_server(&files.authority);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_server(&self, authority: &Authority) {
        let (certificate, key) = issue(authority);
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    pub(super) fn config(&self) -> TlsConfig {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        TlsConfig { cert, key, client_ca: None, client_required: true }
    }

    fn config_with_client_ca(&self, authority: &Authority) -> TlsConfig {
        fs::write(self.path("clients.pem"), authority.pem()).unwrap();
        TlsConfig { client_ca: Some(self.path("clients.pem")), ..self.config() }
    }

    async fn serve(&self, config: TlsConfig) -> TestServer {
        TestServer::start(patient(), Some(Arc::new(Tls::load(config).unwrap()))).await
    }
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

fn identity(authority: &Authority) -> Identity {
    let (certificate, key) = issue(authority);
    Identity { certificate: certificate.der().clone(), key: key.serialize_der().try_into().unwrap() }
}

async fn connect(
    server: &TestServer,
    trusted: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &str,
    identity: Option<Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Identity { certificate, key }) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    within(connector.connect(name, server.socket().await)).await
}

// === who talks which protocol ===

#[tokio::test]
async fn the_protocol_is_the_one_agreed_on() {
    let files = Files::new();
    let server = files.serve(files.config()).await;
    for version in [&TLS12, &TLS13] {
        let h2 = connect(&server, &files.authority, &[version], "h2", None).await.unwrap();
        let h1 = connect(&server, &files.authority, &[version], "http/1.1", None).await.unwrap();
        let from = [&h2, &h1].map(|stream| stream.get_ref().0.local_addr().unwrap());
        assert_eq!(h2.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(h1.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));

        let over_h2 = server.http2(h2).await.requests.send_request(get_request("/whoami"));
        let over_h1 = server.http1(h1).await.requests.send_request(get_request("/whoami"));

        assert_eq!(answer(over_h2).await, ok(format!("{} true 0", from[0])));
        assert_eq!(answer(over_h1).await, ok(format!("{} true 0", from[1])));
    }
}

#[tokio::test]
async fn plain_text_is_not_answered() {
    let files = Files::new();
    let server = files.serve(files.config()).await;
    let mut socket = server.socket_with(b"GET /whoami HTTP/1.0\r\n\r\n").await;

    assert!(!read_to_close(&mut socket).await.contains("HTTP"));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_disconnected() {
    let files = Files::new();
    let config = ListenerConfig { tls_handshake_timeout: SHORT, ..patient() };
    let tls = Arc::new(Tls::load(files.config()).unwrap());
    let server = TestServer::start(config, Some(tls)).await;
    let mut socket = server.socket().await;

    assert_eq!(read_to_close(&mut socket).await, "");
}

#[tokio::test]
async fn silence_after_the_handshake_is_disconnected() {
    let files = Files::new();
    let config = ListenerConfig { first_bytes_timeout: SHORT, ..patient() };
    let tls = Arc::new(Tls::load(files.config()).unwrap());
    let server = TestServer::start(config, Some(tls)).await;
    let mut stream = connect(&server, &files.authority, &[&TLS13], "h2", None).await.unwrap();

    let read = within(stream.read_u8()).await;

    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn the_stop_waits_for_no_handshake() {
    let files = Files::new();
    let mut server = files.serve(files.config()).await;
    let mut socket = server.socket().await;

    server.stop().await;

    assert_eq!(read_to_close(&mut socket).await, "");
    server.drained().await;
}

// === who trusts whom ===

#[tokio::test]
async fn a_client_that_trusts_another_authority_turns_away() {
    let files = Files::new();
    let server = files.serve(files.config()).await;

    let refused = connect(&server, &authority("other"), &[&TLS13], "h2", None).await;

    assert!(refused.unwrap_err().to_string().contains("UnknownIssuer"));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_turned_away_where_one_is_asked_for() {
    let files = Files::new();
    let server = files.serve(files.config_with_client_ca(&authority("clients"))).await;

    let mut stream = connect(&server, &files.authority, &[&TLS13], "h2", None).await.unwrap();

    // In TLS 1.3 the client learns of it with the first read.
    let error = within(stream.read_u8()).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_turned_away() {
    let files = Files::new();
    let server = files.serve(files.config_with_client_ca(&authority("clients"))).await;
    let stranger = identity(&files.authority);

    let mut stream = connect(&server, &files.authority, &[&TLS13], "h2", Some(stranger)).await.unwrap();

    let error = within(stream.read_u8()).await.unwrap_err();
    assert!(error.to_string().contains("received fatal alert"), "{error}");
}

#[tokio::test]
async fn the_service_sees_the_clients_certificate() {
    let files = Files::new();
    let clients = authority("clients");
    let server = files.serve(files.config_with_client_ca(&clients)).await;
    for version in [&TLS12, &TLS13] {
        let known = identity(&clients);
        let certificate = known.certificate.clone();

        let stream = connect(&server, &files.authority, &[version], "h2", Some(known)).await.unwrap();
        let mut client = server.http2(stream).await;

        assert_eq!(answer(client.requests.send_request(get_request("/peer"))).await, ok(certificate));
    }
}

// === the files ===

#[tokio::test]
async fn new_files_are_for_new_connections_and_broken_ones_for_none() {
    let files = Files::new();
    let tls = Arc::new(Tls::load(files.config()).unwrap());
    let server = TestServer::start(patient(), Some(Arc::clone(&tls))).await;
    let stream = connect(&server, &files.authority, &[&TLS13], "h2", None).await.unwrap();
    let mut old = server.http2(stream).await;
    let next = authority("next");

    files.write_server(&next);
    tls.reload().unwrap();
    fs::write(files.path("key.pem"), "").unwrap();
    tls.reload().unwrap_err();

    connect(&server, &files.authority, &[&TLS13], "h2", None).await.unwrap_err();
    connect(&server, &next, &[&TLS13], "h2", None).await.unwrap();
    assert_eq!(answer(old.requests.send_request(get_request("/whoami"))).await.0, StatusCode::OK);
}

#[test]
fn an_error_names_the_setting_and_the_file() {
    let files = Files::new();
    let (_, foreign_key) = issue(&files.authority);
    fs::write(files.path("foreign.pem"), foreign_key.serialize_pem()).unwrap();
    fs::write(files.path("empty.pem"), "").unwrap();
    fs::write(files.path("broken.pem"), "-----BEGIN CERTIFICATE-----\nbm90\n").unwrap();
    let bogus = "-----BEGIN CERTIFICATE-----\nbm90\n-----END CERTIFICATE-----\n";
    fs::write(files.path("bogus.pem"), bogus).unwrap();
    let good = files.config();
    let cert = |name: &str| TlsConfig { cert: files.path(name), ..good.clone() };
    let key = |name: &str| TlsConfig { key: files.path(name), ..good.clone() };
    let client_ca = |name: &str| TlsConfig { client_ca: Some(files.path(name)), ..good.clone() };

    for (config, setting, file, what) in [
        (cert("none.pem"), "--tls-cert", "none.pem", "cannot be read"),
        (cert("empty.pem"), "--tls-cert", "empty.pem", "holds no certificate"),
        (cert("key.pem"), "--tls-cert", "key.pem", "holds no certificate"),
        (cert("broken.pem"), "--tls-cert", "broken.pem", "not well-formed"),
        (cert("bogus.pem"), "--tls-cert", "bogus.pem", "cannot be used together"),
        (key("none.pem"), "--tls-key", "none.pem", "cannot be read"),
        (key("cert.pem"), "--tls-key", "cert.pem", "holds no private key"),
        (key("foreign.pem"), "--tls-key", "foreign.pem", "cannot be used together"),
        (client_ca("empty.pem"), "--tls-client-ca", "empty.pem", "holds no certificate"),
        (client_ca("bogus.pem"), "--tls-client-ca", "bogus.pem", "as an authority"),
    ] {
        let text = Tls::load(config).unwrap_err().to_string();
        for part in [setting, file, what] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
    }
}

#[test]
fn an_error_repeats_nothing_of_a_key() {
    let files = Files::new();
    let secret = "c2VjcmV0IGtleSBtYXRlcmlhbA";
    for text in [
        format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----BEGIN {secret}\n"),
        format!("-----BEGIN {secret}\n"),
    ] {
        fs::write(files.path("key.pem"), text).unwrap();

        let error = Tls::load(files.config()).unwrap_err();

        let mut shown = format!("{error:?} {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            shown.push_str(&cause.to_string());
            source = cause.source();
        }
        assert!(!shown.contains(secret), "{shown}");
        assert!(!shown.contains(&format!("{:?}", secret.as_bytes()).replace(['[', ']'], "")), "{shown}");
    }
}
