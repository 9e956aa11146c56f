//! Why a provider cannot be used at all.

use std::{io, path::PathBuf};

/// A setting of a key provider cannot be used. Nothing of a file's text is in it.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// A file cannot be read.
    #[error("{setting} {path}: {source}", path = path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has no certificate.
    #[error("{setting} {path}: holds no certificate of an authority in PEM form", path = path.display())]
    NoAuthority {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// There is no such place.
    #[error("--aws-kms-key: {0}")]
    Endpoint(#[from] http::uri::InvalidUri),
    /// The cryptography that is built in lacks what TLS 1.2 and 1.3 need.
    #[error("TLS cannot be set up: {0}")]
    Protocol(#[from] rustls::Error),
}
