//! How many calls may be under way while there are too many: as few as answer as many calls a second as more would.
//!
//! It is tried out. Twice as many are let in for a moment: where that brings more answers (a database that is slow, and
//! answers many at once), it stays so. Half as many: where that costs none (a processor or a disk that has enough to do),
//! it stays so, and each is answered sooner. What a call takes is not looked at: a slow database is none that has too much
//! to do.

use std::time::{Duration, Instant};

/// The fewest that may be under way.
pub(super) const FEWEST: i64 = 8;

/// The most.
const MOST: i64 = 65_536;

/// What it begins with.
const FIRST: i64 = 32;

/// The shortest time for which a number is tried. The first half of it is for what was under way before.
const SHORTEST: Duration = Duration::from_millis(200);

/// The longest.
const LONGEST: Duration = Duration::from_secs(5);

/// The fewest answers by which a number is judged, unless the longest time is over.
const ANSWERS: u64 = 16;

/// For how long a number that was found stays.
const STAY: Duration = Duration::from_secs(3);

/// A larger number is kept if it brings so much more answers.
const GAIN: f64 = 1.15;

/// A smaller number is kept if it brings so much of the answers.
const LOSS: f64 = 0.9;

/// The search for the number, while calls are refused.
#[derive(Debug)]
pub(super) struct Climb {
    /// What is known to be good, and how many answers a second it brings.
    limit: i64,
    rate: f64,
    /// What is tried.
    trial: Trial,
    /// How many may be under way now.
    tried: i64,
    begun: Instant,
    /// The middle of the trial, and how many answers there had been by then.
    middle: Option<(Instant, u64)>,
}

/// What is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trial {
    /// How many answers a second the number brings.
    Same,
    /// Whether more bring more.
    More,
    /// Whether fewer bring as many.
    Fewer,
    /// Nothing, for a while.
    Nothing,
}

// === impl Climb ===

impl Climb {
    /// Begins to search.
    pub(super) fn begin(now: Instant) -> Self {
        Self { limit: FIRST, rate: 0.0, trial: Trial::Same, tried: FIRST, begun: now, middle: None }
    }

    /// How many may be under way now.
    pub(super) fn most_now(&self) -> i64 {
        self.tried
    }

    /// A call was refused, and so many were answered until now. Trials end with a refusal: where none is, the number does
    /// not matter. Where processors are busy, more at once would only wait for them: that is not tried.
    pub(super) fn refused(&mut self, now: Instant, answered: u64, is_busy: bool) {
        let lasted = now.saturating_duration_since(self.begun);
        let length = self.length();
        let Some((middle, before)) = self.middle else {
            if lasted >= length / 2 {
                self.middle = Some((now, answered));
            }
            return;
        };
        let (measured, answers) = (now.saturating_duration_since(middle), answered.saturating_sub(before));
        if lasted < length || measured.is_zero() || (answers < ANSWERS && lasted < LONGEST) {
            return;
        }
        let answers = u32::try_from(answers).unwrap_or(u32::MAX);
        self.judge(f64::from(answers) / measured.as_secs_f64(), is_busy);
        self.begun = now;
        self.middle = None;
    }

