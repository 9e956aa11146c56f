//! Who has a connection, and who gets one when all are taken.
//!
//! Each source has a share of the connections as it needs it. When all are taken, who has fewer than others gets one of
//! theirs: the newest of whoever has the most is asked to go. So nobody keeps others out by holding many, and those who hold
//! few lose none.

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use crate::{
    telemetry::{Limit, LimitMetrics},
    transport::{seldom::Seldom, source::Source},
};

/// Of so many connections one may be on its way out beside them: it still answers what it was asked. Where more have to
/// go, the first of these is cut off.
const PER_LEAVING: usize = 10;

/// Who has a connection. Only sources that have some are kept.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Of all.
    most: usize,
    /// Of each source; `None` for no limit.
    most_of_source: Option<usize>,
    held: Mutex<Held>,
    metrics: LimitMetrics,
    told: Told,
}

/// What the log says once in a while.
#[derive(Debug, Default)]
struct Told {
    refused: Seldom,
    asked: Seldom,
}

#[derive(Debug, Default)]
struct Held {
    /// The connections of each by their numbers: the newest has the largest.
    sources: HashMap<Source, BTreeMap<u64, Notice>>,
    staying: usize,
    /// Those that were asked to go, by their numbers, in that order.
    leaving: VecDeque<(u64, Notice)>,
    next: u64,
}

/// What a connection is told by.
#[derive(Clone, Debug, Default)]
pub(super) struct Notice {
    /// It has to go, as others have fewer.
    pub(super) leave: CancellationToken,
    /// It has to go at once.
    pub(super) end: CancellationToken,
}

/// A connection's place, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Crowd>,
    source: Source,
    number: u64,
    notice: Notice,
}

// === impl Crowd ===

impl Crowd {
    /// So many in all, at least one, and so many of each source.
    pub(super) fn new(most: usize, of_source: Option<NonZeroUsize>, metrics: LimitMetrics) -> Arc<Self> {
        let (most, most_of_source) = (most.max(1), of_source.map(NonZeroUsize::get));
        Arc::new(Self { most, most_of_source, held: Mutex::default(), metrics, told: Told::default() })
    }

