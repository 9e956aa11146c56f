//! Who the server is and which clients it lets in: certificates and keys from PEM files, which may change while it runs.

mod error;
mod files;

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::sync::watch;

pub use self::error::TlsError;
use self::files::{CERT, CLIENT_CA, Contents, Digest, KEY, certificates, pem_error};
use super::certificate::Validity;

/// What TLS clients can ask for, the best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the PEM files are.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The server's certificate, followed by the intermediate ones.
    pub cert: PathBuf,
    /// The private key of [`cert`](Self::cert): PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// Authorities of client certificates, for which clients are asked; without it, no client is.
    pub client_ca: Option<PathBuf>,
    /// Whether a client that is asked must show one. What one shows must be theirs in any case.
    pub client_required: bool,
}

/// The TLS settings of a listener, read for each connection, so that
/// [`reload`](Self::reload) changes them for new ones.
pub struct Tls {
    files: TlsConfig,
    current: watch::Sender<Arc<Current>>,
}

/// What came of reading the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They hold what is in use.
    Unchanged,
    /// They held something else, which is in use from now on.
    Taken,
}

/// What is in use, all of it read at one time.
pub(super) struct Current {
    pub(super) server: Arc<ServerConfig>,
    pub(super) clients: Option<Arc<Clients>>,
    validity: Validity,
    read: Digest,
}

/// Which clients are let in.
pub(super) struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    pem: Vec<u8>,
}

// === impl Tls ===

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used; the error names the file and its setting.
    pub fn load(files: TlsConfig) -> Result<Self, TlsError> {
        let current = Current::new(&files, &Contents::read(&files)?, None)?;
        Ok(Self { files, current: watch::Sender::new(Arc::new(current)) })
    }

    /// Reads the files again, for connections accepted from now on.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). What was in use stays in use.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let contents = Contents::read(&self.files)?;
        let before = self.current();
        if contents.digest() == before.read {
            return Ok(Reloaded::Unchanged);
        }
        let next = Current::new(&self.files, &contents, before.clients.as_ref())?;
        let _previous = self.current.send_replace(Arc::new(next));
        Ok(Reloaded::Taken)
    }

    /// From when until when the certificate in use is good.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.current().validity
    }

    /// Waits until the authorities in use vouch no more for a client that those before have let in: one of them was taken
    /// away. A certificate that has ended meanwhile is none that they vouch for.
    pub(super) async fn until_distrusted(
        &self,
        admitted: Option<&Arc<Clients>>,
        chain: &[CertificateDer<'_>],
    ) {
        let (Some(mut admitted), Some((leaf, between))) = (admitted.cloned(), chain.split_first()) else {
            return std::future::pending().await;
        };
        let mut current = self.current.subscribe();
        loop {
            let clients = current.borrow_and_update().clients.clone();
            if let Some(clients) = clients.filter(|clients| !Arc::ptr_eq(clients, &admitted)) {
                let verified = clients.verifier.verify_client_cert(leaf, between, UnixTime::now());
                if verified.is_err() {
                    return;
                }
                admitted = clients;
            }
            if current.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What a new connection is to use.
    pub(super) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

// === impl Current ===

impl Current {
    /// TLS 1.2 and 1.3 by ring, whatever default the process may have.
    fn new(files: &TlsConfig, contents: &Contents, before: Option<&Arc<Clients>>) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?;
        let clients = Clients::new(files, contents, provider, before)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
            None => builder.with_no_client_auth(),
        };
        let chain = certificates(CERT, &files.cert, &contents.cert)?;
        let leaf = chain.first().cloned();
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| pem_error(KEY, &files.key, "private key", &error))?;
        let mut server = builder.with_single_cert(chain, key).map_err(|source| TlsError::Identity {
            cert: files.cert.clone(),
            key: files.key.clone(),
            source,
        })?;
        server.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        if clients.is_some() {
            // A session that is taken up again has its client's certificate not looked at again
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        let validity = leaf.and_then(|leaf| Validity::of_der(&leaf));
        let validity = validity.ok_or_else(|| TlsError::Unintelligible { path: files.cert.clone() })?;
        Ok(Self { server: Arc::new(server), clients, validity, read: contents.digest() })
    }
}

// === impl Clients ===

impl Clients {
    /// The ones before, if the file of authorities is what it was: then nobody has to be verified anew.
    fn new(
        files: &TlsConfig,
        contents: &Contents,
        provider: Arc<CryptoProvider>,
        before: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let (Some(path), Some(pem)) = (&files.client_ca, &contents.client_ca) else { return Ok(None) };
        if let Some(same) = before.filter(|before| before.pem == *pem) {
            return Ok(Some(Arc::clone(same)));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates(CLIENT_CA, path, pem)? {
            roots.add(certificate).map_err(|source| TlsError::Authority { path: path.clone(), source })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if files.client_required { builder } else { builder.allow_unauthenticated() };
        let verifier = builder.build().map_err(|source| TlsError::Verifier { path: path.clone(), source })?;
        Ok(Some(Arc::new(Self { verifier, pem: pem.clone() })))
    }
}
