//! The end of a server.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tonic_health::ServingStatus;

use super::{Running, health};

/// How long what runs beside the calls may take to end, all in all.
const BACKGROUND_END: Duration = Duration::from_secs(4);

impl Running {
    /// Stops: not ready at once, no new connections, calls under way are answered, then the rest ends.
    /// Says whether all calls were answered in time.
    pub async fn stop(self) -> bool {
        tracing::info!("draining");
        health::set(&self.health, ServingStatus::NotServing).await;
        self.stop.cancel();
        self.serving.close();
        let drained = timeout(self.shutdown_timeout, self.serving.wait()).await.is_ok();
        self.stop_ops.cancel();
        self.background.close();
        let (service, background, end) = (self.service, self.background, Instant::now() + BACKGROUND_END);
        // With the service goes the last who could write
        let left = timeout_at(end, async move { service.leave().await }).await.is_ok();
        let ended = timeout_at(end, background.wait()).await.is_ok();
        tracing::info!(drained, left, "stopped");
        drained && ended
    }
}
