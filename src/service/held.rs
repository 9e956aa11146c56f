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

use super::{Error, KeyProblem, KeySet, Service, WantedKey, key_in_use::key_in_use, measures::Unreadable};
use crate::{crypto::check_value_fingerprint, domain::KekId, store::KeyRow};

/// At most so often is the keyring read again because a key is not in it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For so long after this server was last noted it is sure to count as there, with something to spare: the store counts
/// it for 30 seconds.
const PLACE_GOOD_FOR: Duration = Duration::from_secs(20);

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
    /// The key that the servers wrap by, if this one has it not. Then it wraps by none.
    lacking: Mutex<Option<Lacking>>,
    /// When this server was last noted as there.
    place_taken: Mutex<Option<Instant>>,
}

/// A key that a server would need, and has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) id: KekId,
    /// Its fingerprint.
    pub(super) needed: String,
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
        Self {
            state: RwLock::new(state),
            taken: Notify::new(),
            source,
            looks: Turns::default(),
            lacking: Mutex::default(),
            place_taken: Mutex::default(),
        }
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

    /// The key in use, if this server has it not.
    pub(super) fn lacking(&self) -> Option<Lacking> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that this server lacks the key in use, or that it lacks it no more.
    pub(super) fn set_lacking(&self, key: Option<Lacking>) {
        *self.lacking.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }

    /// Whether the others wait for this server.
    pub(super) fn has_place(&self) -> bool {
        let taken = self.place_taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.is_some_and(|at| at.elapsed() < PLACE_GOOD_FOR)
    }

    /// Notes that this server was noted as there at that time, or later.
    pub(super) fn take_place(&self, at: Instant) {
        *self.place_taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Notes that the others wait for it no more.
    pub(super) fn lose_place(&self) {
        *self.place_taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

// === impl Lacking ===

impl Lacking {
    /// The one of this row.
    pub(super) fn of(row: &KeyRow) -> Self {
        Self { id: row.id.clone(), needed: check_value_fingerprint(&row.check_value) }
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
            self.look(&mut looks).await?;
        }
        if held.get().has(kek) {
            return Ok(());
        }
        if let Some(row) = looks.known.iter().find(|row| row.id == *kek) {
            if key_in_use(&looks.known).is_some_and(|in_use| in_use.id == row.id) {
                held.set_lacking(Some(Lacking::of(row)));
            }
            Err(Error::KeyUnavailable { agent: agent.clone(), kek: kek.clone() })
        } else {
            tracing::error!(%agent, %kek, "an agent's data key is wrapped by a key that the database does not know");
            self.parts.measures.unreadable(Unreadable::DataKey);
            Err(Error::DataLoss { agent: agent.clone(), key: String::new() })
        }
    }

    /// Looks whether the keyring has the key in use by now, by which this server is to wrap.
    pub(super) async fn look_for_key_in_use(&self, kek: &KekId) -> Result<Arc<KeySet>, Error> {
        let held = &self.parts.keyring;
        let mut looks = held.looks.lock().await;
        if held.lacking().is_some() && looks.last.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            self.look(&mut looks).await?;
        }
        match held.lacking() {
            Some(_) => Err(Error::NothingToWrapBy { kek: kek.clone() }),
            None => Ok(held.get()),
        }
    }

    async fn look(&self, looks: &mut Looks) -> Result<(), Error> {
        self.take_up_changes(&mut String::new()).await;
        looks.known = self.parts.store.known_keys().await?;
        looks.last = Some(Instant::now());
        Ok(())
    }
}
