//! What each replica does beside its calls: nothing is kept of a value before once its overlap has ended, data keys come
//! under its primary key, the others know of it and of its keys, the keys of issuers are kept fresh, it is written when
//! tokens were used, and those who watch are informed.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::{
    Error, Service,
    rewrap::{Step, Walk, wrapped_by},
};

/// The pause between two looks. The first is at the start.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// The most values that are cleared in one transaction, so that no write waits long for it.
const AT_ONCE: u64 = 500;

/// So many agents get another wrapping at a time, and this is the pause until the next: calls are not to notice.
const REWRAPPED_AT_ONCE: usize = 100;
const REWRAP_PAUSE: Duration = Duration::from_millis(50);

/// The pause between two looks while agents are left, and when none is: a server with an older primary key may yet add
/// one.
const REWRAP_EVERY: Duration = Duration::from_mins(1);
const LOOK_FOR_LATE_ONES_EVERY: Duration = Duration::from_hours(1);

impl Service {
    /// Does all of it, until the server stops. `tasks` carries what listens for others.
    pub async fn keep_house(&self, tasks: &TaskTracker) {
        let closing = &self.parts.closing;
        tokio::join!(
            self.inform_watchers(tasks),
            self.sweep(),
            self.attend(),
            self.keep_data_keys(),
            self.rewrap(),
            self.keep_token_uses(),
            closing.run_until_cancelled(self.parts.identities.keep_fresh()),
        );
    }

    /// Clears values before that are not given out any more, from time to time.
    async fn sweep(&self) {
        let closing = &self.parts.closing;
        while !closing.is_cancelled() {
            match self.parts.store.clear_ended_previous(self.parts.clock.now(), AT_ONCE).await {
                // There may be more
                Ok(AT_ONCE..) => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "values whose overlap has ended cannot be cleared yet"),
            }
            closing.run_until_cancelled(sleep(SWEEP_EVERY)).await;
        }
    }

    /// Wraps data keys anew where an older key than this server's primary wraps them. From newer ones none is taken:
    /// while keyrings are rolled out, two servers with different primaries would else go on undoing each other's work.
    async fn rewrap(&self) {
        let closing = &self.parts.closing;
        while !closing.is_cancelled() {
            let pause = match closing.run_until_cancelled(self.rewrap_older()).await {
                None => return,
                Some(Ok(true)) => LOOK_FOR_LATE_ONES_EVERY,
                Some(Ok(false)) => REWRAP_EVERY,
                Some(Err(error)) => {
                    tracing::warn!(%error, "data keys cannot be wrapped by the primary key yet");
                    REWRAP_EVERY
                }
            };
            tokio::select! {
                () = closing.cancelled() => {}
                () = self.parts.keyring.taken.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Goes through the agents once, and says whether there is nothing left to do.
    async fn rewrap_older(&self) -> Result<bool, Error> {
        let (store, keys) = (&self.parts.store, self.keys_to_wrap().await?);
        let set_left = |left| self.parts.agents_left.store(left, Ordering::Relaxed);
        let declared = self.parts.keyring.declared();
        if declared.primary() != keys.primary() {
            // Until the last server has the primary key
            set_left(wrapped_by(store, &declared.older_than_primary()).await?);
            return Ok(false);
        }
        let older = keys.older_than_primary();
        let found = if older.is_empty() { 0 } else { wrapped_by(store, &older).await? };
        set_left(found);
        if found == 0 {
            return Ok(true);
        }
        let mut sum = Step::default();
        let mut walk = Walk::new(store, &keys, older.clone(), REWRAPPED_AT_ONCE);
        while self.keys_to_wrap().await?.primary() == keys.primary()
            && let Some(step) = walk.step().await?
        {
            sum += step;
            self.parts.agents_done.fetch_add(step.rewrapped, Ordering::Relaxed);
            set_left(found.saturating_sub(sum.rewrapped));
            sleep(REWRAP_PAUSE).await;
        }
        let left = wrapped_by(store, &older).await?;
        set_left(left);
        let (primary, rewrapped) = (keys.primary(), sum.rewrapped);
        tracing::info!(%primary, rewrapped, left, "data keys wrapped by the primary key");
        Ok(left == sum.unopened)
    }
}
