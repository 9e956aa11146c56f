//! Limits how often a source may show what makes nobody known: guesses, or a flood that the database would be asked for.
//!
//! Failures are counted by the address that they come from. Where there are too many, what comes from there is refused
//! unasked, but for those who were known there lately: a proxy is one source for all who come through it. As long as
//! nobody fails, nothing here is touched but one flag; and what is kept is bounded, whoever comes from wherever.

use std::{
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hashlink::LruCache;

use super::source::Source;
use crate::service::Error;

/// For how long failures of a source are counted, from the first on. Then it begins anew.
const WINDOW: Duration = Duration::from_mins(1);

/// For how many windows somebody who was known goes on while his source is refused.
const GOOD_FOR: u32 = 60;

/// The most sources that are kept; those that failed first are forgotten first.
const SOURCES: usize = 65_536;

/// The most callers that are kept, of all sources.
const CALLERS: usize = 65_536;

/// Who has failed, and from where.
pub(super) struct Guesses {
    /// `None` for no limit.
    most: Option<NonZeroU32>,
    window: Duration,
    /// Whether any source has failures: where none has, the rest is not looked at.
    any: AtomicBool,
    kept: Mutex<Kept>,
    /// Makes of a source and what was shown there a number that nobody outside can compute.
    hasher: RandomState,
}

struct Kept {
    /// In the order in which their windows began.
    failures: LruCache<Source, Failures>,
    /// Who was known, at a source that has failures, and when.
    good: LruCache<u64, Instant>,
}

struct Failures {
    count: u32,
    since: Instant,
}

/// What is to be noted of a call that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// Only if it fails.
    Failure,
    /// Also if it does not: others from there have failed.
    Both,
}

// === impl Guesses ===

impl Guesses {
    /// So many failures a minute, of each source.
    pub(super) fn new(most: Option<NonZeroU32>) -> Self {
        Self::bounded(most, SOURCES, CALLERS)
    }

    fn bounded(most: Option<NonZeroU32>, sources: usize, callers: usize) -> Self {
        let kept = Kept { failures: LruCache::new(sources), good: LruCache::new(callers) };
        let (any, kept) = (AtomicBool::new(false), Mutex::new(kept));
        Self { most, window: WINDOW, any, kept, hasher: RandomState::new() }
    }

    /// Lets a call in, before it is found out who makes it, or refuses it.
    pub(super) fn admit(&self, source: Source, shown: &[u8]) -> Result<Noted, Error> {
        if self.any.load(Ordering::Relaxed) {
            self.admit_at(source, shown, Instant::now())
        } else {
            Ok(Noted::Failure)
        }
    }

    /// Notes what became of a call that was let in.
    pub(super) fn note<T>(&self, source: Source, shown: &[u8], noted: Noted, outcome: &Result<T, Error>) {
        match (outcome, noted) {
            (Err(Error::Unauthenticated), _) => self.failed_at(source, shown, Instant::now()),
            (Ok(_), Noted::Both) => self.succeeded_at(source, shown, Instant::now()),
            // Where it was not found out who calls, it was not found out that he is nobody
            (Ok(_), Noted::Failure) | (Err(_), _) => {}
        }
    }

    fn admit_at(&self, source: Source, shown: &[u8], now: Instant) -> Result<Noted, Error> {
        let mut kept = self.kept();
        self.forget(&mut kept, now);
        let Some(Failures { count, since }) = kept.failures.peek(&source) else { return Ok(Noted::Failure) };
        let is_over = self.most.is_some_and(|most| *count >= most.get());
        let ends = *since + self.window;
        if is_over && !self.is_good(&kept, source, shown, now) {
            return Err(Error::RateLimited { retry_after: ends.saturating_duration_since(now) });
        }
        Ok(Noted::Both)
    }

    fn is_good(&self, kept: &Kept, source: Source, shown: &[u8], now: Instant) -> bool {
        let known = kept.good.peek(&self.caller(source, shown));
        known.is_some_and(|at| now.saturating_duration_since(*at) < self.window * GOOD_FOR)
    }

    fn failed_at(&self, source: Source, shown: &[u8], now: Instant) {
        let Some(most) = self.most else { return };
        let mut kept = self.kept();
        self.forget(&mut kept, now);
        // A token that was revoked is a guess from now on
        kept.good.remove(&self.caller(source, shown));
        let count = if let Some(failures) = kept.failures.peek_mut(&source) {
            failures.count = failures.count.saturating_add(1);
            failures.count
        } else {
            kept.failures.insert(source, Failures { count: 1, since: now });
            1
        };
        self.any.store(true, Ordering::Relaxed);
        drop(kept);
        if count == most.get() {
            tracing::warn!(?source, failures = count, "too many failed authentications: a source is refused");
        }
    }

    fn succeeded_at(&self, source: Source, shown: &[u8], now: Instant) {
        let caller = self.caller(source, shown);
        self.kept().good.insert(caller, now);
    }

