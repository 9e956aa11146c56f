//! Reading files again while the server runs, where the keys come from, and what the server is called meanwhile.

use std::{net::SocketAddr, sync::Arc};

use super::{
    Running, StartError,
    keyring_file::{self, KeyringFileError},
};
use crate::{
    config::{Provider, Storage},
    crypto::{Keyring, Random},
    kms::{AwsKms, KmsError, Transit},
    service::{KeySet, KeyringSource, RemoteKey},
};

impl Running {
    /// Reads the files of certificates and of identities and the keyring again and uses what they hold, if it can be used: a
    /// keyring, if it fits the database. Else what was in use stays, and the log says why.
    pub async fn reload(&self) {
        self.files.look(true).await;
        self.service.reload_keyring().await;
    }
}

/// The keyring file as it is then, and the key of the provider outside, if there is one.
pub(super) fn source(storage: &Storage, remote: Option<RemoteKey>, random: &Random) -> KeyringSource {
    let (path, random) = (storage.keyring.clone(), random.clone());
    KeyringSource::new(move || {
        let keyring = keyring_file::load(&path).map_err(|error| error.to_string())?;
        key_set(remote.clone(), keyring, &random)
            .ok_or_else(|| KeyringFileError::Missing(path.clone()).to_string())
    })
}

/// The key of the provider outside, if the settings name one: the one that wraps, or the one that is left for the keyring
/// file.
///
/// # Errors
/// [`KmsError`] when its settings cannot be used. It is not called yet.
pub(super) fn remote_key(storage: &Storage) -> Result<Option<RemoteKey>, KmsError> {
    let wraps = storage.keys.before.is_none();
    match storage.keys.before.as_ref().unwrap_or(&storage.keys.provider) {
        Provider::File => Ok(None),
        Provider::Transit(config) => {
            let transit = Transit::new(config.as_ref().clone())?;
            Ok(Some(RemoteKey { id: transit.id().clone(), provider: Arc::new(transit), wraps }))
        }
        Provider::AwsKms(config) => {
            let kms = AwsKms::new(config.as_ref().clone())?;
            Ok(Some(RemoteKey { id: kms.id().clone(), provider: Arc::new(kms), wraps }))
        }
    }
}

/// All keys there are; `None` if there is none that wraps.
pub(super) fn key_set(
    remote: Option<RemoteKey>,
    keyring: Option<Keyring>,
    random: &Random,
) -> Option<KeySet> {
    match (remote, keyring) {
        (Some(remote), None) if !remote.wraps => None,
        (Some(remote), keyring) => Some(KeySet::of_provider(remote, keyring, random)),
        (None, Some(keyring)) => Some(KeySet::of_keyring(keyring, random)),
        (None, None) => None,
    }
}

/// The keys that a command of an operator works with.
///
/// # Errors
/// [`StartError`] when there is none.
pub(super) fn keys_of(storage: &Storage) -> Result<KeySet, StartError> {
    let keyring = keyring_file::load(&storage.keyring)?;
    let keys = key_set(remote_key(storage)?, keyring, &Random::new());
    Ok(keys.ok_or_else(|| KeyringFileError::Missing(storage.keyring.clone()))?)
}

/// What tells this server from the others of its database, and is the same after a restart: the machine, the address
/// as it was given, and the data directory.
pub(super) fn server_name(storage: &Storage, listen: SocketAddr) -> String {
    let system = rustix::system::uname();
    let directory =
        std::path::absolute(&storage.data_dir).unwrap_or_else(|_as_given| storage.data_dir.clone());
    format!("{} ({listen}, {})", system.nodename().to_string_lossy(), directory.display())
}