    /// How long the trial takes: some times of a call, of which there are as many under way as may be.
    fn length(&self) -> Duration {
        if self.trial == Trial::Nothing {
            return STAY;
        }
        let tried = u32::try_from(self.tried).unwrap_or(u32::MAX);
        let calls = Duration::try_from_secs_f64(2.0 * f64::from(tried) / self.rate.max(1.0));
        calls.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST)
    }

    fn judge(&mut self, rate: f64, is_busy: bool) {
        let next = match self.trial {
            Trial::Same => {
                self.rate = rate;
                Trial::Fewer
            }
            // What was known stays what is compared with: many small losses would be a large one
            Trial::Fewer if rate >= self.rate * LOSS => {
                self.limit = self.tried;
                Trial::Fewer
            }
            Trial::Fewer => Trial::More,
            Trial::More if rate > self.rate * GAIN => {
                (self.limit, self.rate) = (self.tried, rate);
                Trial::More
            }
            Trial::More => Trial::Nothing,
            Trial::Nothing => Trial::Same,
        };
        self.trial = match next {
            Trial::Fewer if self.limit <= FEWEST && !is_busy => Trial::More,
            Trial::Fewer if self.limit <= FEWEST => Trial::Nothing,
            Trial::More if self.limit >= MOST || is_busy => Trial::Nothing,
            next @ (Trial::Same | Trial::Fewer | Trial::More | Trial::Nothing) => next,
        };
        self.tried = match self.trial {
            Trial::More => self.limit.saturating_mul(2).min(MOST),
            Trial::Fewer => (self.limit / 2).max(FEWEST),
            Trial::Same | Trial::Nothing => self.limit,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets it search for so long, where `rate` says how many answers a second so many under way bring. Gives the number
    /// that it came to, and the share of the answers that were got.
    fn search(climb: &mut Climb, lasts: Duration, rate: impl Fn(f64) -> f64) -> f64 {
        let step = Duration::from_millis(10);
        let (mut answered, mut now) = (0.0, climb.begun);
        let end = now + lasts;
        while now < end {
            now += step;
            answered += rate(f64::from(i32::try_from(climb.most_now()).unwrap())) * step.as_secs_f64();
            climb.refused(now, Duration::from_secs_f64(answered).as_secs(), false);
        }
        answered / lasts.as_secs_f64()
    }

    #[test]
    fn where_more_bring_nothing_few_are_let_in() {
        let mut climb = Climb::begin(Instant::now());
        search(&mut climb, Duration::from_secs(30), |_| 5000.0);
        assert_eq!(climb.limit, FEWEST);
    }

    #[test]
    fn where_more_bring_more_many_are_let_in() {
        // A call takes a second, however many there are; up to a thousand are answered at once
        let mut climb = Climb::begin(Instant::now());
        let brought = search(&mut climb, Duration::from_mins(1), |tried| tried.min(1000.0));
        assert!(climb.limit >= 512, "{climb:?}");
        assert!(brought > 600.0, "{brought} a second");
    }

    #[test]
    fn where_company_helps_there_is_company() {
        // Calls share a flush of the disk of 2 ms, and take 100 µs of it each
        let rate = |tried: f64| tried / (0.002 + tried * 0.0001);
        let mut climb = Climb::begin(Instant::now());
        let brought = search(&mut climb, Duration::from_mins(1), rate);
        assert!((32..=512).contains(&climb.limit), "{climb:?}");
        assert!(brought > 0.7 * rate(256.0), "{brought} a second");
    }

    #[test]
    fn it_follows_what_becomes_slow_and_fast_again() {
        let mut climb = Climb::begin(Instant::now());
        search(&mut climb, Duration::from_secs(20), |_| 5000.0);
        let slow = |tried: f64| tried.min(1000.0);
        search(&mut climb, Duration::from_secs(90), slow);
        assert!(climb.limit >= 256, "{climb:?}");
        search(&mut climb, Duration::from_mins(1), |_| 5000.0);
        assert!(climb.limit <= 32, "{climb:?}");
    }

    #[test]
    fn nothing_that_is_answered_is_borne() {
        let mut climb = Climb::begin(Instant::now());
        search(&mut climb, Duration::from_mins(2), |_| 0.0);
        assert!(climb.limit >= FEWEST, "{climb:?}");
        let brought = search(&mut climb, Duration::from_mins(2), |tried| tried.min(100.0));
        assert!(brought > 60.0, "{brought} a second: {climb:?}");
    }

    #[test]
    fn where_processors_are_busy_more_is_not_tried() {
        let (began, mut climb) = (Instant::now(), Climb::begin(Instant::now()));
        for step in 1..200_u32 {
            climb.refused(began + step * SHORTEST, u64::from(step) * 1000, true);
            assert!(climb.most_now() <= FIRST, "{climb:?}");
        }
        assert_eq!(climb.limit, FEWEST, "{climb:?}");
    }
}
