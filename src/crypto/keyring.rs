//! The key-encryption keys of an installation.

use std::{fmt, iter, sync::Arc};

use super::kek::{Kek, check_value_fingerprint};
use super::{CryptoError, KekState, KeyCheck, Random};
use crate::domain::{KekId, Timestamp};

/// Key-encryption keys with different ids, one of them primary. There is no empty keyring. A clone shares the keys.
#[derive(Clone)]
pub struct Keyring {
    pub(super) primary: Arc<Kek>,
    pub(super) others: Vec<Arc<Kek>>,
}

/// What may be told of one key of a keyring.
#[derive(Clone, Copy)]
pub struct KeyEntry<'a> {
    pub(super) kek: &'a Kek,
    state: KekState,
}

// === impl Keyring ===

impl Keyring {
    /// Makes a keyring of one new key.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn generate(random: &Random, now: Timestamp) -> Result<Self, CryptoError> {
        Ok(Self { primary: Arc::new(Kek::generate(random, now)?), others: Vec::new() })
    }

    /// Adds a new key, which is decrypt-only, and says its id. It counts as the newest even where the clock was set
    /// back, or another machine's was ahead.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`]; the keyring is then as it was.
    pub fn add_key(&mut self, random: &Random, now: Timestamp) -> Result<KekId, CryptoError> {
        let after_all = Timestamp(self.newest().created_at().0.saturating_add(1));
        let kek = Kek::generate(random, now.max(after_all))?;
        let id = kek.id.clone();
        self.others.push(Arc::new(kek));
        Ok(id)
    }

    /// Makes a key the primary; the one before decrypts from then on. Says whether there is a key of this id.
    pub fn promote(&mut self, id: &KekId) -> bool {
        if self.primary.id == *id {
            return true;
        }
        let Some(other) = self.others.iter_mut().find(|kek| kek.id == *id) else { return false };
        std::mem::swap(&mut self.primary, other);
        true
    }

    /// Removes a key that only decrypts, and says whether there was one of this id.
    pub fn remove(&mut self, id: &KekId) -> bool {
        let before = self.others.len();
        self.others.retain(|kek| kek.id != *id);
        self.others.len() < before
    }

    /// The key that was made last; the primary one, if another was made at the same time.
    #[must_use]
    pub fn newest(&self) -> KeyEntry<'_> {
        let made = |entry: &KeyEntry<'_>| (entry.created_at(), entry.state() == KekState::Primary);
        self.entries().max_by_key(made).unwrap_or(self.primary())
    }

    /// The keys that were made before the primary one.
    pub fn older_than_primary(&self) -> impl Iterator<Item = KeyEntry<'_>> {
        self.entries().filter(|entry| entry.created_at() < self.primary.created_at)
    }

    /// The key that wraps.
    #[must_use]
    pub fn primary(&self) -> KeyEntry<'_> {
        KeyEntry { kek: &self.primary, state: KekState::Primary }
    }

    /// All keys, the primary one first.
    pub fn entries(&self) -> impl Iterator<Item = KeyEntry<'_>> {
        let others = self.others.iter().map(|kek| KeyEntry { kek, state: KekState::DecryptOnly });
        iter::once(self.primary()).chain(others)
    }

    /// Whether another one has the same keys in the same states.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let has = |entry: KeyEntry<'_>| {
            self.get(entry.id()).is_some_and(|own| {
                own.state() == entry.state() && own.kek.check(&entry.check_value()) == KeyCheck::Right
            })
        };
        self.others.len() == other.others.len() && other.entries().all(has)
    }

    /// The key of this id.
    #[must_use]
    pub fn get(&self, id: &KekId) -> Option<KeyEntry<'_>> {
        self.entries().find(|entry| entry.id() == id)
    }

    /// Whether the key of this id is the one whose check value a database holds; told in constant time.
    #[must_use]
    pub fn verify(&self, id: &KekId, check_value: &[u8]) -> KeyCheck {
        self.get(id).map_or(KeyCheck::Unknown, |entry| entry.kek.check(check_value))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

// === impl KeyEntry ===

impl<'a> KeyEntry<'a> {
    /// Its id.
    #[must_use]
    pub fn id(self) -> &'a KekId {
        &self.kek.id
    }

    /// What it is used for.
    #[must_use]
    pub fn state(self) -> KekState {
        self.state
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        self.kek.created_at
    }

    /// What the database keeps to know this key again: it says nothing else about the key.
    #[must_use]
    pub fn check_value(self) -> [u8; 32] {
        self.kek.check_value
    }

    /// Twelve hex digits of the check value, safe to print: what people compare.
    #[must_use]
    pub fn fingerprint(self) -> String {
        check_value_fingerprint(&self.kek.check_value)
    }
}

