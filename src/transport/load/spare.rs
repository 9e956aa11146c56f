//! Leaves the processors something to spare while there are too many calls.
//!
//! What waits for a processor before its head is read, in sockets and at the clients, is seen by nobody here, and refusing it
//! takes processors too. Where they have no time left, such a queue stays as long as it is once it is there, however few calls
//! are under way: each waits behind all of it. So a share of the calls is refused unseen, large enough that the threads
//! which run them are idle for a while now and then: then there is no queue.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// What is let in at first.
const FIRST: f64 = 0.5;

/// The least that is let in.
const LEAST: f64 = 0.1;

/// How long the threads are watched before the share is changed.
const WINDOW: Duration = Duration::from_millis(100);

/// Busier than this, the threads leave a queue as it is.
const BUSY: f64 = 0.85;

/// Less busy than this, they can do more.
const IDLE: f64 = 0.77;

/// The share of calls that is let in.
#[derive(Debug)]
pub(super) struct Spare {
    share: f64,
    /// Of the next call, so much is let in already.
    credit: f64,
    since: Instant,
    /// How long the threads had been busy by then.
    before: Duration,
}

// === impl Spare ===

impl Spare {
    /// Begins.
    pub(super) fn begin(now: Instant) -> Self {
        Self { share: FIRST, credit: 0.0, since: now, before: busy().0 }
    }

    /// Whether the next call may be let in.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            let (busy, threads) = busy();
            let worked = busy.saturating_sub(self.before).as_secs_f64();
            self.judge(worked / (passed.as_secs_f64() * threads));
            (self.since, self.before) = (now, busy);
        }
        self.credit += self.share;
        let is_admitted = self.credit >= 1.0;
        if is_admitted {
            self.credit -= 1.0;
        }
        is_admitted
    }

    /// Whether some are refused so that the processors have something to spare.
    pub(super) fn is_needed(&self) -> bool {
        self.share < 1.0
    }

    /// Fewer at once, more by and by.
    fn judge(&mut self, busy: f64) {
        if busy > BUSY {
            self.share = (self.share * 0.85).max(LEAST);
        } else if busy < IDLE {
            self.share = (self.share + 0.02).min(1.0);
        }
    }
}

/// How long the threads that run tasks have been busy, all in all, and how many there are.
fn busy() -> (Duration, f64) {
    let Ok(runtime) = Handle::try_current() else { return (Duration::ZERO, 1.0) };
    let metrics = runtime.metrics();
    let threads = metrics.num_workers();
    let busy = (0..threads).map(|thread| metrics.worker_total_busy_duration(thread)).sum();
    (busy, f64::from(u32::try_from(threads).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(spare: &mut Spare, of: usize) -> usize {
        let now = spare.since;
        (0..of).filter(|_| spare.admits(now)).count()
    }

    #[test]
    fn busy_threads_are_given_less_at_once_and_idle_ones_more_by_and_by() {
        let mut spare = Spare::begin(Instant::now());
        assert_eq!(admitted(&mut spare, 1000), 500);
        spare.judge(1.0);
        assert!((420..=430).contains(&admitted(&mut spare, 1000)));
        spare.judge(0.8);
        assert!((420..=430).contains(&admitted(&mut spare, 1000)), "that is as it is to be");
        for _ in 0..100 {
            spare.judge(1.0);
        }
        assert!((99..=101).contains(&admitted(&mut spare, 1000)), "some are always let in");
        for _ in 0..100 {
            spare.judge(0.1);
        }
        assert_eq!(admitted(&mut spare, 1000), 1000);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_busy_thread_is_seen_to_be() {
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async {
            let (before, began) = (busy().0, Instant::now());
            while began.elapsed() < Duration::from_millis(50) {
                for _ in 0..1000 {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
            busy().0.saturating_sub(before)
        });
        let seen = tasks.join_next().await.unwrap().unwrap();
        assert!(seen > Duration::from_millis(20), "{seen:?}");
    }
}
