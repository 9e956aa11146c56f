//! Which calls are traced.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::trace::Context;

/// Decides by dice, and by what callers ask for.
pub(super) struct Sampler {
    /// So many of 2³² calls.
    of_calls: u64,
    callers: Option<DefaultDirectRateLimiter>,
    /// What the dice are: keyed hashes of what counts on. They need to be even, and not to be foretold; they cost no
    /// system call.
    thrown: AtomicU64,
    key: RandomState,
}

// === impl Sampler ===

impl Sampler {
    /// Of all calls this part, and this many a second because of their callers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 2³², so nothing is cut off but a fraction"
    )]
    pub(super) fn new(ratio: f64, callers: u32) -> Self {
        let of_calls = (ratio.clamp(0.0, 1.0) * 2_f64.powi(32)).round() as u64;
        let callers = NonZeroU32::new(callers).map(|callers| RateLimiter::direct(Quota::per_second(callers)));
        Self { of_calls, callers, thrown: AtomicU64::new(0), key: RandomState::new() }
    }

    /// Whether to trace a call of which this was sent. A caller can have his calls traced, and cannot keep them from it.
    pub(super) fn chooses(&self, sent: Option<&Context>) -> bool {
        let dice = self.key.hash_one(self.thrown.fetch_add(1, Ordering::Relaxed)) >> 32;
        let asks = sent.is_some_and(|context| context.is_sampled);
        dice < self.of_calls || (asks && self.callers.as_ref().is_some_and(|callers| callers.check().is_ok()))
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sampler")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(flags: &str) -> Context {
        Context::parse(&format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}")).unwrap()
    }

    fn chosen(sampler: &Sampler, sent: Option<&Context>, calls: usize) -> usize {
        (0..calls).filter(|_| sampler.chooses(sent)).count()
    }

    #[test]
    fn the_dice_choose_the_part_that_is_set() {
        assert_eq!(chosen(&Sampler::new(0.0, 0), None, 10_000), 0);
        assert_eq!(chosen(&Sampler::new(1.0, 0), Some(&sent("00")), 10_000), 10_000);
        // Five standard deviations: not once in a million runs
        let tenth = chosen(&Sampler::new(0.1, 0), None, 100_000);
        assert!((9_500..10_500).contains(&tenth), "{tenth}");
    }

    #[test]
    fn callers_are_heard_up_to_a_bound() {
        assert_eq!(chosen(&Sampler::new(0.0, 0), Some(&sent("01")), 100), 0);
        let few = chosen(&Sampler::new(0.0, 5), Some(&sent("01")), 1_000);
        assert!((5..20).contains(&few), "{few}");
        assert_eq!(chosen(&Sampler::new(0.0, 5), Some(&sent("00")), 100), 0);
        assert_eq!(chosen(&Sampler::new(0.0, 5), None, 100), 0);
    }
}
