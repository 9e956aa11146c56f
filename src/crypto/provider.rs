//! Who wraps data keys: the keyring itself, or a service that keeps its key-encryption keys to itself.

use std::fmt;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::key_bytes::KeyBytes;
use super::{CryptoError, DataKey, Keyring, Random, UnwrapError, WrappedKey};
use crate::domain::{AgentId, KekId, TenantId};

/// Whose a data key is. What was wrapped for one owner does not open for another.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'o> {
    /// The tenant.
    pub tenant: &'o TenantId,
    /// The agent.
    pub agent: &'o AgentId,
}

/// Wraps and unwraps data keys. To add one: these two calls, a setting that chooses it, and the suite that passes for all
/// (`tests/it/providers.rs`).
#[async_trait]
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// Wraps a data key by the newest key there is.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError>;

    /// Unwraps a data key.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError>;
}

/// Why a data key is not wrapped or unwrapped. No text of it holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// There is no key of this id.
    #[error("there is no key {0}")]
    UnknownKey(KekId),
    /// Changed, cut, moved from another agent, or wrapped by another key of this id.
    #[error("the wrapped data key does not open")]
    DoesNotOpen,
    /// It does not answer, or refuses to.
    #[error("{0}")]
    Unavailable(String),
    /// The computation could not be done.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A keyring as a provider.
#[derive(Clone, Debug)]
pub struct LocalKeys {
    keyring: Keyring,
    random: Random,
}

// === impl LocalKeys ===

impl LocalKeys {
    /// The keys of a keyring, and the randomness for nonces.
    #[must_use]
    pub fn new(keyring: Keyring, random: Random) -> Self {
        Self { keyring, random }
    }

    /// The keyring.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Makes a key the primary. See [`Keyring::promote`].
    pub fn promote(&mut self, id: &KekId) -> bool {
        self.keyring.promote(id)
    }
}

#[async_trait]
impl KeyProvider for LocalKeys {
    async fn wrap(&self, key: &DataKey, owner: Owner<'_>) -> Result<WrappedKey, ProviderError> {
        Ok(self.keyring.wrap(key, owner.tenant, owner.agent, &self.random)?)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, owner: Owner<'_>) -> Result<DataKey, ProviderError> {
        Ok(self.keyring.unwrap_key(wrapped, owner.tenant, owner.agent)?)
    }
}

// === impl DataKey ===

impl DataKey {
    /// The bytes of the key, for a provider outside this process to wrap.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// The key that a provider has unwrapped.
    ///
    /// # Errors
    /// [`ProviderError::DoesNotOpen`] when it is of another length than a key.
    pub fn from_unwrapped(bytes: &Zeroizing<Vec<u8>>) -> Result<Self, ProviderError> {
        let bytes = KeyBytes::from_slice(bytes).ok_or(ProviderError::DoesNotOpen)?;
        Ok(Self::new(bytes)?)
    }

    /// The key of a check value: all know it, so that one can tell whether a provider's key opens it.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn for_check() -> Result<Self, CryptoError> {
        let known = b"superserve/kek/provider-check/1!";
        KeyBytes::from_slice(known).ok_or(CryptoError::Refused).and_then(Self::new)
    }
}

// === impl ProviderError ===

impl From<UnwrapError> for ProviderError {
    fn from(error: UnwrapError) -> Self {
        match error {
            UnwrapError::UnknownKey(id) => Self::UnknownKey(id),
            UnwrapError::DoesNotOpen => Self::DoesNotOpen,
            UnwrapError::Crypto(error) => Self::Crypto(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn a_keyring_is_a_provider() {
        let random = Random::new();
        let keys = LocalKeys::new(Keyring::generate(&random, Timestamp(1)).unwrap(), random.clone());
        let (tenant, agent, other) =
            (TenantId::default_tenant(), AgentId::from_random(1), AgentId::from_random(2));
        let owner = Owner { tenant: &tenant, agent: &agent };
        let key = DataKey::generate(&random).unwrap();
        let wrapped = keys.wrap(&key, owner).await.unwrap();
        assert_eq!(keys.unwrap(&wrapped, owner).await.unwrap().expose(), key.expose());
        let foreign = keys.unwrap(&wrapped, Owner { agent: &other, ..owner }).await;
        assert_eq!(foreign.unwrap_err(), ProviderError::DoesNotOpen);
        let unknown = WrappedKey { kek: KekId::from_random(1), ..wrapped };
        let id = unknown.kek.clone();
        assert_eq!(keys.unwrap(&unknown, owner).await.unwrap_err(), ProviderError::UnknownKey(id));
    }

    #[test]
    fn only_a_key_is_unwrapped_to_a_key() {
        assert!(DataKey::from_unwrapped(&Zeroizing::new(vec![1; 31])).is_err());
        assert!(DataKey::from_unwrapped(&Zeroizing::new(vec![1; 32])).is_ok());
        assert_eq!(DataKey::for_check().unwrap().expose().len(), 32);
    }
}
