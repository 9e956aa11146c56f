//! What an operator does beside a running server: the schema and the keys.

use std::path::PathBuf;

use tokio_util::task::TaskTracker;

use super::{
    StartError,
    first_run::{make_private_directory, prepare_directory, require_database},
    keyring_file::{self, KeyringFileError},
};
use crate::{
    config::Storage,
    crypto::{Keyring, Random},
    domain::KekId,
    service::{Clock, Error, KeyUse, compare_keys},
    store::{self, Store},
};

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGenerated {
    /// The key's id.
    pub id: String,
    /// The keyring file.
    pub path: PathBuf,
    /// Whether the keyring is new; else the key was added to it, and decrypts only.
    pub is_first: bool,
}

/// A key of the keyring, and how much depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key's id.
    pub id: String,
    /// `primary` or `decrypt-only`.
    pub state: &'static str,
    /// Tells keys apart, and is no secret.
    pub fingerprint: String,
    /// How many agents' data keys it wraps.
    pub agents: u64,
}

/// Applies the migrations that are missing and says which.
///
/// # Errors
/// [`StartError`].
pub async fn migrate(storage: &Storage) -> Result<Vec<String>, StartError> {
    prepare_directory(storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    Ok(store.migrate(&storage.store).await?)
}

/// Applies the migrations that are missing, or refuses a database that lacks some.
pub(super) async fn bring_up_to_date(
    store: &Store,
    config: &store::Config,
    auto_migrate: bool,
) -> Result<(), StartError> {
    if auto_migrate {
        for name in store.migrate(config).await? {
            tracing::info!(name, "migration applied");
        }
        return Ok(());
    }
    match store.pending_migrations().await?.len() {
        0 => Ok(()),
        pending => Err(StartError::Pending(pending)),
    }
}

/// Makes a keyring, or adds a key to the one that is there.
///
/// # Errors
/// [`StartError`]; a keyring that cannot be read stays as it is.
pub fn generate_key(storage: &Storage) -> Result<KeyGenerated, StartError> {
    let path = storage.keyring.clone();
    let (random, now) = (Random::new(), Clock::system().now());
    if let Some(mut keyring) = keyring_file::load(&path)? {
        let id = keyring.add_key(&random, now).map_err(Error::from)?.to_string();
        keyring_file::replace(&path, &keyring)?;
        return Ok(KeyGenerated { id, path, is_first: false });
    }
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_directory(directory)?;
    }
    let keyring = Keyring::generate(&random, now).map_err(Error::from)?;
    keyring_file::create(&path, &keyring)?;
    Ok(KeyGenerated { id: keyring.primary().id().to_string(), path, is_first: true })
}

/// The keys of the keyring, held against the database.
///
/// # Errors
/// [`StartError`], also when the two do not fit together.
pub async fn key_status(storage: &Storage) -> Result<Vec<KeyStatus>, StartError> {
    let keyring = keyring_file::load(&storage.keyring)?
        .ok_or_else(|| KeyringFileError::Missing(storage.keyring.clone()))?;
    require_database(storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    let usage = compare_keys(&store, &keyring).await?;
    let agents =
        |id: &KekId| usage.iter().find(|used: &&KeyUse| used.id == *id).map_or(0, |used| used.agents);
    let status = keyring.entries().map(|entry| KeyStatus {
        id: entry.id().to_string(),
        state: entry.state().as_str(),
        fingerprint: entry.fingerprint(),
        agents: agents(entry.id()),
    });
    Ok(status.collect())
}
