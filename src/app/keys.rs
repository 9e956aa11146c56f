//! The key-encryption keys as an operator sees them: made, listed, and refused.
//!
//! Several servers make it a matter of order: each must have a key before anybody wraps under it, and none may still wrap
//! under a key that is removed. The servers see to that themselves ([`service`](crate::service)); so do the commands that
//! change which key wraps (`rotation`).

use std::path::PathBuf;

use tokio_util::task::TaskTracker;

use super::{
    StartError,
    first_run::{make_private_directory, require_database},
    keyring_file::{self, KeyringFileError},
    reload::{key_set, remote_key},
};
use crate::{
    config::Storage,
    crypto::{KekState, KeyCheck, KeyEntry, Keyring, Random},
    domain::{KekId, Timestamp},
    service::{Clock, Error, KeyProblem, KeySet, KeyUse, compare_keys, survey_keys},
    store::{self, Store},
};

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGenerated {
    /// The key's id.
    pub id: String,
    /// The keyring file.
    pub path: PathBuf,
    /// Whether the keyring is new; else the key was added to it.
    pub is_first: bool,
    /// Whether it is the primary key; else it decrypts only.
    pub is_primary: bool,
}

/// A key of the keyring or of the database, and how much depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The key's id.
    pub id: String,
    /// `primary` or `decrypt-only` in the keyring; `absent` where the keyring does not have it, `wrong` where it has
    /// another key of this id.
    pub state: &'static str,
    /// Tells keys apart, and is no secret.
    pub fingerprint: String,
    /// How many agents' data keys it wraps.
    pub agents: u64,
    /// When the database got to know it.
    pub noted_at: Option<Timestamp>,
    /// Since when servers may wrap by it.
    pub primary_since: Option<Timestamp>,
}

/// A server, and how it stands to the keyring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// What it is called.
    pub name: String,
    /// The key that it wraps by.
    pub wraps: String,
    /// Keys of the keyring that it has not.
    pub lacks: Vec<String>,
}

/// The keys and the servers.
#[derive(Debug)]
pub struct KeysStatus {
    /// All keys that the database or the keyring knows of.
    pub keys: Vec<KeyStatus>,
    /// The servers of the database.
    pub servers: Vec<ServerStatus>,
    /// Why no server could start with this keyring.
    pub problem: Option<StartError>,
}

/// Why a key is not made primary, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum KeyRefusal {
    /// There is nothing to rotate to.
    #[error(
        "the keyring {} has no key but {only}: add one by `superserve keys generate`, give the keyring to all \
         servers (those that share the file read it by themselves), and then run `superserve keys rotate`", path.display()
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
         the primary key; with --lose-agents the key is removed all the same, and their secrets are lost"
    )]
    Needed {
        /// The key.
        id: KekId,
        /// How many agents need it.
        agents: u64,
    },
    /// Servers have not got the key yet.
    #[error(
        "{} server(s) do not have the key {id} yet, and could not read what is wrapped under it: {}. Give them the \
         keyring (those that share the file read it within seconds, and a change of a mounted secret takes Kubernetes a \
         minute or two), and run this again", servers.len(), servers.join("; ")
    )]
    NotEverywhere {
        /// The key.
        id: KekId,
        /// The servers.
        servers: Vec<String>,
    },
    /// Servers still wrap by the provider that is to be left.
    #[error(
        "{} server(s) still wrap data keys by the provider's key {id}: {}. Give them --key-provider file and leave them the \
         provider's other settings, and run this again", servers.len(), servers.join("; ")
    )]
    ByProvider {
        /// The provider's key.
        id: KekId,
        /// The servers.
        servers: Vec<String>,
    },
    /// Servers still wrap under the key.
    #[error(
        "{} server(s) still wrap data keys under {id}: {}. Give them the keyring with the new primary key, and run this \
         again", servers.len(), servers.join("; ")
    )]
    InUse {
        /// The key.
        id: KekId,
        /// The servers.
        servers: Vec<String>,
    },
}

