//! Places for calls of one kind.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{climb::Climb, shares::Shares, spare::Spare};
use crate::telemetry::{CallGauges, Limit};

/// As long as fewer are under way, nothing is refused.
pub(super) const FEW: i64 = 512;

/// For so long there may be any number.
const PATIENCE: Duration = Duration::from_millis(100);

/// When nothing had to be refused for so long, it is over.
const CALM: Duration = Duration::from_secs(1);

/// How often it is tried whether all could be let in: processors are also busy with as many calls as come from those who
/// wait for an answer before they call again, and then nothing has to be refused.
const TRY_EVERY: Duration = Duration::from_secs(15);

/// A trial ends at so many under way.
const TRIED: i64 = 80;

/// Places for calls of one kind.
pub(super) struct Places {
    gauges: CallGauges,
    answered: AtomicU64,
    /// As many may be under way without a look at the rest.
    limit: AtomicI64,
    /// Whether there is anything in the state.
    is_watched: AtomicBool,
    state: Mutex<State>,
    shares: Shares,
}

enum State {
    Few,
    /// There are many, since then.
    Many(Instant),
    /// There are too many.
    TooMany(TooMany),
}

struct TooMany {
    climb: Climb,
    spare: Spare,
    /// When something was refused last.
    refused: Instant,
    /// When it is tried next whether all could be let in.
    trial: Instant,
}

enum Judged {
    Over,
    Admitted,
    Refused,
}

/// A call's place.
pub(in crate::transport) struct Place {
    of: Arc<Places>,
    /// Whether there was not much room when it came.
    is_crowded: bool,
    /// Whose it is, once that is known.
    tenant: Mutex<Option<u64>>,
    waits: AtomicBool,
    has_left: AtomicBool,
}

// === impl Places ===

impl Places {
    /// Nothing is under way.
    pub(super) fn new(gauges: CallGauges) -> Arc<Self> {
        gauges.limit.set(FEW);
        Arc::new(Self {
            gauges,
            answered: AtomicU64::new(0),
            limit: AtomicI64::new(FEW),
            is_watched: AtomicBool::new(false),
            state: Mutex::new(State::Few),
            shares: Shares::default(),
        })
    }

    /// Takes a place. `tenant` is asked whose call it is where there is not room for all.
    pub(super) fn enter(self: &Arc<Self>, tenant: impl FnOnce() -> u64) -> Result<Place, Limit> {
        let under_way = self.gauges.under_way.inc();
        let limit = self.limit.load(Ordering::Relaxed);
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        if under_way < limit && !is_watched {
            return Ok(self.place(under_way >= limit / 2, None));
        }
        let now = Instant::now();
        let has_room = self.has_room_at(under_way, now);
        if has_room {
            return Ok(self.place(true, None));
        }
        // Where there is somebody else as well, each has his share beside what there is already
        let tenant = tenant();
        let refused = match self.shares.is_over(tenant, limit) {
            Some(false) => {
                self.shares.take(tenant);
                return Ok(self.place(true, Some(tenant)));
            }
            Some(true) => Limit::TenantShare,
            None => Limit::Load,
        };
        self.gauges.under_way.dec();
        Err(refused)
    }

    /// How many places a tenant has, and how many tenants have some.
    pub(super) fn held_by(&self, tenant: u64) -> (usize, usize) {
        self.shares.of(tenant)
    }

    fn place(self: &Arc<Self>, is_crowded: bool, tenant: Option<u64>) -> Place {
        let (waits, has_left) = (AtomicBool::new(false), AtomicBool::new(false));
        Place { of: Arc::clone(self), is_crowded, tenant: Mutex::new(tenant), waits, has_left }
    }

