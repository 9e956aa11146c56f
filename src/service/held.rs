//! The keyring of this server: as it was read, and with the key by which the server may wrap.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turns, Notify},
    time::Instant,
};

use super::{Error, KeyProblem, KeySet, Service, WantedKey, measures::Unreadable};
use crate::{crypto::check_value_fingerprint, domain::KekId, store::KeyRow};

/// At most so often is the keyring read again because a key is not in it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the keyring anew.
pub struct KeyringSource(Box<dyn Fn() -> Result<KeySet, String> + Send + Sync>);

/// The keyring that calls use; another can take its place while they do. A call that has begun with one ends with it.
#[derive(Debug)]
pub(super) struct Held {
    state: RwLock<State>,
    /// Tells that another one was taken, or that another key wraps.
    pub(super) taken: Notify,
    source: KeyringSource,
    looks: Turns<Looks>,
    /// A key that this server would need, and has not.
    lacking: Mutex<Option<(KekId, String)>>,
}

#[derive(Debug)]
struct State {
    /// As it was read.
    declared: Arc<KeySet>,
    /// The same keys; the primary one is that by which this server may wrap.
    in_use: Arc<KeySet>,
}

/// What came of the last look for a key that was not there.
#[derive(Debug, Default)]
struct Looks {
    last: Option<Instant>,
    known: Vec<KeyRow>,
}

// === impl KeyringSource ===

impl KeyringSource {
    /// A way to read it. Its error says in one sentence what is wrong with the keyring.
    pub fn new(read: impl Fn() -> Result<KeySet, String> + Send + Sync + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl fmt::Debug for KeyringSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyringSource")
    }
}

// === impl Held ===

impl Held {
    pub(super) fn new(keyring: KeySet, source: KeyringSource) -> Self {
        let declared = Arc::new(keyring);
        let state = State { in_use: Arc::clone(&declared), declared };
        let (looks, lacking) = (Turns::default(), Mutex::default());
        Self { state: RwLock::new(state), taken: Notify::new(), source, looks, lacking }
    }

    /// The present one: its primary key is that by which this server may wrap.
    pub(super) fn get(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).in_use)
    }

    /// The present one as it was read.
    pub(super) fn declared(&self) -> Arc<KeySet> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner).declared)
    }

    /// Uses a keyring from now on, and of its keys wraps by this one. Says whether anything is other than before.
    pub(super) fn take(&self, declared: Arc<KeySet>, wraps: &KekId) -> bool {
        let mut in_use = (*declared).clone();
        in_use.promote(wraps);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.in_use.is_same(&in_use) && state.declared.is_same(&declared) {
            return false;
        }
        *state = State { declared, in_use: Arc::new(in_use) };
        drop(state);
        self.taken.notify_one();
        true
    }

    /// Reads the keyring anew.
    pub(super) fn read(&self) -> Result<KeySet, KeyProblem> {
        (self.source.0)().map_err(KeyProblem::Unreadable)
    }

    /// A key that this server would need, and has not.
    pub(super) fn lacking(&self) -> Option<(KekId, String)> {
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if lacking.as_ref().is_some_and(|(id, _)| self.get().has(id)) {
            *lacking = None;
        }
        lacking.clone()
    }

    /// Notes a key that this server would need, or that it needs none.
    pub(super) fn set_lacking(&self, key: Option<(KekId, String)>) {
        *self.lacking.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

// === impl Service ===

impl Service {
    /// Looks for a data key that a call needs and that is not at hand: the key that wraps it may be in the keyring by now,
    /// or somewhere else. When it returns, the call is worth another try.
    ///
    /// # Errors
    /// [`Error::KeyUnavailable`] when this server has not the key that wraps it, though there is one; [`Error::Kms`] when
    /// who has that does not answer; [`Error::DataLoss`] when the database knows of none, or the data key does not open;
    /// [`Error::Store`].
    pub(super) async fn find_key(&self, wanted: &WantedKey) -> Result<(), Error> {
        let kek = &wanted.wrapped.kek;
        if !self.parts.keyring.get().has(kek) {
            self.look_for(wanted).await?;
        }
        if self.parts.keyring.get().is_remote(kek) { self.fetch_key(wanted).await } else { Ok(()) }
    }

    async fn look_for(&self, wanted: &WantedKey) -> Result<(), Error> {
        let WantedKey { agent, wrapped, .. } = wanted;
        let (held, kek) = (&self.parts.keyring, &wrapped.kek);
        // Who comes while another looks has looked too
        let mut looks = held.looks.lock().await;
        if held.get().has(kek) {
            return Ok(());
        }
        if looks.last.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            tracing::warn!(%agent, %kek, "an agent's data key is wrapped by a key that this server has not; looking for it");
            self.take_up_changes(&mut String::new()).await;
            looks.known = self.parts.store.known_keys().await?;
            looks.last = Some(Instant::now());
        }
        if held.get().has(kek) {
            return Ok(());
        }
        if let Some(row) = looks.known.iter().find(|row| row.id == *kek) {
            held.set_lacking(Some((kek.clone(), check_value_fingerprint(&row.check_value))));
            Err(Error::KeyUnavailable { agent: agent.clone(), kek: kek.clone() })
        } else {
            tracing::error!(%agent, %kek, "an agent's data key is wrapped by a key that the database does not know");
            self.parts.measures.unreadable(Unreadable::DataKey);
            Err(Error::DataLoss { agent: agent.clone(), key: String::new() })
        }
    }
}
