//! Certificates: an authority, what it issues, and servers and clients that show it.
//!
//! The server's files are exchanged as cert-manager and the kubelet do it: they are links into a directory that is a link
//! itself, and that one is replaced in one step.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use super::{
    Database, LIMIT,
    server::{Server, Setup},
};

/// Why a connection or a call on it came to nothing.
pub(crate) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// An authority, and the directory with what it issued to the server: `cert.pem`, `key.pem`, `ca.pem`.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
    generation: AtomicU32,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

/// A time in a certificate: so many seconds from now on.
pub(crate) fn in_seconds(seconds: i64) -> Moment {
    #[expect(clippy::disallowed_methods, reason = "certificates are judged by the system's clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    Moment(now.checked_add_signed(seconds).expect("a time after 1970"))
}

/// Seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub(crate) u64);

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory: TempDir::new().unwrap(), generation: AtomicU32::new(0) };
        let ca = authority.pem();
        authority.exchange(&authority.issue(), &ca);
        for name in ["cert.pem", "key.pem", "ca.pem"] {
            symlink(format!("..data/{name}"), authority.directory.path().join(name)).unwrap();
        }
        authority
    }

    /// A file of the directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `localhost`.
    pub(crate) fn issue(&self) -> Issued {
        self.issue_with(|params| {
            params.subject_alt_names = vec![rcgen::SanType::DnsName("localhost".try_into().unwrap())];
        })
    }

    /// A certificate without names but those that `change` gives it.
    pub(crate) fn issue_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        Issued { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Exchanges the files in one step.
    pub(crate) fn exchange(&self, Issued { certificate, key }: &Issued, ca: &str) {
        self.exchange_texts(&certificate.pem(), &key.serialize_pem(), ca);
    }

    /// Exchanges the files in one step, whatever they hold.
    pub(crate) fn exchange_texts(&self, certificate: &str, key: &str, ca: &str) {
        let number = self.generation.fetch_add(1, Ordering::Relaxed);
        let (directory, before) = (self.generation_path(number), number.checked_sub(1));
        fs::create_dir(&directory).unwrap();
        for (name, text) in [("cert.pem", certificate), ("key.pem", key), ("ca.pem", ca)] {
            fs::write(directory.join(name), text).unwrap();
        }
        let (next, data) = (self.directory.path().join("..data_tmp"), self.directory.path().join("..data"));
        symlink(directory.file_name().unwrap(), &next).unwrap();
        fs::rename(next, data).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(self.generation_path(before)).unwrap();
        }
    }

    fn generation_path(&self, number: u32) -> PathBuf {
        self.directory.path().join(format!("..{number}"))
    }

    /// A server with a certificate of this authority, and with further settings.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        self.setup(more).start()
    }

    /// The same before it is started.
    pub(crate) fn setup(&self, more: &[&str]) -> Setup {
        self.setup_on(Database::Sqlite, more)
    }

    /// The same on any database.
    pub(crate) fn setup_on(&self, database: Database, more: &[&str]) -> Setup {
        let cert = format!("--tls-cert={}", self.path("cert.pem"));
        let key = format!("--tls-key={}", self.path("key.pem"));
        let setup = Server::with(database).arg(&cert).arg(&key);
        more.iter().fold(setup, |setup, argument| setup.arg(argument))
    }

    /// How a client that trusts this authority connects, with a certificate if there is one.
    pub(crate) fn client(&self, alpn: &str, identity: Option<&Issued>) -> Result<ClientConfig, Problem> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(Issued { certificate, key }) => {
                let key = key.serialize_der().try_into()?;
                builder.with_client_auth_cert(vec![certificate.der().clone()], key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        Ok(config)
    }

    /// Connects as such a client.
    pub(crate) async fn connect(
        &self,
        server: &Server,
        alpn: &str,
        identity: Option<&Issued>,
    ) -> Result<TlsStream<TcpStream>, Problem> {
        connect(server, self.client(alpn, identity)?).await
    }

    /// A GET over HTTP/1.1 or HTTP/2, as agreed on, with the token if there is one.
    pub(crate) async fn get(
        &self,
        server: &Server,
        alpn: &str,
        identity: Option<&Issued>,
        token: Option<&str>,
    ) -> Result<Response<Incoming>, Problem> {
        let stream = self.connect(server, alpn, identity).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let mut request = Request::get("https://localhost/v1/auth/validate").header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let stream = TokioIo::new(stream);
        if alpn == "h2" {
            let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream).await?;
            return drive(sender.send_request(request), connection).await;
        }
        let (mut sender, connection) = conn::http1::handshake(stream).await?;
        drive(sender.send_request(request), connection).await
    }

    /// A connection for gRPC.
    pub(crate) async fn channel(
        &self,
        server: &Server,
        identity: Option<&Issued>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.issuer.pem()));
        if let Some(Issued { certificate, key }) = identity {
            tls = tls.identity(Identity::from_pem(certificate.pem(), key.serialize_pem()));
        }
        let url = format!("https://localhost:{}", server.address().port());
        Channel::from_shared(url).unwrap().timeout(LIMIT).tls_config(tls)?.connect().await
    }
}

// === impl Moment ===

impl Moment {
    /// Puts both ends of a certificate's time where they are wanted.
    pub(crate) fn until(self, end: Self, params: &mut CertificateParams) {
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.0);
        params.not_after = epoch + Duration::from_secs(end.0);
    }
}

/// Connects as a client of any settings.
pub(crate) async fn connect(server: &Server, config: ClientConfig) -> Result<TlsStream<TcpStream>, Problem> {
    let socket = TcpStream::connect(server.address()).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(ServerName::try_from("localhost")?, socket).await?)
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
