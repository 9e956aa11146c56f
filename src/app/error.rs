//! Why a start, or an operator's command, failed.

use super::{IdentitiesError, KeyRefusal, KeyringFileError};
use crate::{
    config::SettingError,
    service::{Error, KeyProblem},
    store,
    transport::listener::TlsError,
};

/// Why the server did not start, in one sentence that names what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A setting.
    #[error("{0}")]
    Setting(#[from] SettingError),
    /// The schema is old and may not be changed here.
    #[error(
        "the database lacks {0} migration(s): run `superserve migrate` first, or serve with --auto-migrate true"
    )]
    Pending(usize),
    /// The keyring file.
    #[error("{0}")]
    Keyring(#[from] KeyringFileError),
    /// The keyring and the database do not fit together.
    #[error("{0}")]
    Keys(#[from] KeyProblem),
    /// A key that is not to be made primary, or not to be removed.
    #[error("{0}")]
    Refused(#[from] KeyRefusal),
    /// The certificate.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The file of what clients may by their certificates.
    #[error("{0}")]
    Identities(#[from] IdentitiesError),
    /// A socket or a file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The first token.
    #[error("{0}")]
    Service(#[from] Error),
}