    /// Whether one more may be under way beside so many.
    fn has_room_at(&self, under_way: i64, now: Instant) -> bool {
        let mut state = self.state();
        match &mut *state {
            State::Few if under_way < FEW => return true,
            State::Few => {
                *state = State::Many(now);
                self.is_watched.store(true, Ordering::Relaxed);
                return true;
            }
            State::Many(_) if under_way < FEW => {}
            State::Many(since) if now.saturating_duration_since(*since) < PATIENCE => return true,
            State::Many(_) => {
                tracing::warn!(under_way, "more calls come than are answered: some are refused");
                let climb = Climb::begin(now);
                self.set_limit(climb.most_now());
                let too_many =
                    TooMany { climb, spare: Spare::begin(now), refused: now, trial: now + TRY_EVERY };
                *state = State::TooMany(too_many);
                return false;
            }
            State::TooMany(too_many) => match too_many.judge(under_way, now) {
                Judged::Over => tracing::info!("calls are answered as they come again"),
                Judged::Admitted => return true,
                Judged::Refused => {
                    too_many.refuse(now, self.answered.load(Ordering::Relaxed));
                    self.set_limit(too_many.climb.most_now());
                    return false;
                }
            },
        }
        // There are few again
        *state = State::Few;
        self.is_watched.store(false, Ordering::Relaxed);
        self.set_limit(FEW);
        true
    }

