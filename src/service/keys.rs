//! Whether a keyring is the one that a database was written with, and what the database knows of keys.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Error, KeySet};
use crate::{
    crypto::{
        DataKey, KeyCheck, KeyEntry, Keyring, Owner, ProviderError, WrappedKey, check_value_fingerprint,
    },
    domain::{AgentId, KekId, TenantId, Timestamp},
    store::{KeyRow, Store},
};

/// Why a keyring does not fit a database, or is none. It names ids and fingerprints, which are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// A key that wraps data keys is not in the keyring.
    #[error(
        "there is no key {id} of the fingerprint {needed} here, which wraps the data keys of {agents} \
         agent(s) of this database: {}",
        how_to_have(id)
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
        "there is no key {id} of the fingerprint {needed} here, by which the servers of this database wrap data \
         keys: {}",
        how_to_have(id)
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

fn how_to_have(id: &KekId) -> &'static str {
    if KekId::parse(id.as_str()).is_some() {
        "add it to the keyring file (--keyring)"
    } else {
        "it is a key provider's: give that provider's settings, with --key-provider file too (see \"Key providers\" in \
         docs/security.md)"
    }
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
pub async fn check(store: &Store, keys: &KeySet, at: Timestamp) -> Result<(), KeyProblem> {
    let known = compare(store, keys).await?;
    let mut rows: Vec<_> = keys
        .keyring()
        .into_iter()
        .flat_map(Keyring::entries)
        .map(|entry| KeyRow {
            id: entry.id().clone(),
            check_value: entry.check_value().to_vec(),
            noted_at: at,
            primary_since: None,
        })
        .collect();
    rows.extend(check_value_of_remote(keys, &known, at).await?);
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
pub async fn compare(store: &Store, keys: &KeySet) -> Result<Vec<KeyUse>, KeyProblem> {
    fit(
        store.known_keys().await.map_err(Error::from)?,
        &store.key_usage().await.map_err(Error::from)?,
        Some(keys),
    )
    .await
}

/// Checks a keyring against what a database knows of keys, and how many agents need each, and says how much depends on
/// each key.
///
/// # Errors
/// [`KeyProblem`].
pub async fn fit(
    rows: Vec<KeyRow>,
    usage: &[(KekId, u64)],
    keys: Option<&KeySet>,
) -> Result<Vec<KeyUse>, KeyProblem> {
    let known = uses(rows, usage, keys).await?;
    match known.iter().find_map(|key| problem_of(key, &known, keys)) {
        Some(problem) => Err(problem),
        None => Ok(known),
    }
}

fn problem_of(key: &KeyUse, all: &[KeyUse], keys: Option<&KeySet>) -> Option<KeyProblem> {
    let KeyUse { id, fingerprint, agents, .. } = key;
    let (id, needed, agents) = (id.clone(), fingerprint.clone(), *agents);
    match key.check {
        KeyCheck::Right => None,
        KeyCheck::Wrong => {
            let found = keys.and_then(KeySet::keyring).and_then(|keyring| keyring.get(&id));
            let found = found.map(KeyEntry::fingerprint);
            let found = found.unwrap_or_else(|| "of another key".to_owned());
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
pub async fn survey(store: &Store, keys: Option<&KeySet>) -> Result<Vec<KeyUse>, Error> {
    uses(store.known_keys().await?, &store.key_usage().await?, keys).await
}

async fn uses(
    rows: Vec<KeyRow>,
    usage: &[(KekId, u64)],
    keys: Option<&KeySet>,
) -> Result<Vec<KeyUse>, Error> {
    let agents_of = |id: &KekId| usage.iter().find(|(used, _)| used == id).map_or(0, |(_, agents)| *agents);
    let mut known = Vec::new();
    for KeyRow { id, check_value, noted_at, primary_since } in rows {
        let check = match keys {
            Some(keys) => verify(keys, &id, &check_value).await?,
            None => KeyCheck::Unknown,
        };
        known.push(KeyUse {
            fingerprint: check_value_fingerprint(&check_value),
            agents: agents_of(&id),
            noted_at: Some(noted_at),
            primary_since,
            check,
            id,
        });
    }
    for entry in keys.and_then(KeySet::keyring).into_iter().flat_map(Keyring::entries) {
        if !known.iter().any(|key| key.id == *entry.id()) {
            known.push(KeyUse {
                id: entry.id().clone(),
                fingerprint: entry.fingerprint(),
                agents: agents_of(entry.id()),
                noted_at: None,
                primary_since: None,
                check: KeyCheck::Right,
            });
        }
    }
    Ok(known)
}

/// Whether keys have the one of this id that the check value is of.
async fn verify(keys: &KeySet, id: &KekId, check_value: &[u8]) -> Result<KeyCheck, Error> {
    let Some(remote) = keys.remote().filter(|remote| remote.id == *id) else {
        return Ok(keys.keyring().map_or(KeyCheck::Unknown, |keyring| keyring.verify(id, check_value)));
    };
    let wrapped = WrappedKey { kek: id.clone(), bytes: check_value.to_vec() };
    let (tenant, agent) = nobody();
    match remote.provider.unwrap(&wrapped, Owner { tenant: &tenant, agent: &agent }).await {
        Ok(key) if key.expose() == DataKey::for_check()?.expose() => Ok(KeyCheck::Right),
        Ok(_) | Err(ProviderError::DoesNotOpen) => Ok(KeyCheck::Wrong),
        Err(error) => Err(error.into()),
    }
}

/// What the database is to know a provider's key by, if it does not know it yet: a data key that all know, wrapped.
async fn check_value_of_remote(
    keys: &KeySet,
    known: &[KeyUse],
    at: Timestamp,
) -> Result<Option<KeyRow>, Error> {
    let unknown = keys.remote().filter(|remote| !known.iter().any(|key| key.id == remote.id));
    let Some(remote) = unknown else { return Ok(None) };
    let (tenant, agent) = nobody();
    let owner = Owner { tenant: &tenant, agent: &agent };
    let wrapped = remote.provider.wrap(&DataKey::for_check()?, owner).await?;
    let id = remote.id.clone();
    Ok(Some(KeyRow { id, check_value: wrapped.bytes, noted_at: at, primary_since: None }))
}

/// The owner of check values, who is no agent.
fn nobody() -> (TenantId, AgentId) {
    (TenantId::from_stored(String::new()), AgentId::from_stored(String::new()))
}
