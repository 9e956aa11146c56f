//! Keeps a trouble that goes on from filling the log.

use std::time::{Duration, Instant};

/// Says yes once per interval.
#[derive(Debug)]
pub(super) struct OncePer {
    interval: Duration,
    last: Option<Instant>,
}

// === impl OncePer ===

impl OncePer {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// Whether this is the first call, or the last yes is longer ago than the interval.
    pub(super) fn allows(&mut self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&mut self, now: Instant) -> bool {
        let allowed = self.last.is_none_or(|last| now.duration_since(last) >= self.interval);
        if allowed {
            self.last = Some(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_allows_once_per_interval() {
        let mut once = OncePer::new(Duration::from_secs(10));
        let start = Instant::now();

        let allowed = [0, 1, 9, 10, 19, 20].map(|second| once.allows_at(start + Duration::from_secs(second)));

        assert_eq!(allowed, [true, false, false, true, false, true]);
    }
}
