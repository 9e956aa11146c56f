//! Keeps a trouble that goes on from filling the log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A trouble that goes on is told this often.
const INTERVAL: Duration = Duration::from_secs(10);

/// Says yes once in ten seconds.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

// === impl Seldom ===

impl Seldom {
    /// Whether this is the first call, or the last yes is long enough ago.
    pub(super) fn allows(&self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if allowed {
            *last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_allows_once_per_interval() {
        let once = Seldom::default();
        let start = Instant::now();

        let allowed = [0, 1, 9, 10, 19, 20].map(|second| once.allows_at(start + Duration::from_secs(second)));

        assert_eq!(allowed, [true, false, false, true, false, true]);
    }
}
