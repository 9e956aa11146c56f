//! Getting the keys of an issuer over HTTP: one request, no redirect, a limit on time and size.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::trace;

/// The longest that a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest set of keys, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Where keys are on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `https`, or `http` on this machine.
    pub(super) url: Url,
    /// The authorities to trust, PEM; `None` for the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// A file with a token to show there, as Kubernetes' API server asks for one.
    pub(super) token_file: Option<PathBuf>,
}

/// Why the keys are not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// A file that goes with it cannot be read.
    #[error("{path} cannot be read: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that goes with it is not what it should be.
    #[error("{path} holds no {wanted}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The name of the server cannot be in a certificate.
    #[error("{0}")]
    Name(#[from] InvalidDnsNameError),
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be put together.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// The body breaks off, or is too large.
    #[error("the answer breaks off, or is larger than {MAX_BYTES} bytes")]
    Body,
    /// Another answer than 200.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// Nothing came in time.
    #[error("there was no answer within {} seconds", TIMEOUT.as_secs())]
    TimedOut,
}

// === impl Place ===

impl Place {
    /// What is there.
    ///
    /// # Errors
    /// [`FetchError`], after five seconds at the latest.
    pub(super) async fn get(&self) -> Result<Bytes, FetchError> {
        let got = trace::call_out("issuer", timeout(TIMEOUT, self.get_without_limit()));
        got.await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn get_without_limit(&self) -> Result<Bytes, FetchError> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(443);
        // A literal address of IPv6 is in brackets
        let socket = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        if self.url.scheme() == "http" {
            return self.ask(socket).await;
        }
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let connector = TlsConnector::from(Arc::new(self.client_config()?));
        self.ask(connector.connect(name, socket).await?).await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Bytes, FetchError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request()?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status(answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|_what| FetchError::Body)
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            // What came before it closed is read all the same
            ended = &mut connection => {
                ended?;
                exchange.await
            }
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, FetchError> {
        let path = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::get(path).header(header::HOST, host).header(header::ACCEPT, "*/*");
        if let Some(path) = &self.token_file {
            // Read each time: the kubelet puts a new one there before the old one ends
            let token = std::fs::read_to_string(path).map(Zeroizing::new);
            let token = token.map_err(|source| FetchError::File { path: path.clone(), source })?;
            let bearer = Zeroizing::new(format!("Bearer {}", token.trim()));
            let mut bearer = HeaderValue::from_str(&bearer)
                .map_err(|_what| FetchError::Unusable { path: path.clone(), wanted: "token" })?;
            bearer.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, bearer);
        }
        let mut request = request.body(Empty::new())?;
        trace::pass_on(request.headers_mut());
        Ok(request)
    }

    fn client_config(&self) -> Result<ClientConfig, FetchError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                let unusable =
                    || FetchError::Unusable { path: path.clone(), wanted: "CA certificate in PEM form" };
                let pem = std::fs::read(path);
                let pem = pem.map_err(|source| FetchError::File { path: path.clone(), source })?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    roots.add(certificate.map_err(|_where| unusable())?)?;
                }
                if roots.is_empty() {
                    return Err(unusable());
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// Whether keys may be had from there: unencrypted, somebody on the way could put his own in their place.
pub(super) fn is_trustworthy(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}
