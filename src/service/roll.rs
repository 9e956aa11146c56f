//! Which key a server may wrap by: none that another server of the database has not.
//!
//! A server that lacks the key of an agent cannot serve that agent. So each server notes in the database which keys it
//! has ([`ServerRow`]), again and again, and looks who else is there. The primary key of its keyring it wraps by only
//! once all the others have it; until then by the key that was used before. That a key is used is written down
//! (`primary_since`) before it is:
//!
//! 1. *Having*: a server that starts notes its keys, then reads which key is in use. Without that one it does not start.
//! 2. *Using*: a server that is to use a key notes that, then reads who is there. If one of them lacks the key, it takes
//!    the note back, and goes on as before.
//!
//! Of two that do so at once, the one that has started or the one that uses the key sees the other. So keyrings can be
//! handed out in any order, by restarts or in running servers, and the primary key of a new one is used when the last
//! server has it. What still gets past it (a server that was cut off from the database for longer than it counts as
//! there) meets a key that it has not; it reads its keyring again, and says so if that does not help
//! ([`Service::find_key`]).

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::sleep;

use super::{
    Error, KeyProblem, KeySet, Service,
    keys::{check, survey},
};
use crate::{
    domain::{KekId, Timestamp},
    store::{KeyRow, ServerRow, Store},
};

/// How often a server notes that it is there, and looks at its keyring and at the others.
const LOOK_EVERY: Duration = Duration::from_secs(5);

// === impl Service ===

impl Service {
    /// Takes its place among the servers of the database. To be done before the first call.
    ///
    /// # Errors
    /// [`KeyProblem`] when the keyring does not fit the database.
    pub async fn join(&self) -> Result<(), KeyProblem> {
        let keyring = self.parts.keyring.declared();
        self.note_presence().await?;
        let joined = async {
            check(&self.parts.store, &keyring, self.parts.clock.now()).await?;
            Ok(self.settle(keyring).await?)
        };
        let joined = joined.await;
        if joined.is_err() {
            self.leave().await;
        }
        joined
    }

    /// Leaves its place, after the last call, and nothing that only it knows.
    pub async fn leave(&self) {
        let forgotten = self.parts.store.forget_server(&self.parts.name);
        let (forgotten, written) = tokio::join!(forgotten, self.write_token_uses());
        if let Err(error) = forgotten {
            tracing::debug!(%error, "the others will think for a while that this server is there");
        }
        if let Err(error) = written {
            tracing::warn!(%error, "when tokens were used in the last minute is not written");
        }
    }

    /// Reads the keyring again and uses what it holds, if it is a keyring that fits the database. Else the one before
    /// stays, and the log says why.
    pub async fn reload_keyring(&self) {
        let read = async { self.take_keyring(self.parts.keyring.read()?).await };
        told(read.await, &mut String::new());
        // Also who asks for it without another keyring has the agents looked at
        self.parts.keyring.taken.notify_one();
    }

    /// Uses the keyring if it is another one by now. `told_before` is what was said last that is wrong with it.
    pub(super) async fn take_up_changes(&self, told_before: &mut String) {
        match self.parts.keyring.read() {
            Ok(keyring) if keyring.is_same(&self.parts.keyring.declared()) => told_before.clear(),
            Ok(keyring) => told(self.take_keyring(keyring).await, told_before),
            Err(problem) => told(Err(problem), told_before),
        }
    }

    async fn take_keyring(&self, keyring: KeySet) -> Result<Arc<KeySet>, KeyProblem> {
        check(&self.parts.store, &keyring, self.parts.clock.now()).await?;
        let keyring = Arc::new(keyring);
        self.settle(Arc::clone(&keyring)).await?;
        Ok(keyring)
    }

    /// Keeps its place, until the server stops.
    pub(super) async fn attend(&self) {
        let (mut told_before, mut was_seen) = (String::new(), true);
        loop {
            let look = async {
                sleep(LOOK_EVERY).await;
                self.take_up_changes(&mut told_before).await;
                self.settle(self.parts.keyring.declared()).await?;
                self.look_for_what_lacked().await
            };
            match self.parts.closing.run_until_cancelled(look).await {
                None => return,
                Some(Ok(())) => was_seen = true,
                Some(Err(error)) if was_seen => {
                    was_seen = false;
                    tracing::warn!(%error, "which keys the servers have cannot be told just now");
                }
                Some(Err(_told)) => {}
            }
        }
    }

