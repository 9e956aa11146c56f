//! Who has how many places, and by what callers are known before they are known.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hashlink::LruCache;

/// The most callers that are remembered.
const CALLERS: usize = 65_536;

/// Whose calls are those of whom nothing is remembered: together they are one.
pub(super) const NOBODY_KNOWN: u64 = 0;

/// How many places each tenant has. Only those that have some are kept.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<u64, i64>>);

/// Whose the calls were by which something was shown. It is a guess by which places are given, and nothing else: who calls
/// is found out afterwards.
pub(super) struct Known {
    callers: Mutex<LruCache<u64, u64>>,
    /// Makes of a tenant, and of what was shown, a number that nobody outside can compute.
    hasher: RandomState,
}

// === impl Shares ===

impl Shares {
    /// Whether a tenant has its share of so many places, or more: as many as there were for each if there were one more
    /// who has some. `None` where nobody else has any: then there is nothing to share.
    pub(super) fn is_over(&self, tenant: u64, places: i64) -> Option<bool> {
        let held = self.held();
        let own = held.get(&tenant).copied().unwrap_or_default();
        let others = held.len() - usize::from(own > 0);
        if others == 0 {
            return None;
        }
        let sharers = i64::try_from(held.len()).unwrap_or(i64::MAX).saturating_add(1);
        Some(own >= (places / sharers).max(1))
    }

    /// How many places a tenant has, and how many tenants have some.
    pub(super) fn of(&self, tenant: u64) -> (usize, usize) {
        let held = self.held();
        let own = held.get(&tenant).copied().unwrap_or_default();
        (usize::try_from(own).unwrap_or_default(), held.len())
    }

    pub(super) fn take(&self, tenant: u64) {
        *self.held().entry(tenant).or_default() += 1;
    }

    pub(super) fn give_back(&self, tenant: u64) {
        let mut held = self.held();
        if let Some(count) = held.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                held.remove(&tenant);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u64, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Known ===

impl Known {
    pub(super) fn new() -> Self {
        Self { callers: Mutex::new(LruCache::new(CALLERS)), hasher: RandomState::new() }
    }

    /// A tenant's number.
    pub(super) fn number_of(&self, tenant: &str) -> u64 {
        self.hasher.hash_one(tenant).max(NOBODY_KNOWN + 1)
    }

    /// Whose call it seems to be.
    pub(super) fn tenant_of(&self, shown: &[&[u8]; 2]) -> u64 {
        let caller = self.hasher.hash_one(shown);
        self.callers().get(&caller).copied().unwrap_or(NOBODY_KNOWN)
    }

    pub(super) fn remember(&self, shown: &[&[u8]; 2], tenant: u64) {
        let caller = self.hasher.hash_one(shown);
        self.callers().insert(caller, tenant);
    }

    fn callers(&self) -> MutexGuard<'_, LruCache<u64, u64>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_becomes_smaller_with_those_who_have_one() {
        let shares = Shares::default();
        for _ in 0..60 {
            shares.take(1);
        }
        assert_eq!(shares.is_over(1, 64), None, "he is alone");
        assert_eq!(shares.is_over(2, 64), Some(false));
        shares.take(2);
        assert_eq!(shares.is_over(1, 64), Some(true));
        for _ in 0..20 {
            shares.take(2);
        }
        assert_eq!(shares.is_over(2, 64), Some(true), "a third of the places are his");
        assert_eq!(shares.is_over(3, 64), Some(false));
        for _ in 0..21 {
            shares.give_back(2);
        }
        assert_eq!(shares.held().len(), 1, "who has none is forgotten");
    }

    #[test]
    fn a_caller_is_known_again_by_what_he_shows() {
        let known = Known::new();
        let one = known.number_of("ten_one");
        known.remember(&[b"Bearer one", b""], one);
        assert_eq!(known.tenant_of(&[b"Bearer one", b""]), one);
        assert_eq!(known.tenant_of(&[b"Bearer one", b"ten_other"]), NOBODY_KNOWN);
        assert_ne!(one, known.number_of("ten_other"));
    }
}
