//! When tokens were last used: a call notes it in memory, and it is written behind the calls.
//!
//! So a call costs no write, and of a server that is killed the last minute is not known. One that ends in order writes what
//! is left ([`Service::leave`](super::Service::leave)).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::{Error, Service};
use crate::domain::{Timestamp, TokenId};

/// How often they are written: each token's use at most so often, however often it is used.
const WRITE_EVERY: Duration = Duration::from_mins(1);

/// The most in one statement: no other write is to wait long for it.
const AT_ONCE: usize = 1000;

/// The uses of this server's tokens that are not written yet.
#[derive(Debug, Default)]
pub(super) struct TokenUses(Mutex<HashMap<TokenId, Timestamp>>);

// === impl TokenUses ===

impl TokenUses {
    /// Notes a use. An earlier one than is known already is no news.
    pub(super) fn note(&self, token: &TokenId, at: Timestamp) {
        let mut uses = self.lock();
        // Most calls come with a token that is known: nothing is allocated for them
        match uses.get_mut(token) {
            Some(last) => *last = at.max(*last),
            None => drop(uses.insert(token.clone(), at)),
        }
    }

    fn take(&self) -> Vec<(TokenId, Timestamp)> {
        let uses = std::mem::take(&mut *self.lock());
        uses.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Service ===

impl Service {
    /// Writes them from time to time, until the server stops.
    pub(super) async fn keep_token_uses(&self) {
        let mut was_written = true;
        while self.parts.closing.run_until_cancelled(sleep(WRITE_EVERY)).await.is_some() {
            // What has begun is ended, also when the server stops meanwhile
            let written = self.write_token_uses().await;
            if let Err(error) = &written
                && was_written
            {
                tracing::warn!(%error, "when tokens were used cannot be written yet");
            }
            was_written = written.is_ok();
        }
    }

    /// Writes what is not written yet. What cannot be is kept for the next time.
    pub(super) async fn write_token_uses(&self) -> Result<(), Error> {
        let uses = self.parts.token_uses.take();
        for some in uses.chunks(AT_ONCE) {
            if let Err(error) = self.parts.store.note_token_uses(some).await {
                // Those that were written by then are written again, which changes nothing
                for (token, at) in &uses {
                    self.parts.token_uses.note(token, *at);
                }
                return Err(error.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_of_each_token_is_taken_once() {
        let uses = TokenUses::default();
        let token = |bits| TokenId::from_random(bits);
        for (bits, at) in [(1, 5), (2, 9), (1, 7), (1, 6)] {
            uses.note(&token(bits), Timestamp(at));
        }
        let mut first = uses.take();
        first.sort();
        assert_eq!(first, [(token(1), Timestamp(7)), (token(2), Timestamp(9))]);
        assert!(uses.take().is_empty());
        // What is put back is no later than what came meanwhile
        uses.note(&token(1), Timestamp(8));
        for (token, at) in &first {
            uses.note(token, *at);
        }
        let mut again = uses.take();
        again.sort();
        assert_eq!(again, [(token(1), Timestamp(8)), (token(2), Timestamp(9))]);
    }
}
