//! Limits how often a source may show what makes nobody known: guesses, or a flood that the database would be asked for.
//!
//! Failures are counted by the address that they come from. Where there are too many, what comes from there is refused
//! unasked, but for those who were known there lately: a proxy is one source for all who come through it. As long as
//! nobody fails, nobody waits for a lock here; and what is kept is bounded, whoever comes from wherever.

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

use super::{known::Known, source::Source};
use crate::service::Error;

/// For how long failures of a source are counted, from the first on. Then it begins anew.
const WINDOW: Duration = Duration::from_mins(1);

/// The most sources that are kept; those that failed first are forgotten first.
const SOURCES: usize = 65_536;

/// Who has failed, and from where.
pub(super) struct Guesses {
    /// `None` for no limit.
    most: Option<NonZeroU32>,
    window: Duration,
    /// A call that takes so long is ended here, and not by who makes it.
    patience: Duration,
    /// Whether any source has failures: where none has, they are not looked at.
    any: AtomicBool,
    /// In the order in which their windows began.
    failures: Mutex<LruCache<Source, Failures>>,
    known: Known,
    /// Makes of a source and what was shown there a number that nobody outside can compute.
    hasher: RandomState,
}

struct Failures {
    count: u32,
    since: Instant,
}

/// A call that was let in, of which it is not known yet who makes it. Given up, it counts as a failure, unless its caller
/// is known: else who hangs up soon enough would guess as often as he likes.
pub(super) struct Attempt<'g> {
    guesses: &'g Guesses,
    source: Source,
    caller: u64,
    since: Instant,
    is_settled: bool,
}

// === impl Guesses ===

impl Guesses {
    /// So many failures a minute, of each source.
    pub(super) fn new(most: Option<NonZeroU32>, patience: Duration) -> Self {
        Self::bounded(most, patience, SOURCES)
    }

    fn bounded(most: Option<NonZeroU32>, patience: Duration, sources: usize) -> Self {
        Self {
            most,
            window: WINDOW,
            patience,
            any: AtomicBool::new(false),
            failures: Mutex::new(LruCache::new(sources)),
            known: Known::default(),
            hasher: RandomState::new(),
        }
    }

