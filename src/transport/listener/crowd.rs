//! How many connections each address has.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    telemetry::{Limit, LimitMetrics},
    transport::source::Source,
};

/// How many connections each address has. Only those that have some are kept.
#[derive(Debug)]
pub(super) struct Crowd {
    /// `None` for no limit.
    most: Option<NonZeroU32>,
    held: Mutex<HashMap<Source, u32>>,
    metrics: LimitMetrics,
}

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Crowd>,
    source: Source,
}

// === impl Crowd ===

impl Crowd {
    /// So many for each source at most.
    pub(super) fn new(most: Option<NonZeroU32>, metrics: LimitMetrics) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default(), metrics })
    }

    /// Takes one in; `None` if there are as many from there as there may be.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let source = Source::of(address);
        let mut all = self.held();
        let held = all.entry(source).or_default();
        if self.most.is_some_and(|most| *held >= most.get()) {
            drop(all);
            self.metrics.refused(Limit::SourceConnections);
            return None;
        }
        *held += 1;
        drop(all);
        self.metrics.connections().inc();
        Some(Place { of: Arc::clone(self), source })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Source, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.of.metrics.connections().dec();
        let mut all = self.of.held();
        if let Some(held) = all.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_others_have_theirs() {
        let crowd = Crowd::new(NonZeroU32::new(2), LimitMetrics::default());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = crowd.enter(address("2001:db8::1")).unwrap();
        let _other = crowd.enter(address("2001:db8::2")).unwrap();
        assert!(crowd.enter(address("2001:db8::3")).is_none(), "a network is one source");
        let elsewhere = crowd.enter(address("192.0.2.1"));
        assert!(elsewhere.is_some());
        assert_eq!(crowd.metrics.connections().get(), 3);
        drop(one);
        drop(elsewhere);
        assert!(crowd.enter(address("2001:db8::3")).is_some());
        assert_eq!(
            (crowd.held().len(), crowd.metrics.connections().get()),
            (1, 1),
            "who has none is forgotten"
        );
    }

    #[test]
    fn no_limit_is_none() {
        let crowd = Crowd::new(None, LimitMetrics::default());
        let places: Vec<_> = (0..1000).map_while(|_| crowd.enter([192, 0, 2, 1].into())).collect();
        assert_eq!(places.len(), 1000);
    }
}
