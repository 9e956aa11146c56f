//! Data keys that a provider outside has unwrapped, kept for a while, so that not each call asks it.
//!
//! One that is older than half the time it may be used is asked for anew beside the calls; so in an outage of the
//! provider, those that are in use last for at least the other half. Each is asked for once at a time, however many want
//! it, by a task of its own: who gives up waiting takes it from nobody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
    stream::FuturesUnordered,
};
use hashlink::LruCache;
use tokio::{
    sync::{Mutex as Turns, mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::{Error, Service, measures::Unreadable};
use crate::{
    crypto::{DataKey, Owner, ProviderError, WrappedKey},
    domain::{AgentId, TenantId},
    store::AgentRow,
};

/// The most data keys that are kept: some 10 MB.
const AT_MOST: usize = 10_000;

/// The most data keys that wait to be asked for anew.
const WAITING: usize = 1000;

/// How many are asked for anew side by side.
const SIDE_BY_SIDE: usize = 16;

/// What comes of asking for a data key.
type Fetch = Shared<BoxFuture<'static, Result<(), ProviderError>>>;

/// A data key that is to be had.
#[derive(Clone, Debug)]
pub struct WantedKey {
    pub(super) agent: AgentId,
    pub(super) tenant: TenantId,
    pub(super) wrapped: WrappedKey,
}

/// The data keys of agents.
pub(super) struct DataKeys {
    good_for: Duration,
    kept: Mutex<LruCache<Vec<u8>, Kept>>,
    aging: mpsc::Sender<WantedKey>,
    refresh: Turns<mpsc::Receiver<WantedKey>>,
    /// Those that a provider is being asked for.
    fetching: Mutex<HashMap<Vec<u8>, Fetch>>,
    /// Nobody waits for them when the server stops: what they would learn is for its calls alone.
    tasks: TaskTracker,
}

/// While it is there, a data key is being asked for.
struct Fetching {
    service: Service,
    name: Vec<u8>,
}

struct Kept {
    key: Arc<DataKey>,
    since: Instant,
    is_asked_for: bool,
}

// === impl WantedKey ===

impl WantedKey {
    pub(super) fn of(agent: &AgentRow) -> Self {
        let wrapped = WrappedKey { kek: agent.key.kek.clone(), bytes: agent.key.bytes.clone() };
        Self { agent: agent.id.clone(), tenant: agent.tenant.clone(), wrapped }
    }

    /// By what it is kept: not only by how it is wrapped, or who moves a wrapping to another agent would have it opened.
    fn name(&self) -> Vec<u8> {
        let (tenant, agent) = (self.tenant.as_str().as_bytes(), self.agent.as_str().as_bytes());
        [tenant, agent, &self.wrapped.bytes].join(&0)
    }

    pub(super) fn owner(&self) -> Owner<'_> {
        Owner { tenant: &self.tenant, agent: &self.agent }
    }
}

// === impl DataKeys ===

impl DataKeys {
    /// None yet; each is to be used for so long.
    pub(super) fn new(good_for: Duration) -> Self {
        let (aging, refresh) = mpsc::channel(WAITING);
        let (kept, refresh) = (Mutex::new(LruCache::new(AT_MOST)), Turns::new(refresh));
        Self { good_for, kept, aging, refresh, fetching: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// The data key, if it is kept and may still be used.
    pub(super) fn get(&self, wanted: &WantedKey) -> Option<Arc<DataKey>> {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = wanted.name();
        let kept = all.get_mut(&name)?;
        let age = kept.since.elapsed();
        if age >= self.good_for {
            all.remove(&name);
            return None;
        }
        if age >= self.good_for / 2 && !kept.is_asked_for {
            // Where too many wait already, the next call tries again
            kept.is_asked_for = self.aging.try_send(wanted.clone()).is_ok();
        }
        Some(Arc::clone(&kept.key))
    }

    fn keep(&self, wanted: &WantedKey, key: DataKey) {
        let kept = Kept { key: Arc::new(key), since: Instant::now(), is_asked_for: false };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted.name(), kept);
    }

    fn is_not_asked_for(&self, wanted: &WantedKey) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = all.get_mut(&wanted.name()) {
            kept.is_asked_for = false;
        }
    }

    /// Whether it was had so lately that it is not to be asked for anew.
    fn is_fresh(&self, name: &[u8]) -> bool {
        let all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.peek(name).is_some_and(|kept| kept.since.elapsed() < self.good_for / 2)
    }

    fn fetching(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Fetch>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are kept.
    pub(super) fn count(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Forgets those that may not be used any more.
    fn sweep(&self) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, kept| kept.since.elapsed() < self.good_for);
    }
}

impl std::fmt::Debug for DataKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKeys")
    }
}

// === impl Service ===

