//! All keys that a server has: those of its keyring, and that of a provider outside. One of them wraps.
//!
//! That of a provider counts as the newest for every server, also for one that is to leave it for its keyring. So servers of
//! either mind do not undo each other's work; it is an operator's command that decides.

use std::sync::Arc;

use crate::{
    crypto::{
        DataKey, KeyProvider, Keyring, LocalKeys, Owner, ProviderError, Random, UnwrapError, WrappedKey,
    },
    domain::{KekId, Timestamp},
};

/// A key that a provider outside keeps to itself.
#[derive(Clone, Debug)]
pub struct RemoteKey {
    /// What it is called.
    pub id: KekId,
    /// Who has it.
    pub provider: Arc<dyn KeyProvider>,
    /// Whether it is to wrap; else it is left for a keyring, and unwraps what it has wrapped.
    pub wraps: bool,
}

/// The keys of a server. A clone shares them.
#[derive(Clone, Debug)]
pub struct KeySet {
    local: Option<LocalKeys>,
    remote: Option<RemoteKey>,
    primary: KekId,
}

// === impl KeySet ===

impl KeySet {
    /// The keys of a keyring, whose primary key wraps.
    #[must_use]
    pub fn of_keyring(keyring: Keyring, random: &Random) -> Self {
        let primary = keyring.primary().id().clone();
        Self { local: Some(LocalKeys::new(keyring, random.clone())), remote: None, primary }
    }

    /// The key of a provider outside and those of a keyring, if there is one. The provider's wraps, unless it is left for
    /// the keyring.
    #[must_use]
    pub fn of_provider(remote: RemoteKey, keyring: Option<Keyring>, random: &Random) -> Self {
        let wraps = keyring.as_ref().filter(|_| !remote.wraps).map(|keyring| keyring.primary().id().clone());
        let local = keyring.map(|keyring| LocalKeys::new(keyring, random.clone()));
        Self { primary: wraps.unwrap_or_else(|| remote.id.clone()), local, remote: Some(remote) }
    }

    /// The keyring.
    #[must_use]
    pub fn keyring(&self) -> Option<&Keyring> {
        self.local.as_ref().map(LocalKeys::keyring)
    }

    /// The key of a provider outside.
    #[must_use]
    pub fn remote(&self) -> Option<&RemoteKey> {
        self.remote.as_ref()
    }

    /// The key that wraps.
    #[must_use]
    pub fn primary(&self) -> &KekId {
        &self.primary
    }

    /// Wraps by this key from now on. Says whether there is one of this id.
    pub fn promote(&mut self, id: &KekId) -> bool {
        let is_remote = self.is_remote(id);
        if is_remote || self.local.as_mut().is_some_and(|local| local.promote(id)) {
            self.primary = id.clone();
            return true;
        }
        false
    }

    /// All keys, and when each was made. That of a provider outside counts as the newest.
    pub fn entries(&self) -> impl Iterator<Item = (&KekId, Timestamp)> {
        let local = self.keyring().into_iter().flat_map(Keyring::entries);
        let local = local.map(|entry| (entry.id(), entry.created_at()));
        local.chain(self.remote.iter().map(|remote| (&remote.id, Timestamp(i64::MAX))))
    }

    /// When the key of this id was made, if there is one.
    #[must_use]
    pub fn made_at(&self, id: &KekId) -> Option<Timestamp> {
        self.entries().find(|(of, _)| *of == id).map(|(_, at)| at)
    }

    /// Whether there is a key of this id.
    #[must_use]
    pub fn has(&self, id: &KekId) -> bool {
        self.made_at(id).is_some()
    }