    fn set_limit(&self, limit: i64) {
        self.limit.store(limit, Ordering::Relaxed);
        self.gauges.limit.set(limit);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl TooMany ===

impl TooMany {
    fn judge(&mut self, under_way: i64, now: Instant) -> Judged {
        if now >= self.trial {
            if under_way < TRIED {
                let is_over = now.saturating_duration_since(self.trial) >= CALM;
                return if is_over { Judged::Over } else { Judged::Admitted };
            }
            self.trial = now + TRY_EVERY;
        }
        if now.saturating_duration_since(self.refused) >= CALM {
            return Judged::Over;
        }
        if under_way < self.climb.most_now() && self.spare.admits(now) {
            Judged::Admitted
        } else {
            Judged::Refused
        }
    }

    fn refuse(&mut self, now: Instant, answered: u64) {
        self.climb.refused(now, answered, self.spare.is_needed());
        self.refused = now;
    }
}

// === impl Place ===

impl Place {
    /// Notes whose it is. Says whether that is worth to be remembered.
    pub(super) fn belongs_to(&self, tenant: u64) -> bool {
        let mut noted = self.tenant.lock().unwrap_or_else(PoisonError::into_inner);
        if *noted != Some(tenant) && !self.has_left.load(Ordering::Relaxed) {
            self.of.shares.take(tenant);
            if let Some(other) = noted.replace(tenant) {
                self.of.shares.give_back(other);
            }
        }
        self.is_crowded
    }

    /// The call waits for its client.
    pub(super) fn pause(&self) {
        if !self.has_left.load(Ordering::Relaxed) && !self.waits.swap(true, Ordering::Relaxed) {
            self.of.gauges.under_way.dec();
        }
    }

    /// It goes on.
    pub(super) fn go_on(&self) {
        if !self.has_left.load(Ordering::Relaxed) && self.waits.swap(false, Ordering::Relaxed) {
            self.of.gauges.under_way.inc();
        }
    }

    /// The call is answered, or given up.
    pub(in crate::transport) fn leave(&self) {
        if self.has_left.swap(true, Ordering::Relaxed) {
            return;
        }
        if !self.waits.load(Ordering::Relaxed) {
            self.of.gauges.under_way.dec();
        }
        self.of.answered.fetch_add(1, Ordering::Relaxed);
        let tenant = self.tenant.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tenant) = tenant {
            self.of.shares.give_back(tenant);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::LimitMetrics;

    fn places() -> Arc<Places> {
        Places::new(LimitMetrics::default().calls("read"))
    }

    /// Places for so many calls of a tenant.
    fn fill(places: &Arc<Places>, tenant: u64, count: i64) -> Vec<Place> {
        let enter = |_| {
            let place = places.enter(|| tenant).ok()?;
            place.belongs_to(tenant);
            Some(place)
        };
        // A share is refused, so one refusal is no end
        (0..count).filter_map(enter).collect()
    }

    /// As if there had been too many for a while.
    fn overload(places: &Arc<Places>) {
        let now = Instant::now();
        places.has_room_at(FEW, now);
        assert!(!places.has_room_at(FEW, now + PATIENCE));
    }

    #[test]
    fn many_are_borne_for_a_moment_and_then_refused() {
        let places = places();
        let now = Instant::now();
        let held = fill(&places, 1, FEW - 1);
        assert_eq!(i64::try_from(held.len()).unwrap(), FEW - 1);
        assert!(places.has_room_at(FEW, now));
        assert!(places.has_room_at(5 * FEW, now + PATIENCE / 2));
        assert!(!places.has_room_at(FEW, now + PATIENCE));
        assert_eq!(places.enter(|| 1).err(), Some(Limit::Load));
    }

    #[test]
    fn a_moment_with_few_begins_the_patience_anew() {
        let places = places();
        let now = Instant::now();
        assert!(places.has_room_at(FEW, now));
        drop(places.enter(|| 1).unwrap());
        assert!(places.has_room_at(FEW, now + 2 * PATIENCE), "it is another moment");
    }

    #[test]
    fn it_is_over_when_nothing_had_to_be_refused_for_a_while() {
        let places = places();
        overload(&places);
        let limit = places.gauges.limit.get();
        assert!(limit < FEW, "{limit}");
        places.has_room_at(0, Instant::now());
        assert_eq!(places.gauges.limit.get(), limit, "not yet");
        assert!(places.has_room_at(0, Instant::now() + 2 * CALM));
        assert_eq!(places.gauges.limit.get(), FEW);
    }

    #[test]
    fn it_is_tried_whether_all_can_be_let_in() {
        let places = places();
        overload(&places);
        // Something is refused all the time, though hardly anything is under way: the processors are busy
        let refuse = |now| {
            if let State::TooMany(too_many) = &mut *places.state() {
                too_many.refuse(now, 0);
            }
        };
        let trial = Instant::now() + PATIENCE + TRY_EVERY;
        refuse(trial);
        assert!((0..10).all(|_| places.has_room_at(1, trial)), "all are");
        assert!(!places.has_room_at(TRIED, trial + CALM / 2), "it does not go well");
        refuse(trial + TRY_EVERY);
        assert!((0..10).all(|n| places.has_room_at(1, trial + CALM / 2 + TRY_EVERY + n * CALM / 20)));
        assert_ne!(places.gauges.limit.get(), FEW);
        assert!(places.has_room_at(1, trial + TRY_EVERY + 2 * CALM));
        assert_eq!(places.gauges.limit.get(), FEW, "it is over");
    }

    #[test]
    fn who_waits_for_his_client_is_not_under_way() {
        let places = places();
        let place = places.enter(|| 1).unwrap();
        place.pause();
        place.pause();
        assert_eq!(places.gauges.under_way.get(), 0);
        place.go_on();
        assert_eq!(places.gauges.under_way.get(), 1);
        place.pause();
        place.leave();
        place.go_on();
        drop(place);
        assert_eq!(places.gauges.under_way.get(), 0);
    }

    #[test]
    fn who_has_many_places_keeps_nobody_out() {
        let places = places();
        overload(&places);
        let limit = places.gauges.limit.get();
        let greedy = fill(&places, 1, 10 * limit);
        assert!(greedy.len() >= usize::try_from(limit).unwrap());
        assert!((0..10).all(|_| places.enter(|| 1).is_err()));
        // Another has a share of his own, and no more
        let other = fill(&places, 2, 10 * limit);
        assert!(!other.is_empty() && other.len() <= usize::try_from(limit / 2).unwrap(), "{}", other.len());
        let third = fill(&places, 3, 1);
        assert_eq!(third.len(), 1, "there is room for the next one too");
        assert!(places.gauges.under_way.get() < 2 * limit);
        // With the others gone and the greedy one at his share, he is let in again
        drop((greedy, other, third));
        assert_eq!(places.gauges.under_way.get(), 0);
        assert!((0..10).any(|_| places.enter(|| 1).is_ok()));
    }
}
