//! What each replica does beside its calls: nothing is kept of a value before once its overlap has ended, and those
//! who watch are informed.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::Service;

/// The pause between two looks. The first is at the start.
const SWEEP_EVERY: Duration = Duration::from_mins(1);

/// The most values that are cleared in one transaction, so that no write waits long for it.
const AT_ONCE: u64 = 500;

impl Service {
    /// Does all of it, until the server stops. `tasks` carries what listens for others.
    pub async fn keep_house(&self, tasks: &TaskTracker) {
        tokio::join!(self.inform_watchers(tasks), self.sweep());
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
}
