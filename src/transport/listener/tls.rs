//! Who the server is and which clients it lets in: certificates and keys from PEM files.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::sync::watch;

/// What TLS clients can ask for, the best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

const CERT: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_CA: &str = "--tls-client-ca";

/// Where the PEM files are.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The server's certificate, followed by the intermediate ones.
    pub cert: PathBuf,
    /// The private key of [`cert`](Self::cert): PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
    /// Authorities of client certificates. With it every client must show one of theirs; without it
    /// none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// The TLS settings of a listener, read for each connection, so that
/// [`reload`](Self::reload) changes them for new ones.
pub struct Tls {
    files: TlsConfig,
    current: watch::Sender<Arc<ServerConfig>>,
}

/// Why the certificates cannot be used. Nothing of a file's text is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting} {path}: cannot be read", path = path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has nothing of the kind it should have.
    #[error("{setting} {path}: holds no {wanted} in PEM form", path = path.display())]
    Missing {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A file is not well-formed PEM.
    #[error("{setting} {path}: is not well-formed PEM", path = path.display())]
    Malformed {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the key do not fit each other, or are of a kind that cannot be used.
    #[error("--tls-cert {cert} and --tls-key {key} cannot be used together", cert = cert.display(), key = key.display())]
    Identity {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A certificate cannot be used as an authority.
    #[error("--tls-client-ca {path}: cannot be used as an authority", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The authorities together cannot be used to check client certificates.
    #[error("--tls-client-ca {path}: cannot be used to check clients", path = path.display())]
    Verifier {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: VerifierBuilderError,
    },
    /// The cryptography that is built in lacks what TLS 1.2 and 1.3 need.
    #[error("TLS cannot be set up")]
    Protocol(#[source] rustls::Error),
}

// === impl TlsConfig ===

impl TlsConfig {
    /// TLS 1.2 and 1.3 by ring, whatever default the process may have.
    fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Protocol)?;
        let builder = match &self.client_ca {
            Some(path) => builder.with_client_cert_verifier(client_verifier(path, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(certificates(CERT, &self.cert)?, self.private_key()?).map_err(
                |source| TlsError::Identity { cert: self.cert.clone(), key: self.key.clone(), source },
            )?;
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| pem_error(KEY, &self.key, "private key", error))
    }
}

// === impl Tls ===

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or used; the error names the file and its setting.
    pub fn load(files: TlsConfig) -> Result<Self, TlsError> {
        let current = watch::Sender::new(Arc::new(files.server_config()?));
        Ok(Self { files, current })
    }

    /// Reads the files again, for connections accepted from now on.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load). What was in use stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _previous = self.current.send_replace(Arc::new(self.files.server_config()?));
        Ok(())
    }

    /// What a new connection is to use.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_path_buf(), source })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| TlsError::Verifier { path: path.to_path_buf(), source })
}

fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem_error(setting, path, "certificate", error))?;
    if certificates.is_empty() {
        return Err(pem_error(setting, path, "certificate", pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// Leaves out the parser's own words: they can repeat lines of the file, and the file can be a key.
fn pem_error(setting: &'static str, path: &Path, wanted: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_path_buf();
    if let pem::Error::Io(source) = error {
        TlsError::Unreadable { setting, path, source }
    } else if matches!(error, pem::Error::NoItemsFound) {
        TlsError::Missing { setting, path, wanted }
    } else {
        TlsError::Malformed { setting, path }
    }
}