    /// Takes one in.
    ///
    /// # Errors
    /// The limit that is reached: as many are there from the same source as there may be, or as many as there may be in all
    /// and nobody has more than this one would have.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Limit> {
        let source = Source::of(address);
        let place = self.try_enter(source).inspect_err(|limit| self.refused(source, *limit))?;
        self.metrics.connections().inc();
        Ok(place)
    }

    fn try_enter(self: &Arc<Self>, source: Source) -> Result<Place, Limit> {
        let mut held = self.held();
        let of_source = held.sources.get(&source).map_or(0, BTreeMap::len);
        if self.most_of_source.is_some_and(|most| of_source >= most) {
            return Err(Limit::SourceConnections);
        }
        if held.staying >= self.most {
            let room = self.most.div_ceil(PER_LEAVING);
            let asked = held.ask_one_to_leave(of_source, room).ok_or(Limit::Connections)?;
            self.asked(asked);
        }
        let (number, notice) = held.add(source);
        Ok(Place { of: Arc::clone(self), source, number, notice })
    }

    fn refused(&self, source: Source, limit: Limit) {
        self.metrics.refused(limit);
        if self.told.refused.allows() {
            let limit = limit.word();
            tracing::warn!(%source, limit, "a limit of connections is reached: new ones are closed");
        }
    }

    fn asked(&self, source: Source) {
        self.metrics.refused(Limit::Crowded);
        if self.told.asked.allows() {
            tracing::warn!(%source, "all connections are taken: who has the most has to give some back");
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held {
    fn add(&mut self, source: Source) -> (u64, Notice) {
        let (number, notice) = (self.next, Notice::default());
        self.next += 1;
        self.staying += 1;
        self.sources.entry(source).or_default().insert(number, notice.clone());
        (number, notice)
    }

    /// Asks the newest of whoever has the most to go, for one of a source that has so many, and says whose that is. `None` if
    /// nobody would have at least as many afterwards as that source: then places would only go to and fro. No more than so many
    /// are on their way out then.
    fn ask_one_to_leave(&mut self, of_source: usize, room: usize) -> Option<Source> {
        let most = self.sources.iter_mut().max_by_key(|(_source, connections)| connections.len());
        let (source, connections) = most.filter(|(_source, most)| most.len() > of_source + 1)?;
        let newest = connections.pop_last()?;
        newest.1.leave.cancel();
        self.staying -= 1;
        self.leaving.push_back(newest);
        if self.leaving.len() > room {
            self.leaving.pop_front().into_iter().for_each(|(_number, first)| first.end.cancel());
        }
        Some(*source)
    }

    fn remove(&mut self, source: Source, number: u64) {
        if let Entry::Occupied(mut connections) = self.sources.entry(source) {
            self.staying -= usize::from(connections.get_mut().remove(&number).is_some());
            if connections.get().is_empty() {
                connections.remove();
            }
        }
        self.leaving.retain(|(leaving, _notice)| *leaving != number);
    }
}

// === impl Place ===

impl Place {
    /// What the connection is told by.
    pub(super) fn notice(&self) -> &Notice {
        &self.notice
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.held().remove(self.source, self.number);
        self.of.metrics.connections().dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(most: usize, of_source: Option<usize>) -> Arc<Crowd> {
        Crowd::new(most, of_source.and_then(NonZeroUsize::new), LimitMetrics::default())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// As many as get in from an address.
    fn all_from(crowd: &Arc<Crowd>, text: &str) -> Vec<Place> {
        (0..1000).map_while(|_| crowd.enter(address(text)).ok()).collect()
    }

    /// Sources, connections that stay, and such that leave.
    fn counts(crowd: &Crowd) -> (usize, usize, usize) {
        let held = crowd.held();
        (held.sources.len(), held.staying, held.leaving.len())
    }

    fn asked(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.notice().leave.is_cancelled()).collect()
    }

    #[test]
    fn an_address_has_so_many_and_others_have_theirs() {
        let crowd = crowd(100, Some(2));
        let one = crowd.enter(address("2001:db8::1")).unwrap();
        let _other = crowd.enter(address("2001:db8::2")).unwrap();
        let third = crowd.enter(address("2001:db8::3"));
        assert_eq!(third.err(), Some(Limit::SourceConnections), "a network is one source");
        let elsewhere = crowd.enter(address("192.0.2.1"));
        assert!(elsewhere.is_ok());
        assert_eq!(crowd.metrics.connections().get(), 3);
        drop(one);
        drop(elsewhere);
        assert!(crowd.enter(address("2001:db8::3")).is_ok());
        assert_eq!(counts(&crowd), (1, 1, 0), "who has none is forgotten");
        assert_eq!(crowd.metrics.connections().get(), 1);
    }

    #[test]
    fn no_limit_of_a_source_is_none() {
        assert_eq!(all_from(&crowd(1000, None), "192.0.2.1").len(), 1000);
    }

    #[test]
    fn who_has_fewer_gets_one_of_those_who_have_the_most() {
        let crowd = crowd(8, None);
        let mut few: Vec<_> = all_from(&crowd, "192.0.2.1").drain(..3).collect();
        let many = all_from(&crowd, "192.0.2.2");
        assert_eq!((few.len(), many.len()), (3, 5));
        assert_eq!(crowd.enter(address("192.0.2.2")).err(), Some(Limit::Connections), "it has the most");
        few.push(crowd.enter(address("192.0.2.1")).unwrap());
        assert_eq!(asked(&many), [false, false, false, false, true], "the newest");
        assert_eq!(asked(&few), [false; 4]);
        assert_eq!(crowd.enter(address("192.0.2.1")).err(), Some(Limit::Connections), "both have as many");
    }

    #[test]
    fn few_are_on_their_way_out_and_nobody_is_kept_out_by_them() {
        let crowd = crowd(20, None);
        let mut many = all_from(&crowd, "192.0.2.1");
        let places: Vec<_> = (2..9).map_while(|n| crowd.enter([192, 0, 2, n].into()).ok()).collect();
        assert_eq!((places.len(), counts(&crowd)), (7, (8, 20, 2)), "two are a tenth of twenty");
        let cut: Vec<_> = many.iter().map(|place| place.notice().end.is_cancelled()).collect();
        assert_eq!(cut[15..], [true; 5], "those that were asked first");
        assert_eq!(cut[..15], [false; 15]);
        assert_eq!(asked(&many)[13..], [true; 7]);
        assert_eq!(crowd.metrics.connections().get(), 27);
        many.retain(|place| !place.notice().leave.is_cancelled());
        assert_eq!((many.len(), counts(&crowd)), (13, (8, 20, 0)));
        drop((many, places));
        assert_eq!((counts(&crowd), crowd.metrics.connections().get()), ((0, 0, 0), 0));
    }

    #[test]
    fn there_is_always_one_place() {
        assert_eq!(all_from(&crowd(0, None), "192.0.2.1").len(), 1);
    }
}