    /// Forgets the sources whose windows have ended.
    fn forget(&self, kept: &mut Kept, now: Instant) {
        let has_ended = |failures: &Failures| now.saturating_duration_since(failures.since) >= self.window;
        while kept.failures.iter().next().is_some_and(|(_, failures)| has_ended(failures)) {
            kept.failures.remove_lru();
        }
        if kept.failures.is_empty() {
            self.any.store(false, Ordering::Relaxed);
        }
    }

    fn caller(&self, source: Source, shown: &[u8]) -> u64 {
        self.hasher.hash_one((source, shown))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const GOOD: &[u8] = b"Bearer good";

    /// Guesses with a clock that a test sets.
    struct Case {
        guesses: Guesses,
        now: Instant,
    }

    impl Case {
        fn new(most: u32) -> Self {
            Self { guesses: Guesses::new(NonZeroU32::new(most)), now: Instant::now() }
        }

        fn admit(&self, source: Source, shown: &[u8]) -> Result<Noted, Duration> {
            if !self.guesses.any.load(Ordering::Relaxed) {
                return Ok(Noted::Failure);
            }
            self.guesses.admit_at(source, shown, self.now).map_err(|error| {
                let Error::RateLimited { retry_after } = error else { panic!("{error}") };
                retry_after
            })
        }

        /// How many sources and callers are kept.
        fn kept(&self) -> (usize, usize) {
            let kept = self.guesses.kept();
            (kept.failures.len(), kept.good.len())
        }

        fn fail(&self, source: Source, times: u32) {
            for n in 0..times {
                self.guesses.failed_at(source, &n.to_be_bytes(), self.now);
            }
        }
    }

    fn source(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[test]
    fn a_source_that_fails_too_often_is_refused_until_its_window_ends() {
        let (mut case, here, there) = (Case::new(3), source("192.0.2.1"), source("192.0.2.2"));
        case.fail(here, 2);
        assert_eq!(case.admit(here, b"new"), Ok(Noted::Both));
        case.now += Duration::from_secs(20);
        case.fail(here, 1);
        assert_eq!(case.admit(here, b"new"), Err(Duration::from_secs(40)));
        assert_eq!(case.admit(there, b"new"), Ok(Noted::Failure));
        case.now += Duration::from_secs(39);
        assert_eq!(case.admit(here, b"new"), Err(Duration::from_secs(1)));
        case.now += Duration::from_secs(1);
        assert_eq!(case.admit(here, b"new"), Ok(Noted::Failure));
        assert!(!case.guesses.any.load(Ordering::Relaxed), "nothing is left to look at");
    }

    #[test]
    fn who_was_known_at_a_source_goes_on_there() {
        let (mut case, here, there) = (Case::new(3), source("192.0.2.1"), source("192.0.2.2"));
        case.fail(here, 1);
        case.guesses.note(here, GOOD, case.admit(here, GOOD).unwrap(), &Ok(()));
        case.fail(here, 9);
        case.fail(there, 9);
        assert_eq!(case.admit(here, GOOD), Ok(Noted::Both));
        case.admit(here, b"Bearer bad").unwrap_err();
        case.admit(there, GOOD).unwrap_err();
        // In the next windows too, for an hour; but not once it is refused itself
        case.now += Duration::from_mins(50);
        case.fail(here, 9);
        assert_eq!(case.admit(here, GOOD), Ok(Noted::Both));
        case.now += Duration::from_mins(15);
        case.fail(here, 9);
        case.admit(here, GOOD).unwrap_err();
        case.guesses.succeeded_at(here, GOOD, case.now);
        assert_eq!(case.admit(here, GOOD), Ok(Noted::Both));
        case.guesses.failed_at(here, GOOD, case.now);
        case.admit(here, GOOD).unwrap_err();
    }

    #[test]
    fn nothing_is_kept_where_nobody_fails() {
        let case = Case::new(3);
        let here = source("192.0.2.1");
        case.guesses.note(here, GOOD, case.guesses.admit(here, GOOD).unwrap(), &Ok(()));
        // Neither is what says nothing of the caller
        case.guesses.note::<()>(here, GOOD, Noted::Both, &Err(Error::TimedOut));
        assert!(!case.guesses.any.load(Ordering::Relaxed));
        assert_eq!(case.kept(), (0, 0));
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let case = Case::new(0);
        case.fail(source("192.0.2.1"), 100);
        assert!(!case.guesses.any.load(Ordering::Relaxed));
        assert_eq!(case.guesses.admit(source("192.0.2.1"), b"new").ok(), Some(Noted::Failure));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut case = Case::new(1);
        case.guesses = Guesses::bounded(NonZeroU32::new(1), 100, 10);
        let sources = (0..1000_u32).map(|n| Source::V4(Ipv4Addr::from(n)));
        for source in sources.clone() {
            case.fail(source, 1);
            case.guesses.succeeded_at(source, GOOD, case.now);
        }
        assert_eq!(case.kept(), (100, 10));
        let refused = sources.filter(|source| case.admit(*source, b"new").is_err()).collect::<Vec<_>>();
        assert_eq!((refused.len(), refused[0]), (100, Source::V4(Ipv4Addr::from(900))));
    }
}
