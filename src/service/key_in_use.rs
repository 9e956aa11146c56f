//! By which key the servers of a database wrap: as it is written down, and what a server makes of it.
//!
//! [`roll`](super::roll) says in which order that is done, and why.

use futures_util::FutureExt as _;

use super::{Error, KeySet, held::Lacking};
use crate::{
    domain::{KekId, Timestamp},
    store::{KeyRow, Store},
};

/// By which key a server may wrap.
pub(super) enum Choice {
    /// By this one.
    Wraps {
        by: KekId,
        /// The servers for which the primary key waits.
        lacking: Vec<String>,
    },
    /// By none: the others use this key, and need not have any that is here.
    Nothing(Lacking),
}

/// Chooses for the server of `own_name`, and notes that the key is in use.
///
/// # Errors
/// [`Error::Store`].
pub(super) async fn choose(
    store: &Store,
    keys: &KeySet,
    own_name: &str,
    at: Timestamp,
) -> Result<Choice, Error> {
    let primary = keys.primary();
    let known = store.known_keys().await?;
    let in_use = key_in_use(&known).map(|row| &row.id);
    if let Some(row) = key_in_use(&known).filter(|row| !keys.has(&row.id)) {
        return Ok(Choice::Nothing(Lacking::of(row)));
    }
    let decided = |by: &KekId| Choice::Wraps { by: by.clone(), lacking: Vec::new() };
    if in_use == Some(primary) {
        return Ok(decided(primary));
    }
    let is_older = in_use.is_some_and(|id| keys.made_at(primary) < keys.made_at(id));
    let lacking = if is_older {
        // It is another server that has a newer keyring. No note: there would be no end of taking turns
        who_lacks(store, primary, own_name).await?
    } else {
        begin_to_use(store, primary, own_name, at).await?
    };
    if lacking.is_empty() {
        return Ok(decided(primary));
    }
    if let Some(id) = in_use {
        return Ok(Choice::Wraps { by: id.clone(), lacking });
    }
    // No key is in use yet, so whoever comes first decides it: by a key that all have, if there is one
    let mut newest_first: Vec<_> = keys.entries().collect();
    newest_first.sort_by_key(|(_, made_at)| std::cmp::Reverse(*made_at));
    for (id, _) in newest_first {
        if begin_to_use(store, id, own_name, at).await?.is_empty() {
            return Ok(Choice::Wraps { by: id.clone(), lacking });
        }
    }
    note_use(store, primary, Some(at)).await?;
    Ok(decided(primary))
}

/// The key that servers wrap by, as far as it is written down.
pub(super) fn key_in_use(known: &[KeyRow]) -> Option<&KeyRow> {
    let used = known.iter().filter(|row| row.primary_since.is_some());
    used.max_by_key(|row| row.primary_since)
}

/// The servers that lack a key, but for the one of this name.
///
/// # Errors
/// [`Error::Store`].
async fn who_lacks(store: &Store, id: &KekId, own_name: &str) -> Result<Vec<String>, Error> {
    let servers = store.servers().await?;
    let lacking = servers.into_iter().filter(|server| server.id != own_name && !server.keks.contains(id));
    Ok(lacking.map(|server| server.id).collect())
}

/// The servers that wrap by a key.
///
/// # Errors
/// [`Error::Store`].
pub async fn who_wraps_by(store: &Store, id: &KekId) -> Result<Vec<String>, Error> {
    let servers = store.servers().await?;
    Ok(servers.into_iter().filter(|server| server.wraps == *id).map(|server| server.id).collect())
}

/// Lets a key be used, if all servers have it; else says which of them lack it, and nothing is changed. The one of
/// `own_name` has it.
///
/// # Errors
/// [`Error::Store`].
pub async fn begin_to_use(
    store: &Store,
    id: &KekId,
    own_name: &str,
    at: Timestamp,
) -> Result<Vec<String>, Error> {
    let lacking = who_lacks(store, id, own_name).await?;
    if !lacking.is_empty() {
        return Ok(lacking);
    }
    let known = store.known_keys().await?;
    if key_in_use(&known).is_some_and(|row| row.id == *id) {
        return Ok(Vec::new());
    }
    // The last one counts, also where clocks differ
    let last = known.iter().filter_map(|row| row.primary_since).max();
    let since = last.map_or(at, |last| at.max(Timestamp(last.0 + 1)));
    note_use(store, id, Some(since)).await?;
    let lacking = who_lacks(store, id, own_name).await?;
    if !lacking.is_empty() {
        let before = known.iter().find(|row| row.id == *id).and_then(|row| row.primary_since);
        note_use(store, id, before).await?;
    }
    Ok(lacking)
}

async fn note_use(store: &Store, id: &KekId, since: Option<Timestamp>) -> Result<(), Error> {
    let id = id.clone();
    let noted = store.write(move |tx| {
        let id = id.clone();
        async move { Ok::<_, Error>(tx.set_primary_since(&id, since).await?) }.boxed()
    });
    noted.await
}
