//! The keyring of this server, and whether it is the one that this database was written with.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::{Error, Service};
use crate::{
    crypto::{KeyCheck, KeyEntry, Keyring, check_value_fingerprint},
    domain::{KekId, Timestamp},
    store::{KeyRow, Store},
};

/// Why a keyring does not fit a database. It names ids and fingerprints, which are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// A key that wraps data keys is not in the keyring.
    #[error(
        "the keyring lacks the key {id} of the fingerprint {needed}, which wraps the data keys of {agents} \
         agent(s) of this database: add it to the keyring file (--keyring)"
    )]
    Missing {
        /// The key's id.
        id: KekId,
        /// The key's fingerprint.
        needed: String,
        /// How many agents need it.
        agents: u64,
    },
    /// The keyring has another key under this id.
    #[error(
        "the keyring's key {id} has the fingerprint {found}, but this database was written with a key {id} \
         of the fingerprint {needed}: give the keyring that belongs to this database (--keyring)"
    )]
    Wrong {
        /// The key's id.
        id: KekId,
        /// The fingerprint of the key in the keyring.
        found: String,
        /// The fingerprint of the key that is needed.
        needed: String,
    },
    /// The database could not be asked.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A key of the keyring and how much depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's id.
    pub id: KekId,
    /// How many agents' data keys it wraps.
    pub agents: u64,
}

/// The keyring that calls use; another can take its place while they do. A call that has begun with one ends with it.
#[derive(Debug)]
pub(super) struct Held {
    keyring: RwLock<Arc<Keyring>>,
    /// Tells that another one was taken.
    pub(super) taken: Notify,
}

// === impl Held ===

impl Held {
    pub(super) fn new(keyring: Keyring) -> Self {
        Self { keyring: RwLock::new(Arc::new(keyring)), taken: Notify::new() }
    }

    /// The present one.
    pub(super) fn get(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, keyring: Keyring) {
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
        self.taken.notify_one();
    }
}

// === impl Service ===

impl Service {
    /// Checks the keyring against the database and notes keys that the database does not know yet.
    ///
    /// # Errors
    /// [`KeyProblem`].
    pub async fn check_keys(&self) -> Result<(), KeyProblem> {
        check(&self.parts.store, &self.parts.keyring.get(), self.parts.clock.now()).await
    }

    /// Uses another keyring from now on, if it fits the database.
    ///
    /// # Errors
    /// [`KeyProblem`]; then the one before stays.
    pub async fn take_keyring(&self, keyring: Keyring) -> Result<(), KeyProblem> {
        check(&self.parts.store, &keyring, self.parts.clock.now()).await?;
        self.parts.keyring.take(keyring);
        Ok(())
    }
}

/// Checks a keyring against a database and notes keys that the database does not know yet. To be done before anything is
/// wrapped under one of them: a server that lacks it can say so then.
///
/// # Errors
/// [`KeyProblem`].
pub async fn check(store: &Store, keyring: &Keyring, at: Timestamp) -> Result<(), KeyProblem> {
    compare(store, keyring).await?;
    let rows: Vec<_> = keyring
        .entries()
        .map(|entry| KeyRow { id: entry.id().clone(), check_value: entry.check_value().to_vec() })
        .collect();
    let rows = Arc::new(rows);
    let noted = store.write(move |tx| {
        let rows = Arc::clone(&rows);
        async move {
            for row in rows.iter() {
                tx.note_key(row, at).await?;
            }
            Ok::<_, Error>(())
        }
        .boxed()
    });
    Ok(noted.await?)
}

/// Lets a database forget a key: no keyring has to have it any more.
///
/// # Errors
/// [`Error::Store`].
pub async fn forget(store: &Store, id: &KekId) -> Result<(), Error> {
    let id = id.clone();
    let forgotten = store.write(move |tx| {
        let id = id.clone();
        async move { Ok::<_, Error>(tx.forget_key(&id).await?) }.boxed()
    });
    forgotten.await
}

/// Checks a keyring against a database and says how much depends on each key.
///
/// # Errors
/// [`KeyProblem`].
pub async fn compare(store: &Store, keyring: &Keyring) -> Result<Vec<KeyUse>, KeyProblem> {
    let usage = store.key_usage().await.map_err(Error::from)?;
    for row in store.known_keys().await.map_err(Error::from)? {
        let agents = usage.iter().find(|(id, _)| *id == row.id).map_or(0, |(_, agents)| *agents);
        match keyring.verify(&row.id, &row.check_value) {
            KeyCheck::Right => {}
            KeyCheck::Unknown if agents == 0 => {}
            KeyCheck::Unknown => {
                let needed = check_value_fingerprint(&row.check_value);
                return Err(KeyProblem::Missing { id: row.id, needed, agents });
            }
            KeyCheck::Wrong => {
                let found = keyring.get(&row.id).map(KeyEntry::fingerprint).unwrap_or_default();
                let needed = check_value_fingerprint(&row.check_value);
                return Err(KeyProblem::Wrong { id: row.id, found, needed });
            }
        }
    }
    Ok(usage.into_iter().map(|(id, agents)| KeyUse { id, agents }).collect())
}
