//! Another key in the place of the primary one, and the removal of a key that nothing needs.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    StartError, keyring_file,
    keys::{KeyRefusal, find, load, open},
    reload::{keys_of, remote_key},
};
use crate::{
    config::{Provider, Storage},
    crypto::{KekState, Keyring, Random},
    domain::KekId,
    service::{
        Clock, KeySet, RemoteKey, Rewrapping, begin_to_use, check_keys, compare_keys, forget_key, rewrap_all,
        who_wraps_by,
    },
    store::Store,
};

/// How often one looks whether the servers have come along.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to be rotated, and how long the servers are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'r> {
    /// The key to make primary; the newest one if `None`.
    pub key: Option<&'r str>,
    /// How long to wait until all servers have the key.
    pub wait: Duration,
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

/// What is to be removed.
#[derive(Clone, Copy, Debug)]
pub struct Retirement<'r> {
    /// The key.
    pub id: &'r str,
    /// How many agents may lose their data keys by it.
    pub lose: u64,
    /// How long to wait until no server wraps by the key any more.
    pub wait: Duration,
    /// Only find out whether it can be removed.
    pub only_check: bool,
}

/// A key that is in the keyring no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRetired {
    /// The keyring file.
    pub path: PathBuf,
    /// How many agents have lost their data keys with it.
    pub lost: u64,
}

/// Makes a key the primary, once all servers have it, and wraps under it what other keys of the keyring wrap; `progress`
/// is told how many agents are done, and of how many. What a run that was broken off has left is done by the next, and
/// any number may run at once.
///
/// # Errors
/// [`StartError`], also when the keyring does not fit the database, or a server does not have the key; then nothing has
/// changed. A failure later leaves every agent under one key or the other.
pub async fn rotate_keys(
    storage: &Storage,
    rotation: Rotation<'_>,
    progress: impl FnMut(u64, u64),
) -> Result<KeysRotated, StartError> {
    let (keys, before, store) = make_primary(storage, rotation).await?;
    let agents = rewrap_all(&store, &keys, progress).await?;
    Ok(KeysRotated { primary: keys.primary().to_string(), before, agents })
}

/// Makes a key the primary in the keyring file, and says which was it before, if another one was.
async fn make_primary(
    storage: &Storage,
    rotation: Rotation<'_>,
) -> Result<(KeySet, Option<String>, Store), StartError> {
    let left = match remote_key(storage)? {
        Some(remote) if remote.wraps => return use_remote(storage, remote, rotation.wait).await,
        left => left,
    };
    let path = &storage.keyring;
    let lock = keyring_file::lock(path)?;
    let mut keyring = load(storage)?;
    let wanted = match rotation.key {
        Some(id) => find(&keyring, id, storage)?.id().clone(),
        None => keyring.newest().id().clone(),
    };
    let before = keyring.primary().id().clone();
    if keyring.entries().count() == 1 && left.is_none() {
        return Err(KeyRefusal::Only { path: path.clone(), only: before }.into());
    }
    let store = open(storage).await?;
    // It notes the key, too, before anything is wrapped under it
    let random = Random::new();
    let keys_with = |keyring: Keyring| match left.clone() {
        Some(left) => KeySet::of_provider(left, Some(keyring), &random),
        None => KeySet::of_keyring(keyring, &random),
    };
    check_keys(&store, &keys_with(keyring.clone()), Clock::system().now()).await?;
    if let Some(left) = &left {
        nobody_wraps_by_provider(&store, &left.id, rotation.wait).await?;
    }
    begin(&store, &wanted, rotation.wait).await?;
    keyring.promote(&wanted);
    let is_another = before != wanted;
    if is_another {
        keyring_file::replace(path, &keyring)?;
    }
    drop(lock);
    let keys = keys_with(keyring);
    Ok((keys, is_another.then(|| before.to_string()), store))
}

/// Where a provider outside wraps, the keyring file has no say: all that its keys wrap comes under that of the provider.
async fn use_remote(
    storage: &Storage,
    remote: RemoteKey,
    wait: Duration,
) -> Result<(KeySet, Option<String>, Store), StartError> {
    let id = remote.id.clone();
    let keys = KeySet::of_provider(remote, keyring_file::load(&storage.keyring)?, &Random::new());
    let store = open(storage).await?;
    check_keys(&store, &keys, Clock::system().now()).await?;
    begin(&store, &id, wait).await?;
    Ok((keys, None, store))
}

