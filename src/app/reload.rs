//! Reading files again while the server runs, because somebody asks for it.

use std::{path::PathBuf, sync::Arc};

use super::{
    Running, StartError,
    certificates::Follower,
    keyring_file::{self, KeyringFileError},
};
use crate::service::Service;

/// What is read again, and who uses it.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) keyring: PathBuf,
    pub(super) service: Service,
    /// Those of certificates and identities.
    pub(super) files: Arc<Follower>,
}

impl Running {
    /// Reads the files of certificates, of identities and the keyring again and uses what they hold, if it can be used: of a keyring, if
    /// it fits the database. Else what was in use stays, and the log says why.
    pub async fn reload(&self) {
        self.sources.files.look(true).await;
        match self.sources.reload_keyring().await {
            Ok((primary, keys)) => tracing::info!(%primary, keys, "keyring read again"),
            Err(error) => tracing::error!(%error, "the keyring cannot be used; the one before stays in use"),
        }
    }
}

impl Sources {
    /// Says which key is the primary, and how many there are.
    async fn reload_keyring(&self) -> Result<(String, usize), StartError> {
        let keyring = keyring_file::load(&self.keyring)?;
        let keyring = keyring.ok_or_else(|| KeyringFileError::Missing(self.keyring.clone()))?;
        let told = (keyring.primary().id().to_string(), keyring.entries().count());
        self.service.take_keyring(keyring).await?;
        Ok(told)
    }
}
