//! What is noted of one traced call: its steps, one after the other and one within the other.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::context::SpanId;

/// The most steps of one call that are noted; further ones are counted.
const MOST: usize = 64;

/// What is noted of one traced call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recording(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: SpanId,
    began: Instant,
    began_at: SystemTime,
    /// Ids that were given out.
    given: AtomicU64,
    steps: Mutex<Vec<Step>>,
    left_out: AtomicU64,
}

/// A step of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done. It is chosen by this program and by nobody else.
    pub name: &'static str,
    /// Whether another service is called.
    pub is_call: bool,
    /// Its id.
    pub id: SpanId,
    /// The id of that within which it is.
    pub parent: SpanId,
    /// When it began, in nanoseconds since 1970.
    pub from: u64,
    /// When it ended.
    pub to: u64,
}

/// All that was noted.
#[derive(Debug)]
pub struct Recorded {
    /// The id of the call itself.
    pub root: SpanId,
    /// When it began, in nanoseconds since 1970.
    pub from: u64,
    /// When it ended.
    pub to: u64,
    /// Its steps, as they ended.
    pub steps: Vec<Step>,
    /// How many more there were.
    pub left_out: u64,
}

// === impl Recording ===

impl Recording {
    /// Begins to note, now; `None` where the system has no randomness for its id.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "when something took place is told; nothing is decided by it"
    )]
    pub fn begin() -> Option<Self> {
        Some(Self(Arc::new(Inner {
            root: SpanId::random()?,
            began: Instant::now(),
            began_at: SystemTime::now(),
            given: AtomicU64::new(0),
            steps: Mutex::default(),
            left_out: AtomicU64::new(0),
        })))
    }

    /// The id of the call itself.
    pub(super) fn root(&self) -> SpanId {
        self.0.root
    }

    /// An id that no other step of the call has.
    pub(super) fn next_id(&self) -> SpanId {
        self.0.root.after(self.0.given.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Notes a step that ends now.
    pub(super) fn note(&self, name: &'static str, is_call: bool, id: SpanId, parent: SpanId, since: Instant) {
        let step = Step { name, is_call, id, parent, from: self.at(since), to: self.at(Instant::now()) };
        let mut steps = self.0.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < MOST {
            steps.push(step);
        } else {
            self.0.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends now, and gives what was noted. What comes later is lost.
    #[must_use]
    pub fn end(&self) -> Recorded {
        let steps = std::mem::take(&mut *self.0.steps.lock().unwrap_or_else(PoisonError::into_inner));
        Recorded {
            root: self.0.root,
            from: self.at(self.0.began),
            to: self.at(Instant::now()),
            steps,
            left_out: self.0.left_out.load(Ordering::Relaxed),
        }
    }

    /// A moment in nanoseconds since 1970. The clock is looked at once for each call: one that is set meanwhile moves all
    /// of it, and no step out of it.
    fn at(&self, moment: Instant) -> u64 {
        let since = self.0.began_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let at = since + moment.saturating_duration_since(self.0.began);
        u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_steps_are_kept_than_there_is_room_for() {
        let recording = Recording::begin().unwrap();
        for _ in 0..MOST + 3 {
            let id = recording.next_id();
            recording.note("step", false, id, recording.root(), Instant::now());
        }
        let recorded = recording.end();
        assert_eq!((recorded.steps.len(), recorded.left_out), (MOST, 3));
        let mut ids: Vec<_> = recorded.steps.iter().map(|step| step.id.to_string()).collect();
        ids.push(recorded.root.to_string());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MOST + 1, "each has an id of its own");
        let lies_within =
            |step: &Step| recorded.from <= step.from && step.from <= step.to && step.to <= recorded.to;
        assert!(recorded.steps.iter().all(lies_within), "{recorded:?}");
        assert!(recording.end().steps.is_empty());
    }
}
