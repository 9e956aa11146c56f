//! Reading files again while the server runs: the keyring, and who may call without a token of ours.

use std::path::PathBuf;

use super::{
    Running, StartError,
    keyring_file::{self, KeyringFileError},
};
use crate::service::Service;

/// Where the keyring comes from, and who uses it.
#[derive(Debug)]
pub(super) struct KeyringSource {
    pub(super) path: PathBuf,
    pub(super) service: Service,
}

impl Running {
    /// Reads the keyring file again and uses what it holds, if it is a keyring that fits the database. Else the one
    /// before stays, and the log says why.
    pub async fn reload_keyring(&self) {
        match self.keyring.reload().await {
            Ok((primary, keys)) => tracing::info!(%primary, keys, "keyring read again"),
            Err(error) => tracing::error!(%error, "the keyring cannot be used; the one before stays in use"),
        }
    }

    /// Reads the file of who may call without a token of ours, if there is one. Where it is faulty the rules before
    /// stay, and the log says why.
    pub fn reload_identities(&self) {
        match self.identities.reload() {
            Ok(None) => {}
            Ok(Some(issuers)) => tracing::info!(issuers, "identities read again"),
            Err(error) => {
                tracing::error!(%error, "the identities cannot be used; the ones before stay in use");
            }
        }
    }
}

impl KeyringSource {
    /// Says which key is the primary, and how many there are.
    async fn reload(&self) -> Result<(String, usize), StartError> {
        let keyring = keyring_file::load(&self.path)?;
        let keyring = keyring.ok_or_else(|| KeyringFileError::Missing(self.path.clone()))?;
        let told = (keyring.primary().id().to_string(), keyring.entries().count());
        self.service.take_keyring(keyring).await?;
        Ok(told)
    }
}
