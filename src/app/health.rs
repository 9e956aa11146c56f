//! What `grpc.health.v1` tells.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{service::Service, telemetry::Metrics, transport};

/// How often it is asked whether the server can still serve.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tells every service's health.
pub(super) async fn set(health: &HealthReporter, status: ServingStatus) {
    for name in transport::SERVICE_NAMES.into_iter().chain([""]) {
        health.set_service_status(name, status).await;
    }
}

/// Keeps the health service true to what the server can do, until `stop`.
pub(super) async fn watch(
    service: Service,
    health: HealthReporter,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut was_ready = true;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let Some(answer) = stop.run_until_cancelled(service.ready()).await else { break };
        let ready = answer.is_ok();
        if ready != was_ready {
            match answer {
                Ok(()) => tracing::warn!(ready, "ready again"),
                Err(why) => tracing::warn!(ready, "not ready: {why}"),
            }
            set(&health, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
            metrics.set_ready(ready);
            was_ready = ready;
        }
    }
}