/// Waits until no server wraps by the provider that is to be left: one that is to would bring all back under its key.
async fn nobody_wraps_by_provider(store: &Store, id: &KekId, wait: Duration) -> Result<(), StartError> {
    let servers = until_nobody(wait, async || who_wraps_by(store, id).await).await?;
    if servers.is_empty() { Ok(()) } else { Err(KeyRefusal::ByProvider { id: id.clone(), servers }.into()) }
}

/// Waits until all servers have a key, and notes that it is in use.
async fn begin(store: &Store, id: &KekId, wait: Duration) -> Result<(), StartError> {
    let servers =
        until_nobody(wait, async || begin_to_use(store, id, "", Clock::system().now()).await).await?;
    if servers.is_empty() {
        Ok(())
    } else {
        Err(KeyRefusal::NotEverywhere { id: id.clone(), servers }.into())
    }
}

/// Removes a key from the keyring if no agent of the database needs it, and no server uses it, or if its agents may be
/// lost.
///
/// # Errors
/// [`StartError`]; the keyring then stays as it is.
pub async fn retire_key(storage: &Storage, retirement: Retirement<'_>) -> Result<KeyRetired, StartError> {
    let Retirement { id, lose, wait, only_check } = retirement;
    let path = storage.keyring.clone();
    // A file that is only looked at may be where nothing can be written
    let lock = if only_check { None } else { Some(keyring_file::lock(&path)?) };
    let mut keyring = load(storage)?;
    let own = keys_of(storage)?;
    let id = removable(&keyring, id, storage, only_check)?;
    let store = open(storage).await?;
    let servers = until_nobody(wait, async || who_wraps_by(&store, &id).await).await?;
    if !servers.is_empty() && lose == 0 {
        return Err(KeyRefusal::InUse { id, servers }.into());
    }
    // After nobody wraps by it any more: it gets no more agents
    let keys = compare_keys(&store, &own).await?;
    let lost = keys.iter().find(|key| key.id == id).map_or(0, |key| key.agents);
    if lost > lose {
        return Err(KeyRefusal::Needed { id, agents: lost }.into());
    }
    if only_check {
        return Ok(KeyRetired { path, lost });
    }
    if lost > 0 {
        // Before it is removed: a database that knows of agents under a key that is missing lets no server start
        forget_key(&store, &id).await?;
    }
    keyring.remove(&id);
    keyring_file::replace(&path, &keyring)?;
    drop(lock);
    Ok(KeyRetired { path, lost })
}

/// Removes a key from a keyring file that is not beside a database. Whether anything needs it was found out before.
///
/// # Errors
/// [`StartError`]; the keyring then stays as it is.
pub fn remove_key(storage: &Storage, id: &str) -> Result<PathBuf, StartError> {
    let path = storage.keyring.clone();
    let _lock = keyring_file::lock(&path)?;
    let mut keyring = load(storage)?;
    let id = removable(&keyring, id, storage, false)?;
    keyring.remove(&id);
    keyring_file::replace(&path, &keyring)?;
    Ok(path)
}

/// How many agents of the database need a key.
///
/// # Errors
/// [`StartError`], also for the primary key.
pub async fn agents_of_key(storage: &Storage, id: &str) -> Result<u64, StartError> {
    let keyring = load(storage)?;
    let id = removable(&keyring, id, storage, false)?;
    let keys = compare_keys(&open(storage).await?, &keys_of(storage)?).await?;
    Ok(keys.iter().find(|key| key.id == id).map_or(0, |key| key.agents))
}

fn removable(keyring: &Keyring, id: &str, storage: &Storage, only_check: bool) -> Result<KekId, KeyRefusal> {
    let entry = find(keyring, id, storage)?;
    let id = entry.id().clone();
    // Where a provider outside wraps, the whole file can go one day
    let is_needed = !only_check || matches!(storage.keys.provider, Provider::File);
    if entry.state() == KekState::Primary && is_needed { Err(KeyRefusal::Primary(id)) } else { Ok(id) }
}

/// Waits until no server is in the way, or gives those that still are.
async fn until_nobody(
    wait: Duration,
    who: impl AsyncFn() -> Result<Vec<String>, crate::service::Error>,
) -> Result<Vec<String>, StartError> {
    let until = Instant::now() + wait;
    loop {
        let servers = who().await?;
        if servers.is_empty() || Instant::now() >= until {
            return Ok(servers);
        }
        sleep(LOOK_EVERY).await;
    }
}