impl fmt::Debug for KeyEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEntry")
            .field("id", self.id())
            .field("state", &self.state)
            .field("created_at", &self.created_at())
            .field("fingerprint", &self.fingerprint())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::DataKey,
        domain::{AgentId, TenantId},
    };

    fn keyring() -> Keyring {
        Keyring::generate(&Random::new(), Timestamp(1)).unwrap()
    }

    #[test]
    fn a_new_key_only_decrypts() {
        let mut keyring = keyring();
        let first = keyring.primary().id().clone();
        let second = keyring.add_key(&Random::new(), Timestamp(2)).unwrap();
        assert_eq!(keyring.get(&second).unwrap().created_at(), Timestamp(2));
        let states: Vec<_> = keyring.entries().map(|key| (key.id().clone(), key.state())).collect();
        assert_eq!(states, [(first, KekState::Primary), (second, KekState::DecryptOnly)]);
    }

    #[test]
    fn the_newest_is_made_primary_and_the_one_before_still_opens() {
        let (tenant, agent, random) = (TenantId::default_tenant(), AgentId::from_random(1), Random::new());
        let mut keyring = keyring();
        let first = keyring.primary().id().clone();
        assert_eq!(keyring.newest().id(), &first);
        let second = keyring.add_key(&random, Timestamp(3)).unwrap();
        // By a clock that is behind
        let third = keyring.add_key(&random, Timestamp(2)).unwrap();
        assert_eq!((keyring.newest().id(), keyring.newest().created_at()), (&third, Timestamp(4)));
        let key = DataKey::generate(&random).unwrap();
        let wrapped = keyring.wrap(&key, &tenant, &agent, &random).unwrap();

        assert!(keyring.promote(&third) && keyring.promote(&third));
        assert_eq!((keyring.primary().id(), keyring.newest().id()), (&third, &third));
        assert_eq!(keyring.get(&first).unwrap().state(), KekState::DecryptOnly);
        assert!(keyring.unwrap_key(&wrapped, &tenant, &agent).is_ok());
        assert!(!keyring.promote(&KekId::from_random(1)));
        assert_eq!(keyring.older_than_primary().count(), 2);
        assert!(keyring.promote(&second));
        assert_eq!(keyring.older_than_primary().map(KeyEntry::id).collect::<Vec<_>>(), [&first]);
        assert!(keyring.promote(&third));

        assert!(!keyring.remove(&third), "it is the primary");
        assert!(keyring.remove(&second) && !keyring.remove(&second));
        assert_eq!(keyring.entries().count(), 2);
    }

    #[test]
    fn of_keys_made_at_one_time_none_takes_the_place_of_the_primary() {
        let mut keyring = keyring();
        let other = Kek::generate(&Random::new(), Timestamp(1)).unwrap();
        keyring.others.push(Arc::new(other));
        assert_eq!(keyring.newest().id(), keyring.primary().id());
        assert_eq!(keyring.older_than_primary().count(), 0);
    }

    #[test]
    fn keyrings_are_the_same_with_the_same_keys_in_the_same_states() {
        let mut one = keyring();
        let before = one.clone();
        assert!(one.is_same(&before) && !one.is_same(&keyring()));
        let added = one.add_key(&Random::new(), Timestamp(2)).unwrap();
        assert!(!one.is_same(&before) && !before.is_same(&one));
        let mut promoted = one.clone();
        promoted.promote(&added);
        assert!(!promoted.is_same(&one));
        promoted.promote(before.primary().id());
        assert!(promoted.is_same(&one));
    }

    #[test]
    fn the_check_value_tells_the_key() {
        let (one, other) = (keyring(), keyring());
        let key = one.primary();
        assert_eq!(one.verify(key.id(), &key.check_value()), KeyCheck::Right);
        assert_eq!(one.verify(key.id(), &other.primary().check_value()), KeyCheck::Wrong);
        assert_eq!(one.verify(key.id(), &key.check_value()[..31]), KeyCheck::Wrong);
        assert_eq!(one.verify(key.id(), &[]), KeyCheck::Wrong);
        assert_eq!(other.verify(key.id(), &key.check_value()), KeyCheck::Unknown);
        assert_eq!(check_value_fingerprint(&key.check_value()), key.fingerprint());
        assert_eq!(key.fingerprint().len(), 12);
    }
}