    /// Lets a call in, before it is found out who makes it, or refuses it.
    pub(super) fn admit(&self, source: Source, shown: &[u8]) -> Result<Attempt<'_>, Error> {
        self.admit_at(source, shown, Instant::now())
    }

    fn admit_at(&self, source: Source, shown: &[u8], now: Instant) -> Result<Attempt<'_>, Error> {
        let caller = self.hasher.hash_one((source, shown));
        if self.any.load(Ordering::Relaxed)
            && let Some(ends) = self.refused_until(source, now)
            && !self.known.is_known(caller, now)
        {
            return Err(Error::RateLimited { retry_after: ends.saturating_duration_since(now) });
        }
        Ok(Attempt { guesses: self, source, caller, since: now, is_settled: false })
    }

    /// Until when a source is refused, if it is.
    fn refused_until(&self, source: Source, now: Instant) -> Option<Instant> {
        let mut kept = self.kept();
        self.forget(&mut kept, now);
        let Failures { count, since } = kept.peek(&source)?;
        (*count >= self.most?.get()).then(|| *since + self.window)
    }

    fn failed_at(&self, source: Source, now: Instant) {
        let Some(most) = self.most else { return };
        let mut kept = self.kept();
        self.forget(&mut kept, now);
        let count = if let Some(failures) = kept.peek_mut(&source) {
            failures.count = failures.count.saturating_add(1);
            failures.count
        } else {
            kept.insert(source, Failures { count: 1, since: now });
            1
        };
        self.any.store(true, Ordering::Relaxed);
        drop(kept);
        if count == most.get() {
            tracing::warn!(?source, failures = count, "too many failed authentications: a source is refused");
        }
    }

    /// Forgets the sources whose windows have ended.
    fn forget(&self, kept: &mut LruCache<Source, Failures>, now: Instant) {
        let has_ended = |failures: &Failures| now.saturating_duration_since(failures.since) >= self.window;
        while kept.iter().next().is_some_and(|(_, failures)| has_ended(failures)) {
            kept.remove_lru();
        }
        if kept.is_empty() {
            self.any.store(false, Ordering::Relaxed);
        }
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Source, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// Notes what became of it. Where it was not found out who calls, it was not found out that he is nobody.
    pub(super) fn settle<T>(self, outcome: &Result<T, Error>) {
        self.settle_at(outcome, Instant::now());
    }

    fn settle_at<T>(mut self, outcome: &Result<T, Error>, now: Instant) {
        self.is_settled = true;
        let Self { guesses, source, caller, .. } = self;
        match outcome {
            Ok(_) => guesses.known.note(caller, now),
            Err(Error::Unauthenticated) => {
                // A token that was revoked is a guess from now on
                guesses.known.forget(caller);
                guesses.failed_at(source, now);
            }
            Err(_) => {}
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let is_ours = now.saturating_duration_since(self.since) >= self.guesses.patience;
        if !self.is_settled && !is_ours && !self.guesses.known.is_known(self.caller, now) {
            self.guesses.failed_at(self.source, now);
        }
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
            Self {
                guesses: Guesses::new(NonZeroU32::new(most), Duration::from_secs(30)),
                now: Instant::now(),
            }
        }

        /// A call that comes to this, if it is let in; else in how long the next one may come.
        fn call(&self, source: Source, shown: &[u8], outcome: &Result<(), Error>) -> Result<(), Duration> {
            let attempt = self.guesses.admit_at(source, shown, self.now).map_err(|error| {
                let Error::RateLimited { retry_after } = error else { panic!("{error}") };
                retry_after
            })?;
            attempt.settle_at(outcome, self.now);
            Ok(())
        }

        fn succeed(&self, source: Source, shown: &[u8]) -> Result<(), Duration> {
            self.call(source, shown, &Ok(()))
        }

        fn fail(&self, source: Source, times: u32) {
            for _ in 0..times {
                self.guesses.failed_at(source, self.now);
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
        assert_eq!(case.call(here, b"new", &Err(Error::TimedOut)), Ok(()));
        case.now += Duration::from_secs(20);
        case.fail(here, 1);
        assert_eq!(case.succeed(here, b"new"), Err(Duration::from_secs(40)));
        assert_eq!(case.succeed(there, b"new"), Ok(()));
        case.now += Duration::from_secs(39);
        assert_eq!(case.succeed(here, b"new"), Err(Duration::from_secs(1)));
        case.now += Duration::from_secs(1);
        assert_eq!(case.succeed(here, b"new"), Ok(()));
        assert!(!case.guesses.any.load(Ordering::Relaxed), "nothing is left to look at");
    }

    #[test]
    fn who_was_known_at_a_source_goes_on_there() {
        let (mut case, here, there) = (Case::new(3), source("192.0.2.1"), source("192.0.2.2"));
        // Before anybody has failed: the others are many, and come within a moment
        case.succeed(here, GOOD).unwrap();
        case.fail(here, 9);
        case.fail(there, 9);
        assert_eq!(case.succeed(here, GOOD), Ok(()));
        case.succeed(here, b"Bearer bad").unwrap_err();
        case.succeed(there, GOOD).unwrap_err();
        case.now += Duration::from_mins(50);
        case.fail(here, 9);
        assert_eq!(case.call(here, GOOD, &Err(Error::Unauthenticated)), Ok(()));
        // Once it is refused itself it is a guess
        case.succeed(here, GOOD).unwrap_err();
    }

    #[test]
    fn who_hangs_up_has_guessed_unless_he_is_known() {
        let (case, here) = (Case::new(2), source("192.0.2.1"));
        case.succeed(here, GOOD).unwrap();
        for _ in 0..9 {
            drop(case.guesses.admit_at(here, GOOD, case.now).ok().unwrap());
        }
        for _ in 0..2 {
            drop(case.guesses.admit_at(here, b"Bearer bad", case.now).ok().unwrap());
        }
        case.succeed(here, b"Bearer new").unwrap_err();
        case.succeed(here, GOOD).unwrap();
    }

    #[test]
    fn who_is_let_wait_too_long_has_not_guessed() {
        let (case, here) = (Case::new(1), source("192.0.2.1"));
        let began = case.now.checked_sub(Duration::from_secs(31)).unwrap();
        drop(case.guesses.admit_at(here, b"Bearer slow", began).ok().unwrap());
        case.succeed(here, b"Bearer new").unwrap();
    }

    #[test]
    fn what_says_nothing_of_the_caller_is_no_failure() {
        let (case, here) = (Case::new(1), source("192.0.2.1"));
        for _ in 0..9 {
            case.call(here, GOOD, &Err(Error::TimedOut)).unwrap();
        }
        assert!(!case.guesses.any.load(Ordering::Relaxed));
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let case = Case::new(0);
        case.fail(source("192.0.2.1"), 100);
        assert!(!case.guesses.any.load(Ordering::Relaxed));
        assert_eq!(case.succeed(source("192.0.2.1"), b"new"), Ok(()));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut case = Case::new(1);
        case.guesses = Guesses::bounded(NonZeroU32::new(1), Duration::from_secs(30), 100);
        let sources = (0..1000_u32).map(|n| Source::V4(Ipv4Addr::from(n)));
        for source in sources.clone() {
            case.fail(source, 1);
        }
        assert_eq!(case.guesses.kept().len(), 100);
        let refused = sources.filter(|source| case.succeed(*source, b"new").is_err()).collect::<Vec<_>>();
        assert_eq!((refused.len(), refused[0]), (100, Source::V4(Ipv4Addr::from(900))));
    }
}
