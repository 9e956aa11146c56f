//! Why certificates cannot be used.

use std::{io, path::PathBuf};

use rustls::server::VerifierBuilderError;

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
    /// The certificate is none that can be read.
    #[error("--tls-cert {path}: holds a certificate that cannot be read", path = path.display())]
    Unintelligible {
        /// The file.
        path: PathBuf,
    },
    /// The cryptography that is built in lacks what TLS 1.2 and 1.3 need.
    #[error("TLS cannot be set up")]
    Protocol(#[source] rustls::Error),
}
