//! How many watches there may be, and how they are shared between tenants.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::domain::TenantId;

/// Room for watches. Three quarters of it are for who comes first; of the last quarter nobody gets more who has his share
/// of all of it already.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: Mutex<Taken>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of those tenants that have some.
    by_tenant: HashMap<TenantId, usize>,
}

/// One place, which is free again once it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    tenant: TenantId,
}

// === impl Room ===

impl Room {
    /// For so many.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default(), refused: AtomicU64::new(0) })
    }

    /// Takes a place; `None` if there is none for this tenant.
    pub(super) fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.by_tenant.get(tenant).copied().unwrap_or_default();
        let left = self.most.saturating_sub(taken.all);
        // One more than there are: the next one finds room too
        let share = (self.most / (taken.by_tenant.len() + 1)).max(1);
        if left == 0 || (left <= self.most / 4 && own >= share) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        taken.all += 1;
        *taken.by_tenant.entry(tenant.clone()).or_default() += 1;
        Some(Place { room: Arc::clone(self), tenant: tenant.clone() })
    }

    /// How often there was no place.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.all -= 1;
        if let Some(own) = taken.by_tenant.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(room: &Arc<Room>, tenant: &TenantId) -> Vec<Place> {
        std::iter::from_fn(|| room.enter(tenant)).collect()
    }

    #[test]
    fn no_tenant_takes_all_places() {
        let (one, other, third) =
            ["ten_one", "ten_other", "ten_third"].map(|id| TenantId::from_stored(id.to_owned())).into();
        let room = Room::new(100);
        let first = fill(&room, &one);
        assert_eq!((first.len(), room.refused()), (75, 1));
        let second = fill(&room, &other);
        assert!((20..25).contains(&second.len()) || second.len() == 25, "{}", second.len());
        drop(second);
        let _one = room.enter(&other).unwrap();
        assert!(room.enter(&one).is_none(), "he has his share");
        assert!(room.enter(&third).is_some());
        drop(first);
        assert!(room.enter(&one).is_some());
    }

    #[test]
    fn a_small_room_can_be_filled() {
        let room = Room::new(2);
        let places = fill(&room, &TenantId::from_stored("ten_one".to_owned()));
        assert_eq!(places.len(), 2);
        drop(places);
        assert!(room.taken().by_tenant.is_empty());
    }
}
