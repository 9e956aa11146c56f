//! TLS on the one port: REST over HTTP/1.1 and HTTP/2, gRPC, and clients that must show a certificate.

use std::{fs, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use superserve::proto::v1::{WhoAmIRequest, tokens_service_client::TokensServiceClient};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::harness::{Database, grpc::Grpc, server::Server};

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// An authority, and the directory with what it issued to the server.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory: TempDir::new().unwrap() };
        let (certificate, key) = authority.issue();
        fs::write(authority.path("cert.pem"), certificate.pem()).unwrap();
        fs::write(authority.path("key.pem"), key.serialize_pem()).unwrap();
        fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    /// A file of the directory: `cert.pem`, `key.pem`, `ca.pem`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server with a certificate of this authority, and with further settings.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let cert = format!("--tls-cert={}", self.path("cert.pem"));
        let key = format!("--tls-key={}", self.path("key.pem"));
        let setup = Server::with(Database::Sqlite).arg(&cert).arg(&key);
        more.iter().fold(setup, |setup, argument| setup.arg(argument)).start()
    }

    /// Connects as a client that trusts this authority, with a certificate of `identity` if there is one.
    async fn connect(
        &self,
        server: &Server,
        alpn: &str,
        identity: Option<&Self>,
    ) -> Result<TlsStream<TcpStream>, Problem> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match identity.map(Self::issue) {
            Some((certificate, key)) => {
                let key = key.serialize_der().try_into()?;
                builder.with_client_auth_cert(vec![certificate.der().clone()], key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let socket = TcpStream::connect(server.address()).await?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(connector.connect(ServerName::try_from("localhost")?, socket).await?)
    }

    /// A GET over HTTP/1.1 or HTTP/2, as agreed on.
    async fn get(
        &self,
        server: &Server,
        alpn: &str,
        identity: Option<&Self>,
    ) -> Result<Response<Incoming>, Problem> {
        let stream = self.connect(server, alpn, identity).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let request = Request::get("https://localhost/v1/auth/validate").header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", server.admin_token()));
        let request = request.body(Empty::<Bytes>::new())?;
        let stream = TokioIo::new(stream);
        if alpn == "h2" {
            let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await?;
            return drive(sender.send_request(request), connection).await;
        }
        let (mut sender, connection) = conn::http1::handshake(stream).await?;
        drive(sender.send_request(request), connection).await
    }

    async fn channel(
        &self,
        server: &Server,
        identity: Option<&Self>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.issuer.pem()));
        if let Some((certificate, key)) = identity.map(Self::issue) {
            tls = tls.identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        }
        let url = format!("https://localhost:{}", server.address().port());
        Channel::from_shared(url).unwrap().tls_config(tls)?.connect().await
    }
}

#[tokio::test]
async fn both_protocols_are_served_encrypted() {
    let authority = Authority::new();
    let server = authority.serve(&[]);
    for (alpn, version) in [("http/1.1", Version::HTTP_11), ("h2", Version::HTTP_2)] {
        let answer = authority.get(&server, alpn, None).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
    let channel = authority.channel(&server, None).await.unwrap();
    assert!(who_am_i(&server, channel).await);
    let stranger = Authority::new();
    stranger.get(&server, "h2", None).await.unwrap_err();
    stranger.channel(&server, None).await.unwrap_err();

    let plain =
        server.rest().raw(b"GET /v1/agents HTTP/1.1\r\nhost: x\r\n\r\n", Duration::from_secs(1)).await;
    assert!(!plain.starts_with(b"HTTP/"), "{}", plain.escape_ascii());
    assert!(server.rest().get("/v1/agents").try_send().await.is_err());
    assert_eq!(server.ops().get("/livez").send().await.status, 200, "probes stay plain");
    let ops = Grpc::connect(server.ops_address(), server.admin_token()).await.channel();
    let health = HealthClient::new(ops).check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving, "also over gRPC");
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let server = authority.serve(&[&format!("--tls-client-ca={}", clients.path("ca.pem"))]);
    for alpn in ["http/1.1", "h2"] {
        assert_eq!(authority.get(&server, alpn, Some(&clients)).await.unwrap().status(), 200);
        authority.get(&server, alpn, None).await.unwrap_err();
        authority.get(&server, alpn, Some(&strangers)).await.unwrap_err();
    }
    let channel = authority.channel(&server, Some(&clients)).await.unwrap();
    assert!(who_am_i(&server, channel).await);
    for identity in [None, Some(&strangers)] {
        // With TLS 1.3 a client may learn of it only with its first call
        let called = match authority.channel(&server, identity).await {
            Ok(channel) => who_am_i(&server, channel).await,
            Err(_refused) => false,
        };
        assert!(!called);
    }
}

async fn who_am_i(server: &Server, channel: Channel) -> bool {
    let mut request = tonic::Request::new(WhoAmIRequest {});
    let bearer = format!("Bearer {}", server.admin_token()).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    TokensServiceClient::new(channel).who_am_i(request).await.is_ok()
}

/// Sends while the connection runs.
async fn drive(
    exchange: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<Response<Incoming>, Problem> {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = exchange => Ok(answer?),
        ended = &mut connection => Err(ended.err().map_or_else(|| "it closed".into(), Into::into)),
    }
}
