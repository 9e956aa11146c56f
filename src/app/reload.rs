//! Reading the keyring again while the server runs, and what the server is called meanwhile.

use std::net::SocketAddr;

use super::{
    Running,
    keyring_file::{self, KeyringFileError},
};
use crate::{config::Storage, service::KeyringSource};

impl Running {
    /// Reads the keyring file again and uses what it holds, if it is a keyring that fits the database. Else the one
    /// before stays, and the log says why.
    pub async fn reload_keyring(&self) {
        self.service.reload_keyring().await;
    }
}

/// The keyring file as it is then.
pub(super) fn source(storage: &Storage) -> KeyringSource {
    let path = storage.keyring.clone();
    KeyringSource::new(move || match keyring_file::load(&path) {
        Ok(Some(keyring)) => Ok(keyring),
        Ok(None) => Err(KeyringFileError::Missing(path.clone()).to_string()),
        Err(error) => Err(error.to_string()),
    })
}

/// What tells this server from the others of its database, and is the same after a restart: the machine, the address
/// as it was given, and the data directory.
pub(super) fn server_name(storage: &Storage, listen: SocketAddr) -> String {
    let system = rustix::system::uname();
    let directory =
        std::path::absolute(&storage.data_dir).unwrap_or_else(|_as_given| storage.data_dir.clone());
    format!("{} ({listen}, {})", system.nodename().to_string_lossy(), directory.display())
}
