//! Who was known lately, and where: a table of numbers that grows with nobody.
//!
//! Each call that succeeds looks at one place of it and, once a minute for each caller, writes there. Two who share a
//! place displace each other: he who was displaced is not known until he calls again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// For so many minutes somebody counts as known.
const KNOWN_FOR: u64 = 60;

/// How many places there are: half a megabyte, of which only what is written to takes memory.
const PLACES: usize = 65_536;

/// The low bits of a place: the minute in which its caller was seen, from 1 on. The others are his own.
const MINUTE: u64 = 0xffff;

/// Callers by the number that a source and what was shown there make.
pub(super) struct Known {
    places: Box<[AtomicU64]>,
    began: Instant,
}

impl Known {
    /// Somebody is known.
    pub(super) fn note(&self, caller: u64, now: Instant) {
        let Some(place) = self.place(caller) else { return };
        let seen = (caller & !MINUTE) | self.minute(now);
        if place.load(Ordering::Relaxed) != seen {
            place.store(seen, Ordering::Relaxed);
        }
    }

    /// Somebody is known no more.
    pub(super) fn forget(&self, caller: u64) {
        if let Some(place) = self.place(caller)
            && place.load(Ordering::Relaxed) & !MINUTE == caller & !MINUTE
        {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Whether somebody was known lately.
    pub(super) fn is_known(&self, caller: u64, now: Instant) -> bool {
        let seen = self.place(caller).map_or(0, |place| place.load(Ordering::Relaxed));
        let age = self.minute(now).wrapping_sub(seen) & MINUTE;
        seen != 0 && seen & !MINUTE == caller & !MINUTE && age <= KNOWN_FOR
    }

    fn place(&self, caller: u64) -> Option<&AtomicU64> {
        self.places.get(usize::try_from(caller & MINUTE).ok()?)
    }

    fn minute(&self, now: Instant) -> u64 {
        let minute = Duration::from_mins(1).as_secs();
        // It comes round after 45 days; who is then taken for known is asked who he is all the same
        (now.saturating_duration_since(self.began).as_secs() / minute + 1) & MINUTE
    }
}

impl Default for Known {
    fn default() -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES).collect();
        Self { places, began: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_known_for_an_hour() {
        let known = Known::default();
        let at = |minutes| known.began + Duration::from_mins(minutes);
        assert!(!known.is_known(7 << 20, at(0)));
        known.note(7 << 20, at(0));
        assert!(known.is_known(7 << 20, at(60)) && !known.is_known(7 << 20, at(61)));
        known.note(7 << 20, at(50));
        assert!(known.is_known(7 << 20, at(110)));
        known.forget(8 << 20);
        assert!(known.is_known(7 << 20, at(110)), "another one was forgotten");
        known.forget(7 << 20);
        assert!(!known.is_known(7 << 20, at(50)));
    }

    #[test]
    fn who_shares_a_place_is_another() {
        let known = Known::default();
        known.note(1 << 16, known.began);
        assert!(known.is_known(1 << 16, known.began) && !known.is_known(2 << 16, known.began));
        known.note(2 << 16, known.began);
        assert!(known.is_known(2 << 16, known.began) && !known.is_known(1 << 16, known.began));
    }
}
