//! Why a start, or an operator's command, failed.

use super::{BackupError, KeyRefusal, KeyringFileError};
use crate::{
    config::SettingError,
    identity::RulesError,
    kms::KmsError,
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
    /// The key provider.
    #[error("{0}")]
    Kms(#[from] KmsError),
    /// A backup that is not made, or not restored.
    #[error("{0}")]
    Backup(#[from] BackupError),
    /// A key that is not to be made primary, or not to be removed.
    #[error("{0}")]
    Refused(#[from] KeyRefusal),
    /// The file of who may call without a token of ours.
    #[error("--identities {0}")]
    Identities(#[from] RulesError),
    /// The certificate.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// A socket.
    #[error("{setting}: {error}")]
    Socket {
        /// The setting that names its address.
        setting: &'static str,
        /// What the system says, with the address.
        error: std::io::Error,
    },
    /// A file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The first token.
    #[error("{0}")]
    Service(#[from] Error),
}
