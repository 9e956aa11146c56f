//! Whether a keyring is the one that a database was written with, and what the database knows of keys.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::Error;
use crate::{
    crypto::{KeyCheck, KeyEntry, Keyring, check_value_fingerprint},
    domain::{KekId, Timestamp},
    store::{KeyRow, Store},
};

/// Why a keyring does not fit a database, or is none. It names ids and fingerprints, which are no secrets.
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
    /// The key that the servers of this database wrap by is not in the keyring.
    #[error(
        "the keyring lacks the key {id} of the fingerprint {needed}, by which the servers of this database wrap data \
         keys: add it to the keyring file (--keyring)"
    )]
    Behind {
        /// The key's id.
        id: KekId,
        /// The key's fingerprint.
        needed: String,
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
    /// The keyring cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The database could not be asked.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A key that a keyring or a database knows of, and how much depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's id.
    pub id: KekId,
    /// Tells keys apart, and is no secret.
    pub fingerprint: String,
    /// How many agents' data keys it wraps.
    pub agents: u64,
    /// When the database got to know it; `None` if it does not know it yet.
    pub noted_at: Option<Timestamp>,
    /// Since when servers may wrap by it; `None` if never yet.
    pub primary_since: Option<Timestamp>,
    /// What the keyring has under this id.
    pub check: KeyCheck,
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
        .map(|entry| KeyRow {
            id: entry.id().clone(),
            check_value: entry.check_value().to_vec(),
            noted_at: at,
            primary_since: None,
        })
        .collect();
    let rows = Arc::new(rows);
    let noted = store.write(move |tx| {
        let rows = Arc::clone(&rows);
        async move {
            for row in rows.iter() {
                tx.note_key(row).await?;
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
    let keys = survey(store, Some(keyring)).await?;
    match keys.iter().find_map(|key| problem_of(key, &keys, keyring)) {
        Some(problem) => Err(problem),
        None => Ok(keys),
    }
}

fn problem_of(key: &KeyUse, all: &[KeyUse], keyring: &Keyring) -> Option<KeyProblem> {
    let KeyUse { id, fingerprint, agents, .. } = key;
    let (id, needed, agents) = (id.clone(), fingerprint.clone(), *agents);
    match key.check {
        KeyCheck::Right => None,
        KeyCheck::Wrong => {
            let found = keyring.get(&id).map(KeyEntry::fingerprint).unwrap_or_default();
            Some(KeyProblem::Wrong { id, found, needed })
        }
        KeyCheck::Unknown if agents > 0 => Some(KeyProblem::Missing { id, needed, agents }),
        KeyCheck::Unknown => {
            let since = all.iter().filter_map(|key| key.primary_since).max();
            let is_current = key.primary_since.is_some() && key.primary_since == since;
            is_current.then_some(KeyProblem::Behind { id, needed })
        }
    }
}

/// All keys that a database or a keyring knows of: those that the database knows first, oldest first.
///
/// # Errors
/// [`Error::Store`].
pub async fn survey(store: &Store, keyring: Option<&Keyring>) -> Result<Vec<KeyUse>, Error> {
    let usage = store.key_usage().await?;
    let agents_of = |id: &KekId| usage.iter().find(|(used, _)| used == id).map_or(0, |(_, agents)| *agents);
    let mut keys = Vec::new();
    for KeyRow { id, check_value, noted_at, primary_since } in store.known_keys().await? {
        keys.push(KeyUse {
            fingerprint: check_value_fingerprint(&check_value),
            agents: agents_of(&id),
            noted_at: Some(noted_at),
            primary_since,
            check: keyring.map_or(KeyCheck::Unknown, |keyring| keyring.verify(&id, &check_value)),
            id,
        });
    }
    for entry in keyring.iter().flat_map(|keyring| keyring.entries()) {
        if !keys.iter().any(|key| key.id == *entry.id()) {
            keys.push(KeyUse {
                id: entry.id().clone(),
                fingerprint: entry.fingerprint(),
                agents: agents_of(entry.id()),
                noted_at: None,
                primary_since: None,
                check: KeyCheck::Right,
            });
        }
    }
    Ok(keys)
}