    /// Decides by which key of a keyring to wrap, and uses both from now on.
    async fn settle(&self, keyring: Arc<KeySet>) -> Result<(), Error> {
        let name = &self.parts.name;
        let Choice { wraps, lacking } =
            choose(&self.parts.store, &keyring, name, self.parts.clock.now()).await?;
        if self.parts.keyring.take(Arc::clone(&keyring), &wraps) {
            let primary = keyring.primary();
            if lacking.is_empty() {
                tracing::info!(key = %wraps, "data keys are wrapped by this key");
            } else {
                let lacking = lacking.join(", ");
                tracing::info!(key = %wraps, %primary, %lacking, "data keys are wrapped by this key until the servers named have the primary one");
            }
        }
        self.note_presence().await
    }

    async fn note_presence(&self) -> Result<(), Error> {
        let keys = self.parts.keyring.get();
        let server = ServerRow {
            id: self.parts.name.clone(),
            keks: keys.entries().map(|(id, _)| id.clone()).collect(),
            wraps: keys.primary().clone(),
        };
        Ok(self.parts.store.see_server(server).await?)
    }

    /// Is ready again once no agent needs the key that was lacking.
    async fn look_for_what_lacked(&self) -> Result<(), Error> {
        let Some((id, _)) = self.parts.keyring.lacking() else { return Ok(()) };
        let keys = survey(&self.parts.store, None).await?;
        if !keys.iter().any(|key| key.id == id && key.agents > 0) {
            self.parts.keyring.set_lacking(None);
        }
        Ok(())
    }
}

fn told(read: Result<Arc<KeySet>, KeyProblem>, told_before: &mut String) {
    match read {
        Ok(keyring) => {
            told_before.clear();
            let (primary, keys) = (keyring.primary(), keyring.entries().count());
            tracing::info!(%primary, keys, "keyring read again");
        }
        Err(problem) => {
            let error = problem.to_string();
            if error != *told_before {
                tracing::error!(%error, "the keyring cannot be used; the one before stays in use");
                *told_before = error;
            }
        }
    }
}

/// By which key a server may wrap.
struct Choice {
    wraps: KekId,
    /// The servers for which the primary key waits.
    lacking: Vec<String>,
}

async fn choose(store: &Store, keys: &KeySet, own_name: &str, at: Timestamp) -> Result<Choice, Error> {
    let primary = keys.primary();
    let in_use = key_in_use(&store.known_keys().await?);
    let decided = |wraps: &KekId| Choice { wraps: wraps.clone(), lacking: Vec::new() };
    if in_use.as_ref() == Some(primary) {
        return Ok(decided(primary));
    }
    let in_use_here = in_use.as_ref().filter(|id| keys.has(id));
    let is_older = in_use_here.is_some_and(|id| keys.made_at(primary) < keys.made_at(id));
    let lacking = if is_older {
        // It is another server that has a newer keyring. No note: there would be no end of taking turns
        who_lacks(store, primary, own_name).await?
    } else {
        begin_to_use(store, primary, own_name, at).await?
    };
    if lacking.is_empty() {
        return Ok(decided(primary));
    }
    if let Some(id) = in_use_here {
        return Ok(Choice { wraps: id.clone(), lacking });
    }
    // No key is in use yet, so whoever comes first decides it: by a key that all have, if there is one
    let mut newest_first: Vec<_> = keys.entries().collect();
    newest_first.sort_by_key(|(_, made_at)| std::cmp::Reverse(*made_at));
    for (id, _) in newest_first {
        if begin_to_use(store, id, own_name, at).await?.is_empty() {
            return Ok(Choice { wraps: id.clone(), lacking });
        }
    }
    note_use(store, primary, Some(at)).await?;
    Ok(decided(primary))
}

/// The key that servers wrap by, as far as it is written down.
fn key_in_use(known: &[KeyRow]) -> Option<KekId> {
    let used = known.iter().filter(|row| row.primary_since.is_some());
    used.max_by_key(|row| row.primary_since).map(|row| row.id.clone())
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
    if key_in_use(&known).as_ref() == Some(id) {
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
