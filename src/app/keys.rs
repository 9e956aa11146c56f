//! The life of the key-encryption keys: made, handed out, made primary, and removed when nothing needs them.
//!
//! Several servers make it a matter of order: each must have a key before anybody wraps under it, and none may still wrap
//! under a key that is removed. So a key is made decrypt-only and becomes the primary by a command of its own.

use std::path::PathBuf;

use tokio_util::task::TaskTracker;

use super::{
    StartError,
    first_run::{make_private_directory, require_database},
    keyring_file::{self, KeyringFileError},
};
use crate::{
    config::Storage,
    crypto::{KekState, KeyEntry, Keyring, Random},
    domain::KekId,
    service::{Clock, Error, KeyUse, Rewrapping, check_keys, compare_keys, forget_key, rewrap_all},
    store::Store,
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

/// What a rotation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysRotated {
    /// The id of the primary key.
    pub primary: String,
    /// The id of the one before, if this has made another one primary.
    pub before: Option<String>,
    /// What became of the data keys.
    pub agents: Rewrapping,
}

/// A key that is in the keyring no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRetired {
    /// The keyring file.
    pub path: PathBuf,
    /// How many agents have lost their data keys with it.
    pub lost: u64,
}

/// Why a key is not made primary, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// There is nothing to rotate to.
    #[error(
        "the keyring {} has no key but {only}: add one by `superserve keys generate`, give the keyring to all \
         servers (restart them, or send them SIGHUP), and then run `superserve keys rotate`", path.display()
    )]
    Only {
        /// The keyring file.
        path: PathBuf,
        /// Its key.
        only: KekId,
    },
    /// The keyring has no such key.
    #[error("the keyring {} has no key {id}: `superserve keys status` shows those that it has", path.display())]
    Unknown {
        /// The keyring file.
        path: PathBuf,
        /// What was asked for.
        id: String,
    },
    /// The key is the one that encrypts.
    #[error(
        "{0} is the primary key: run `superserve keys rotate` first, which makes another one primary and takes \
         the agents along"
    )]
    Primary(KekId),
    /// Agents need the key.
    #[error(
        "{id} wraps the data keys of {agents} agent(s): run `superserve keys rotate` first, which wraps them under \
         the primary key; with --lose-agents the key is removed all the same, and their secrets cannot be read \
         any more"
    )]
    Needed {
        /// The key.
        id: KekId,
        /// How many agents need it.
        agents: u64,
    },
}

/// Makes a keyring, or adds a key to the one that is there.
///
/// # Errors
/// [`StartError`]; a keyring that cannot be read stays as it is.
pub fn generate_key(storage: &Storage) -> Result<KeyGenerated, StartError> {
    let path = storage.keyring.clone();
    let (random, now) = (Random::new(), Clock::system().now());
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_directory(directory)?;
    }
    let _lock = keyring_file::lock(&path)?;
    if let Some(mut keyring) = keyring_file::load(&path)? {
        let id = keyring.add_key(&random, now).map_err(Error::from)?.to_string();
        keyring_file::replace(&path, &keyring)?;
        return Ok(KeyGenerated { id, path, is_first: false });
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
    let keyring = load(storage)?;
    let store = open(storage).await?;
    let usage = compare_keys(&store, &keyring).await?;
    let status = keyring.entries().map(|entry| KeyStatus {
        id: entry.id().to_string(),
        state: entry.state().as_str(),
        fingerprint: entry.fingerprint(),
        agents: agents_of(entry.id(), &usage),
    });
    Ok(status.collect())
}

/// Makes a key the primary (the newest one, if none is named) and wraps under it what other keys of the keyring wrap;
/// `progress` is told how many agents are done, and of how many. What a run that was broken off has left is done by the
/// next, and any number may run at once.
///
/// # Errors
/// [`StartError`], also when the keyring does not fit the database; then nothing has changed. A failure later leaves
/// every agent under one key or the other.
pub async fn rotate_keys(
    storage: &Storage,
    key: Option<&str>,
    progress: impl FnMut(u64, u64),
) -> Result<KeysRotated, StartError> {
    let random = Random::new();
    let (keyring, before, store) = make_primary(storage, key).await?;
    let agents = rewrap_all(&store, &keyring, &random, progress).await?;
    Ok(KeysRotated { primary: keyring.primary().id().to_string(), before, agents })
}

/// Makes a key the primary in the keyring file, and says which was it before, if another one was.
async fn make_primary(
    storage: &Storage,
    key: Option<&str>,
) -> Result<(Keyring, Option<String>, Store), StartError> {
    let path = &storage.keyring;
    let lock = keyring_file::lock(path)?;
    let mut keyring = load(storage)?;
    let wanted = match key {
        Some(id) => find(&keyring, id, storage)?.id().clone(),
        None => keyring.newest().id().clone(),
    };
    let before = keyring.primary().id().clone();
    if keyring.entries().count() == 1 {
        return Err(KeyRefusal::Only { path: path.clone(), only: before }.into());
    }
    let store = open(storage).await?;
    keyring.promote(&wanted);
    // It notes the key, too, before anything is wrapped under it
    check_keys(&store, &keyring, Clock::system().now()).await?;
    let is_another = before != wanted;
    if is_another {
        keyring_file::replace(path, &keyring)?;
    }
    drop(lock);
    Ok((keyring, is_another.then(|| before.to_string()), store))
}

/// Removes a key from the keyring if no agent of the database needs it, or if its agents may be lost.
///
/// # Errors
/// [`StartError`]; the keyring then stays as it is.
pub async fn retire_key(storage: &Storage, id: &str, lose_agents: bool) -> Result<KeyRetired, StartError> {
    let path = storage.keyring.clone();
    let _lock = keyring_file::lock(&path)?;
    let mut keyring = load(storage)?;
    let entry = find(&keyring, id, storage)?;
    let id = entry.id().clone();
    if entry.state() == KekState::Primary {
        return Err(KeyRefusal::Primary(id).into());
    }
    let store = open(storage).await?;
    let lost = agents_of(&id, &compare_keys(&store, &keyring).await?);
    if lost > 0 {
        if !lose_agents {
            return Err(KeyRefusal::Needed { id, agents: lost }.into());
        }
        // Before it is removed: a database that knows of agents under a key that is missing lets no server start
        forget_key(&store, &id).await?;
    }
    keyring.remove(&id);
    keyring_file::replace(&path, &keyring)?;
    Ok(KeyRetired { path, lost })
}

fn load(storage: &Storage) -> Result<Keyring, StartError> {
    let keyring = keyring_file::load(&storage.keyring)?;
    Ok(keyring.ok_or_else(|| KeyringFileError::Missing(storage.keyring.clone()))?)
}

async fn open(storage: &Storage) -> Result<Store, StartError> {
    require_database(storage)?;
    Ok(Store::open(&storage.store, &TaskTracker::new()).await?)
}

fn find<'k>(keyring: &'k Keyring, id: &str, storage: &Storage) -> Result<KeyEntry<'k>, KeyRefusal> {
    let unknown = || KeyRefusal::Unknown { path: storage.keyring.clone(), id: id.to_owned() };
    keyring.entries().find(|entry| entry.id().as_str() == id).ok_or_else(unknown)
}

fn agents_of(id: &KekId, usage: &[KeyUse]) -> u64 {
    usage.iter().find(|used| used.id == *id).map_or(0, |used| used.agents)
}
