//! The layers in their order, and the fork between gRPC and REST.

use std::{sync::Arc, time::Duration};

use ::http::{HeaderName, HeaderValue, Method, Request, header};
use axum::{Router, body::Body, middleware, response::Response};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::{ServiceBuilder, ServiceExt as _, util::option_layer};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use super::{
    access::{self, Observer},
    config::Config,
    gate::{self, Gate, Limiter},
    grpc, http,
    protocol::Protocol,
};
use crate::service::{Error, Service};

/// Puts everything on one router.
pub fn router(service: &Service, health: HealthReporter, config: &Config, observer: Observer) -> Router {
    let limiter = Arc::new(Limiter::new(config));
    let gate = |protocol| Gate::new(protocol, service.clone(), Arc::clone(&limiter), config.timeout);
    let grpc = grpc::router(service, health, config.request_bytes)
        .layer(guarded(gate(Protocol::Grpc)))
        .layer(GrpcWebLayer::new());
    let rest = http::router(service, config.request_bytes).layer(guarded(gate(Protocol::Rest)));
    let fork = Router::new().fallback(move |request: Request<Body>| {
        let router = match Protocol::of(&request) {
            Protocol::Grpc => grpc.clone(),
            Protocol::Rest => rest.clone(),
        };
        router.oneshot(request)
    });
    fork.layer(option_layer(cors(&config.cors_origins)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(observer, access::observe))
}

/// What every call passes before its handler, in this order.
fn guarded(
    gate: Gate,
) -> impl tower::Layer<
    axum::routing::Route,
    Service: tower::Service<
        Request<Body>,
        Response = Response,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + Clone
                 + Send
                 + Sync
                 + 'static,
> + Clone
+ Send
+ Sync
+ 'static {
    ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(gate.clone(), gate::shed))
        .layer(middleware::from_fn_with_state(gate.clone(), gate::deadline))
        .layer(middleware::from_fn_with_state(gate.clone(), gate::authenticate))
        .layer(middleware::from_fn_with_state(gate, gate::limit_rate))
}

/// A panic is answered like any failure of ours; its text went to the log by the panic hook.
fn panicked(_panic: Box<dyn std::any::Any + Send>) -> Response {
    super::error::to_response(&Error::Bug("a handler panicked"))
}

/// No layer at all unless origins are configured: answers then say nothing of CORS.
fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let exposed =
        ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "etag", "retry-after"];
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            HeaderName::from_static("grpc-timeout"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("x-user-agent"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_mins(10));
    Some(layer)
}
