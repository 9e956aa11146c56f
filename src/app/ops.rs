//! The operator's port: `/livez`, `/readyz`, `/metrics`, and `grpc.health.v1` for probes, which cannot speak TLS.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{StatusCode, header};
use tokio_util::sync::CancellationToken;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    service::Service,
    telemetry::{Limit, Metrics},
};

/// The media type of the `OpenMetrics` text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The longest question for health, in bytes.
const MOST_BYTES: usize = 4096;

#[derive(Clone)]
struct Context {
    service: Service,
    metrics: Metrics,
    stopping: CancellationToken,
}

/// The routes. `stopping` is cancelled when the server begins to drain.
pub(super) fn router(
    service: Service,
    health: HealthReporter,
    metrics: Metrics,
    stopping: CancellationToken,
) -> Router {
    let health = HealthServer::new(HealthService::from_health_reporter(health));
    let health = health.max_decoding_message_size(MOST_BYTES);
    Router::new()
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(Context { service, metrics, stopping })
}

async fn readyz(State(context): State<Context>) -> Response {
    if context.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: draining\n").into_response();
    }
    match context.service.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics_text(State(context): State<Context>) -> Response {
    context.metrics.set_key_rotation(context.service.agents_left(), context.service.agents_done());
    context.metrics.limits().set_refused(Limit::Watches, context.service.watches_refused());
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics.render()).into_response()
}
