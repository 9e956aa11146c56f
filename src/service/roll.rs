//! Which key a server may wrap by: none that another server of the database has not.
//!
//! A server that lacks the key of an agent cannot serve that agent. So each server notes in the database which keys it
//! has ([`ServerRow`]), again and again, and looks who else is there. The primary key of its keyring it wraps by only
//! once all the others have it; until then by the key that was used before. That a key is used is written down
//! (`primary_since`) before it is:
//!
//! 1. *Having*: a server that starts notes its keys, then reads which key is in use. Without that one it does not start.
//! 2. *Using*: a server that is to use a key notes that, then reads who is there. If one of them lacks the key, it takes
//!    the note back, and goes on as before.
//!
//! Of two that do so at once, the one that has started or the one that uses the key sees the other. So keyrings can be
//! handed out in any order, by restarts or in running servers, and the primary key of a new one is used when the last
//! server has it.
//!
//! A server that was cut off from the database for longer than it counts as there is not waited for: the key in use can
//! be one that it has not when it comes back. Then it wraps by none, as the others may have given its own up, and is not
//! ready until the keyring that it reads has that one ([`Service::keys_to_wrap`]). What it was about to write as it was
//! cut off it does not write: a data key is added only as long as the server counts as there
//! ([`Service::expect_place`]).

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Error, KeyProblem, KeySet, Service,
    held::Lacking,
    key_in_use::{Choice, choose},
    keys::check,
};
use crate::{
    domain::KekId,
    store::{ServerRow, Tx},
};

/// How often a server notes that it is there, and looks at its keyring and at the others.
const LOOK_EVERY: Duration = Duration::from_secs(5);

// === impl Service ===

impl Service {
    /// Takes its place among the servers of the database. To be done before the first call.
    ///
    /// # Errors
    /// [`KeyProblem`] when the keyring does not fit the database.
    pub async fn join(&self) -> Result<(), KeyProblem> {
        let keyring = self.parts.keyring.declared();
        self.note_presence().await?;
        let joined = async {
            check(&self.parts.store, &keyring, self.parts.clock.now()).await?;
            Ok(self.settle(keyring).await?)
        };
        let joined = joined.await;
        if joined.is_err() {
            self.leave().await;
        }
        joined
    }

    /// Leaves its place, after the last call, and nothing that only it knows.
    pub async fn leave(&self) {
        let forgotten = self.parts.store.forget_server(&self.parts.name);
        let (forgotten, written) = tokio::join!(forgotten, self.write_token_uses());
        if let Err(error) = forgotten {
            tracing::debug!(%error, "the others will think for a while that this server is there");
        }
        if let Err(error) = written {
            tracing::warn!(%error, "when tokens were used in the last minute is not written");
        }
    }

    /// Reads the keyring again and uses what it holds, if it is a keyring that fits the database. Else the one before
    /// stays, and the log says why.
    pub async fn reload_keyring(&self) {
        let read = async { self.take_keyring(self.parts.keyring.read()?).await };
        told(read.await, &mut String::new());
        // Also who asks for it without another keyring has the agents looked at
        self.parts.keyring.taken.notify_one();
    }

    /// Uses the keyring if it is another one by now. `told_before` is what was said last that is wrong with it.
    pub(super) async fn take_up_changes(&self, told_before: &mut String) {
        match self.parts.keyring.read() {
            Ok(keyring) if keyring.is_same(&self.parts.keyring.declared()) => told_before.clear(),
            Ok(keyring) => told(self.take_keyring(keyring).await, told_before),
            Err(problem) => told(Err(problem), told_before),
        }
    }

    async fn take_keyring(&self, keyring: KeySet) -> Result<Arc<KeySet>, KeyProblem> {
        check(&self.parts.store, &keyring, self.parts.clock.now()).await?;
        let keyring = Arc::new(keyring);
        self.settle(Arc::clone(&keyring)).await?;
        Ok(keyring)
    }