impl Service {
    /// Has a provider unwrap a data key, and keeps that for the call that wanted it and those that follow.
    ///
    /// # Errors
    /// [`Error::Kms`] when it does not answer; [`Error::DataLoss`] when it does not open.
    pub(super) async fn fetch_key(&self, wanted: &WantedKey) -> Result<(), Error> {
        let WantedKey { agent, wrapped, .. } = wanted;
        match self.fetch(wanted).await {
            Ok(()) => Ok(()),
            Err(error @ ProviderError::DoesNotOpen) => {
                tracing::error!(%agent, kek = %wrapped.kek, %error, "a data key does not open");
                self.parts.measures.unreadable(Unreadable::DataKey);
                Err(Error::DataLoss { agent: agent.clone(), key: String::new() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks a provider for a data key, unless that is being done or was done just now.
    fn fetch(&self, wanted: &WantedKey) -> Fetch {
        let (data_keys, name) = (&self.parts.data_keys, wanted.name());
        let mut fetching = data_keys.fetching();
        if let Some(fetch) = fetching.get(&name) {
            return fetch.clone();
        }
        // It is kept before it is no longer being asked for
        if data_keys.is_fresh(&name) {
            return async { Ok(()) }.boxed().shared();
        }
        let (tell, told) = oneshot::channel();
        let broke_off =
            |_ended| Err(ProviderError::Unavailable("the key provider's call broke off".to_owned()));
        let fetch = told.map(move |told| told.unwrap_or_else(broke_off)).boxed().shared();
        fetching.insert(name.clone(), fetch.clone());
        // Where the server ends, the task is dropped as it begins, and takes its name off the list
        drop(fetching);
        let (wanted, asked) = (wanted.clone(), Fetching { service: self.clone(), name });
        let task = async move {
            let parts = &asked.service.parts;
            let key = parts.keyring.get().unwrap(&wanted.wrapped, wanted.owner()).await;
            let outcome = key.map(|key| parts.data_keys.keep(&wanted, key));
            drop(asked);
            // Perhaps nobody waits any more
            let _untold = tell.send(outcome);
        };
        data_keys.tasks.spawn(task.in_current_span());
        fetch
    }

    /// Asks anew for data keys that grow old, and forgets those that have, until the server stops.
    pub(super) async fn keep_data_keys(&self) {
        let (closing, data_keys) = (&self.parts.closing, &self.parts.data_keys);
        let mut aging = data_keys.refresh.lock().await;
        let mut sweep = tokio::time::interval(data_keys.good_for / 2);
        let mut asked = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                _ = sweep.tick() => data_keys.sweep(),
                Some(wanted) = aging.recv(), if asked.len() < SIDE_BY_SIDE => {
                    asked.push(self.fetch_anew(wanted));
                }
                Some(()) = asked.next() => {}
            }
        }
    }

    async fn fetch_anew(&self, wanted: WantedKey) {
        if let Err(error) = self.fetch_key(&wanted).await {
            self.parts.data_keys.is_not_asked_for(&wanted);
            tracing::warn!(%error, "a data key in use cannot be asked for anew");
        }
    }
}

// === impl Fetching ===

impl Drop for Fetching {
    fn drop(&mut self) {
        self.service.parts.data_keys.fetching().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::Random, domain::KekId};

    fn wanted(agent: u128, bytes: &[u8]) -> WantedKey {
        let wrapped = WrappedKey { kek: KekId::from_random(1), bytes: bytes.to_vec() };
        WantedKey { agent: AgentId::from_random(agent), tenant: TenantId::default_tenant(), wrapped }
    }

    fn grow_older(keys: &DataKeys, seconds: u64) {
        for (_, kept) in keys.kept.lock().unwrap().iter_mut() {
            kept.since = kept.since.checked_sub(Duration::from_secs(seconds)).unwrap();
        }
    }

    fn key() -> DataKey {
        DataKey::generate(&Random::new()).unwrap()
    }

    #[tokio::test]
    async fn a_data_key_is_used_for_so_long_and_asked_for_anew_before() {
        let keys = DataKeys::new(Duration::from_secs(10));
        let one = wanted(1, b"a");
        assert!(keys.get(&one).is_none());
        keys.keep(&one, key());
        let waiting = async || keys.refresh.lock().await.try_recv().is_ok();
        assert!(keys.get(&one).is_some() && !waiting().await);
        grow_older(&keys, 5);
        assert!(keys.get(&one).is_some() && keys.get(&one).is_some());
        assert!(waiting().await && !waiting().await, "once");
        keys.is_not_asked_for(&one);
        assert!(keys.get(&one).is_some() && waiting().await, "and once more where that was in vain");
        grow_older(&keys, 5);
        assert!(keys.get(&one).is_none());
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten() {
        let keys = DataKeys::new(Duration::from_secs(10));
        keys.keep(&wanted(1, b"a"), key());
        grow_older(&keys, 6);
        keys.keep(&wanted(2, b"b"), key());
        grow_older(&keys, 6);
        keys.sweep();
        assert_eq!(keys.kept.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_wrapping_that_was_moved_is_not_found() {
        let keys = DataKeys::new(Duration::from_secs(10));
        keys.keep(&wanted(1, b"a"), key());
        assert!(keys.get(&wanted(2, b"a")).is_none());
        assert!(keys.get(&wanted(1, b"b")).is_none());
    }
}