    /// Whether the key of this id is one of a provider outside, which is asked by a call each time.
    #[must_use]
    pub fn is_remote(&self, id: &KekId) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.id == *id)
    }

    /// The keys that were made before the one that wraps.
    #[must_use]
    pub fn older_than_primary(&self) -> Vec<KekId> {
        let Some(primary) = self.made_at(&self.primary) else { return Vec::new() };
        self.entries().filter(|(_, at)| *at < primary).map(|(id, _)| id.clone()).collect()
    }

    /// The keys but for the one that wraps.
    #[must_use]
    pub fn all_but_primary(&self) -> Vec<KekId> {
        self.entries().map(|(id, _)| id.clone()).filter(|id| *id != self.primary).collect()
    }

    /// Whether another one has the same keys, and wraps by the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let keyrings = match (self.keyring(), other.keyring()) {
            (Some(own), Some(other)) => own.is_same(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let id = |keys: &Self| keys.remote.as_ref().map(|remote| remote.id.clone());
        keyrings && id(self) == id(other) && self.primary == other.primary
    }

    /// Unwraps a data key at once; `None` if that takes a call of a provider.
    pub(super) fn unwrap_now(
        &self,
        wrapped: &WrappedKey,
        owner: Owner<'_>,
    ) -> Option<Result<DataKey, UnwrapError>> {
        if self.is_remote(&wrapped.kek) {
            return None;
        }
        let unknown = || Err(UnwrapError::UnknownKey(wrapped.kek.clone()));
        let unwrap = |keyring: &Keyring| keyring.unwrap_key(wrapped, owner.tenant, owner.agent);
        Some(self.keyring().map_or_else(unknown, unwrap))
    }

    /// Wraps a data key.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        self.provider_of(&self.primary)?.wrap(key, owner).await
    }

    /// Unwraps a data key.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError> {
        self.provider_of(&wrapped.kek)?.unwrap(wrapped, owner).await
    }

    /// Wraps by the primary key what another key wraps.
    ///
    /// # Errors
    /// [`ProviderError`].
    pub async fn rewrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        let key = self.unwrap(wrapped, owner).await?;
        self.wrap(&key, owner).await
    }

    fn provider_of(&self, id: &KekId) -> Result<&dyn KeyProvider, ProviderError> {
        match (&self.remote, &self.local) {
            (Some(remote), _) if remote.id == *id => Ok(&*remote.provider),
            (_, Some(local)) if local.keyring().get(id).is_some() => Ok(local),
            _ => Err(ProviderError::UnknownKey(id.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AgentId, TenantId};

    fn keyring() -> Keyring {
        Keyring::generate(&Random::new(), Timestamp(1)).unwrap()
    }

    /// A keyring somewhere else.
    fn remote() -> RemoteKey {
        let keyring = keyring();
        let id = keyring.primary().id().clone();
        RemoteKey { id, provider: Arc::new(LocalKeys::new(keyring, Random::new())), wraps: true }
    }

    #[tokio::test]
    async fn the_primary_key_wraps_and_each_unwraps_its_own() {
        let (tenant, agent, random) = (TenantId::default_tenant(), AgentId::from_random(1), Random::new());
        let owner = Owner { tenant: &tenant, agent: &agent };
        let (keyring, remote) = (keyring(), remote());
        let (local_id, remote_id) = (keyring.primary().id().clone(), remote.id.clone());
        let mut keys = KeySet::of_provider(remote, Some(keyring), &random);
        let key = DataKey::generate(&random).unwrap();
        let by_remote = keys.wrap(&key, owner).await.unwrap();
        assert!(by_remote.kek == remote_id && keys.unwrap_now(&by_remote, owner).is_none());
        assert_eq!(keys.older_than_primary(), std::slice::from_ref(&local_id));

        assert!(keys.promote(&local_id) && !keys.promote(&KekId::from_random(1)));
        let by_local = keys.rewrap(&by_remote, owner).await.unwrap();
        assert!(by_local.kek == local_id && keys.unwrap_now(&by_local, owner).unwrap().is_ok());
        assert!(keys.older_than_primary().is_empty(), "that of a provider is the newest");
        assert_eq!(keys.all_but_primary(), [remote_id]);
        for wrapped in [&by_remote, &by_local] {
            assert_eq!(keys.unwrap(wrapped, owner).await.unwrap().expose(), key.expose());
        }
        let unknown = WrappedKey { kek: KekId::from_random(1), ..by_local };
        assert!(matches!(keys.unwrap(&unknown, owner).await, Err(ProviderError::UnknownKey(_))));
        assert!(matches!(keys.unwrap_now(&unknown, owner), Some(Err(UnwrapError::UnknownKey(_)))));
    }

    #[test]
    fn what_makes_a_difference_is_told() {
        let (keyring, remote, random) = (keyring(), remote(), Random::new());
        let of_keyring = KeySet::of_keyring(keyring.clone(), &random);
        let both = KeySet::of_provider(remote.clone(), Some(keyring.clone()), &random);
        let alone = KeySet::of_provider(remote.clone(), None, &random);
        let left = RemoteKey { wraps: false, ..remote.clone() };
        let by_keyring = KeySet::of_provider(left, Some(keyring.clone()), &random);
        assert!(
            by_keyring.older_than_primary().is_empty(),
            "nothing is taken from a provider without a word"
        );
        let mut promoted = both.clone();
        promoted.promote(keyring.primary().id());
        assert!(promoted.is_same(&by_keyring));
        let all = [of_keyring, both, alone, by_keyring];
        for (one, keys) in all.iter().enumerate() {
            for (other, them) in all.iter().enumerate() {
                assert_eq!(keys.is_same(them), one == other, "{one} {other}");
            }
        }
    }
}