    /// Keeps its place, until the server stops.
    pub(super) async fn attend(&self) {
        let (mut told_before, mut was_seen) = (String::new(), true);
        loop {
            let look = async {
                sleep(LOOK_EVERY).await;
                self.take_up_changes(&mut told_before).await;
                self.settle(self.parts.keyring.declared()).await
            };
            match self.parts.closing.run_until_cancelled(look).await {
                None => return,
                Some(Ok(())) => was_seen = true,
                Some(Err(error)) if was_seen => {
                    was_seen = false;
                    tracing::warn!(%error, "which keys the servers have cannot be told just now");
                }
                Some(Err(_told)) => {}
            }
        }
    }

    /// The keys, of which the primary one is that to wrap by, now.
    ///
    /// # Errors
    /// [`Error::NothingToWrapBy`] while the key in use is one that this server has not; [`Error::Store`].
    pub(super) async fn keys_to_wrap(&self) -> Result<Arc<KeySet>, Error> {
        let held = &self.parts.keyring;
        if !held.has_place() {
            // Others may have begun to use a key meanwhile
            self.settle(held.declared()).await?;
        }
        match held.lacking() {
            Some(lacking) => self.look_for_key_in_use(&lacking.id).await,
            None => Ok(held.get()),
        }
    }

    /// Goes on if this server still counts as there, and has a key that something was wrapped by: no other has given that
    /// key up then, and none does until the transaction has ended.
    pub(super) async fn expect_place(&self, tx: &Tx, wrapped_by: &KekId) -> Result<(), Error> {
        let held = &self.parts.keyring;
        if !tx.counts_server(&self.parts.name).await? {
            held.lose_place();
            return Err(Error::PlaceLost);
        }
        // What was found out before the place was taken again
        match held.lacking() {
            Some(Lacking { id, .. }) => Err(Error::NothingToWrapBy { kek: id }),
            None if held.get().has(wrapped_by) => Ok(()),
            None => Err(Error::PlaceLost),
        }
    }

    /// Decides by which key of a keyring to wrap, uses both from now on, and notes it.
    async fn settle(&self, keyring: Arc<KeySet>) -> Result<(), Error> {
        let had_place = self.parts.keyring.has_place();
        self.decide(&keyring).await?;
        self.note_presence().await?;
        if !had_place {
            // Nobody has waited for this server until now
            self.decide(&keyring).await?;
            self.note_presence().await?;
        }
        Ok(())
    }

    async fn decide(&self, keyring: &Arc<KeySet>) -> Result<(), Error> {
        let (name, held) = (&self.parts.name, &self.parts.keyring);
        match choose(&self.parts.store, keyring, name, self.parts.clock.now()).await? {
            Choice::Nothing(lacking) => {
                if held.lacking().as_ref() != Some(&lacking) {
                    let Lacking { id, needed } = &lacking;
                    tracing::error!(key = %id, fingerprint = needed, "the servers wrap data keys by a key that this one has not: it wraps none until its keyring has that key");
                }
                held.set_lacking(Some(lacking));
            }
            Choice::Wraps { by, lacking } => {
                if held.take(Arc::clone(keyring), &by) {
                    let primary = keyring.primary();
                    if lacking.is_empty() {
                        tracing::info!(key = %by, "data keys are wrapped by this key");
                    } else {
                        let lacking = lacking.join(", ");
                        tracing::info!(key = %by, %primary, %lacking, "data keys are wrapped by this key until the servers named have the primary one");
                    }
                }
                held.set_lacking(None);
            }
        }
        Ok(())
    }

    async fn note_presence(&self) -> Result<(), Error> {
        let keys = self.parts.keyring.get();
        let server = ServerRow {
            id: self.parts.name.clone(),
            keks: keys.entries().map(|(id, _)| id.clone()).collect(),
            wraps: keys.primary().clone(),
        };
        let before = Instant::now();
        self.parts.store.see_server(server).await?;
        self.parts.keyring.take_place(before);
        Ok(())
    }
}

fn told(read: Result<Arc<KeySet>, KeyProblem>, told_before: &mut String) {
    match read {
        Ok(keyring) => {
            told_before.clear();
            let (primary, keys) = (keyring.primary(), keyring.entries().count());
            tracing::info!(%primary, keys, "keyring read again");
        }
        Err(problem) => {
            let error = problem.to_string();
            if error != *told_before {
                tracing::error!(%error, "the keyring cannot be used; the one before stays in use");
                *told_before = error;
            }
        }
    }
}
