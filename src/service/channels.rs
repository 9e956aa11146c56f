//! One channel for each thing that somebody waits for, shared by all who wait for it.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch::{self, Receiver, Sender};

/// Channels by what they are about, each with what is known of it. They are made when somebody subscribes and
/// go with [`Channels::keys`], once nobody listens any more.
pub(super) struct Channels<Key, State>(Mutex<HashMap<Key, Sender<State>>>);

// === impl Channels ===

impl<Key: Clone + Eq + Hash, State> Channels<Key, State> {
    /// Subscribes to what becomes of `key`. Where there is no channel, or one whose state `is_final`, a new one
    /// begins with `first`.
    pub(super) fn subscribe(
        &self,
        key: &Key,
        first: State,
        is_final: impl FnOnce(&State) -> bool,
    ) -> Receiver<State> {
        let mut channels = self.lock();
        match channels.get(key) {
            Some(sender) if !is_final(&sender.borrow()) => sender.subscribe(),
            Some(_) | None => {
                let (sender, receiver) = watch::channel(first);
                channels.insert(key.clone(), sender);
                receiver
            }
        }
    }

    /// Changes what is known of `key`, if anybody listens; `change` says whether it is news.
    pub(super) fn tell(&self, key: &Key, change: impl FnOnce(&mut State) -> bool) {
        if let Some(sender) = self.lock().get(key) {
            sender.send_if_modified(change);
        }
    }

    /// What is listened to now. The rest is forgotten; under the lock that subscribing takes, so that nobody's
    /// channel is forgotten while he subscribes to it.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut channels = self.lock();
        channels.retain(|_, sender| sender.receiver_count() > 0);
        channels.keys().cloned().collect()
    }

    /// A panic while it was held has left nothing half done: each change is one insertion.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Sender<State>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Key, State> Default for Channels<Key, State> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Key, State> fmt::Debug for Channels<Key, State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channels")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_kept_while_somebody_listens_and_no_longer() {
        let channels = Channels::<u8, u8>::default();
        let first = channels.subscribe(&1, 10, |_| false);
        let second = channels.subscribe(&1, 20, |_| false);
        channels.tell(&1, |state| std::mem::replace(state, 11) != 11);
        assert_eq!((*first.borrow(), *second.borrow()), (11, 11), "they share one");
        drop(first);
        assert_eq!(channels.keys(), [1]);
        drop(second);
        assert_eq!(channels.keys(), [0; 0]);
        assert!(channels.lock().is_empty());
    }

    #[test]
    fn after_a_final_state_a_new_channel_begins() {
        let channels = Channels::<u8, u8>::default();
        let ended = channels.subscribe(&1, 0, |_| false);
        let next = channels.subscribe(&1, 7, |state| *state == 0);
        assert_eq!((*ended.borrow(), *next.borrow()), (0, 7));
        assert!(ended.has_changed().is_err(), "who held the old one is told that it is over");
    }
}
