//! Room in memory for what was read: what was not asked for longest goes first.

use std::{any::Any, sync::Arc};

use hashlink::LruCache;

use crate::domain::AgentId;

/// The most bytes that are kept, about.
pub(super) const MOST_BYTES: usize = 8 << 20;

/// By what something is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A token, by the SHA-256 of its text.
    Token(Vec<u8>),
    /// An agent, and what may be told of its secrets.
    Metadata(AgentId),
    /// An agent, and its sealed values.
    Values(AgentId),
}

/// Something that was read. Under keys of one kind it is of one type.
pub(super) type Something = Arc<dyn Any + Send + Sync>;

/// What is kept, each with what there is to know about it.
pub(super) struct Room<N> {
    kept: LruCache<Key, Kept<N>>,
    bytes: usize,
}

/// Something that is kept.
pub(super) struct Kept<N> {
    pub(super) value: Something,
    /// How many bytes it takes, about.
    pub(super) bytes: usize,
    pub(super) note: N,
}

// === impl Room ===

impl<N> Room<N> {
    pub(super) fn new() -> Self {
        Self { kept: LruCache::new_unbounded(), bytes: 0 }
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<&Kept<N>> {
        self.kept.get(key)
    }

    pub(super) fn insert(&mut self, key: Key, kept: Kept<N>) {
        self.bytes += kept.bytes;
        let before = self.kept.insert(key, kept);
        self.bytes -= before.map_or(0, |before| before.bytes);
        while self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.kept.remove_lru() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.bytes -= self.kept.remove(key).map_or(0, |kept| kept.bytes);
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_end_of_room() {
        let mut room = Room::new();
        let keys: Vec<_> = (0..4).map(|n| Key::Token(vec![n])).collect();
        let kept = |bytes| Kept { value: Arc::new(()), bytes, note: () };
        for key in &keys {
            room.insert(key.clone(), kept(MOST_BYTES / 3));
            assert!(room.get(&keys[0]).is_some() && room.get(key).is_some());
        }
        assert!(room.get(&keys[1]).is_none() && room.get(&keys[2]).is_some());
        room.remove(&keys[2]);
        assert!(room.get(&keys[2]).is_none());
        // What alone is too much is not kept, and takes the rest with it
        room.insert(keys[1].clone(), kept(MOST_BYTES + 1));
        assert!(!keys.iter().any(|key| room.get(key).is_some()));
        assert_eq!(room.bytes, 0);
    }
}
