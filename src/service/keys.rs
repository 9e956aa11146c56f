//! Whether the keyring is the one that this database was written with.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Error, Service};
use crate::{
    crypto::{KeyCheck, KeyEntry, Keyring, check_value_fingerprint},
    domain::KekId,
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

impl Service {
    /// Checks the keyring against the database and notes keys that the database does not know yet.
    ///
    /// # Errors
    /// [`KeyProblem`].
    pub async fn check_keys(&self) -> Result<(), KeyProblem> {
        let keyring = &self.parts.keyring;
        compare(&self.parts.store, keyring).await?;
        let rows: Vec<_> = keyring
            .entries()
            .map(|entry| KeyRow { id: entry.id().clone(), check_value: entry.check_value().to_vec() })
            .collect();
        let (rows, at) = (Arc::new(rows), self.parts.clock.now());
        let noted = self.write(move |tx| {
            let rows = Arc::clone(&rows);
            async move {
                for row in rows.iter() {
                    tx.note_key(row, at).await?;
                }
                Ok(())
            }
            .boxed()
        });
        Ok(noted.await?)
    }
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