/// Makes a keyring, or adds a key to the one that is there; with `primary` as the one to wrap by. Servers that get such a
/// keyring wrap by it only once all of them have it.
///
/// # Errors
/// [`StartError`]; a keyring that cannot be read stays as it is.
pub fn generate_key(storage: &Storage, primary: bool) -> Result<KeyGenerated, StartError> {
    let path = storage.keyring.clone();
    let (random, now) = (Random::new(), Clock::system().now());
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_directory(directory)?;
    }
    let _lock = keyring_file::lock(&path)?;
    if let Some(mut keyring) = keyring_file::load(&path)? {
        let id = keyring.add_key(&random, now).map_err(Error::from)?;
        if primary {
            keyring.promote(&id);
        }
        keyring_file::replace(&path, &keyring)?;
        return Ok(KeyGenerated { id: id.to_string(), path, is_first: false, is_primary: primary });
    }
    let keyring = Keyring::generate(&random, now).map_err(Error::from)?;
    keyring_file::create(&path, &keyring)?;
    let id = keyring.primary().id().to_string();
    Ok(KeyGenerated { id, path, is_first: true, is_primary: true })
}

/// The keys of keyring and database held against each other, and the servers. A keyring that is missing or does not fit
/// is told as what it is: so one can see which key a database needs, a restored backup too.
///
/// # Errors
/// [`StartError`] when the database cannot be asked, or the keyring not be read.
pub async fn key_status(storage: &Storage) -> Result<KeysStatus, StartError> {
    let keyring = keyring_file::load(&storage.keyring)?;
    let own = key_set(remote_key(storage)?, keyring, &Random::new());
    let store = open(storage).await?;
    let keys = survey_keys(&store, own.as_ref()).await?;
    let problem = match &own {
        Some(own) => match compare_keys(&store, own).await {
            Err(KeyProblem::Failed(error)) => return Err(error.into()),
            compared => compared.err().map(StartError::from),
        },
        None => Some(KeyringFileError::Missing(storage.keyring.clone()).into()),
    };
    let is_primary = |id: &KekId| own.as_ref().is_some_and(|own| own.primary() == id);
    let mut keys: Vec<_> = keys.into_iter().map(|key| status_of(is_primary(&key.id), key)).collect();
    keys.sort_by_key(|key| key.state != KekState::Primary.as_str());
    let lacked_by = |keks: &[KekId]| {
        let ids = own.iter().flat_map(KeySet::entries).map(|(id, _)| id);
        ids.filter(|id| !keks.contains(id)).map(ToString::to_string).collect()
    };
    let servers = store.servers().await?.into_iter().map(|server| ServerStatus {
        name: server.id,
        wraps: server.wraps.to_string(),
        lacks: lacked_by(&server.keks),
    });
    Ok(KeysStatus { keys, servers: servers.collect(), problem })
}

fn status_of(is_primary: bool, key: KeyUse) -> KeyStatus {
    let state = match key.check {
        KeyCheck::Wrong => "wrong",
        KeyCheck::Right if is_primary => KekState::Primary.as_str(),
        KeyCheck::Right => KekState::DecryptOnly.as_str(),
        KeyCheck::Unknown => "absent",
    };
    KeyStatus {
        id: key.id.to_string(),
        state,
        fingerprint: key.fingerprint,
        agents: key.agents,
        noted_at: key.noted_at,
        primary_since: key.primary_since,
    }
}

pub(super) fn load(storage: &Storage) -> Result<Keyring, StartError> {
    let keyring = keyring_file::load(&storage.keyring)?;
    Ok(keyring.ok_or_else(|| KeyringFileError::Missing(storage.keyring.clone()))?)
}

pub(super) async fn open(storage: &Storage) -> Result<Store, StartError> {
    require_database(storage)?;
    let store = Store::open(&storage.store, &TaskTracker::new()).await?;
    match store.schema().await?.too_new() {
        Some(why) => Err(store::Error::Setup(why).into()),
        None => Ok(store),
    }
}

pub(super) fn find<'k>(
    keyring: &'k Keyring,
    id: &str,
    storage: &Storage,
) -> Result<KeyEntry<'k>, KeyRefusal> {
    let unknown = || KeyRefusal::Unknown { path: storage.keyring.clone(), id: id.to_owned() };
    keyring.entries().find(|entry| entry.id().as_str() == id).ok_or_else(unknown)
}
