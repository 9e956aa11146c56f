//! How often each token and each address may call. What has not called for a while is forgotten, so what is kept is at
//! most those who called lately.

use std::{
    fmt::Display,
    hash::Hash,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};

use super::seldom::Seldom;
use crate::service::Error;

/// After so many limited calls, those that have not called for a while are forgotten.
const SWEEP_EVERY: u32 = 10_000;

/// Calls a second of each of many, with bursts of as many.
pub(super) struct Rates<Key: Clone + Eq + Hash>(Option<Limiter<Key>>);

struct Limiter<Key: Clone + Eq + Hash> {
    of_each: RateLimiter<Key, HashMapStateStore<Key>, DefaultClock>,
    calls: AtomicU32,
    setting: &'static str,
    told: Seldom,
}

// === impl Rates ===

impl<Key: Clone + Display + Eq + Hash> Rates<Key> {
    /// So many calls a second, as this setting has it; `None` for no limit.
    pub(super) fn new(setting: &'static str, per_second: Option<NonZeroU32>) -> Self {
        Self(per_second.map(|per_second| Limiter {
            of_each: RateLimiter::hashmap(Quota::per_second(per_second)),
            calls: AtomicU32::new(0),
            setting,
            told: Seldom::default(),
        }))
    }

    /// Counts a call; `key` is asked for only where there is a limit.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when there are too many.
    pub(super) fn check(&self, key: impl FnOnce() -> Option<Key>) -> Result<(), Error> {
        let Some(Limiter { of_each, calls, setting, told }) = &self.0 else { return Ok(()) };
        let Some(key) = key() else { return Ok(()) };
        if calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            of_each.retain_recent();
            of_each.shrink_to_fit();
        }
        let refused = match of_each.check_key(&key) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if told.allows() {
            tracing::warn!(caller = %key, setting, "somebody calls more often than he may");
        }
        Err(Error::RateLimited { retry_after: refused.wait_time_from(DefaultClock::default().now()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_rate_of_its_own() {
        let rates = Rates::new("--limit", NonZeroU32::new(2));
        let allowed = |key| rates.check(|| Some(key)).is_ok();
        assert_eq!([allowed(1), allowed(1), allowed(1), allowed(2)], [true, true, false, true]);
        assert!(rates.check(|| None::<i32>).is_ok());
        let Err(Error::RateLimited { retry_after }) = rates.check(|| Some(1)) else {
            panic!("it is refused")
        };
        assert!(retry_after.as_millis() <= 1000, "{retry_after:?}");
    }

    #[test]
    fn without_a_limit_nobody_is_asked_for() {
        let rates = Rates::<i32>::new("--limit", None);
        assert!(rates.check(|| panic!("it is not asked for")).is_ok());
    }

    #[test]
    fn who_called_long_ago_is_forgotten() {
        let rates = Rates::new("--limit", NonZeroU32::new(1_000_000));
        for key in 0..3 * SWEEP_EVERY {
            rates.check(|| Some(key)).unwrap();
        }
        // At a million calls a second one is recent for a microsecond
        let kept = rates.0.unwrap().of_each.len();
        assert!(kept <= usize::try_from(SWEEP_EVERY + 1).unwrap(), "{kept} are kept");
    }
}
