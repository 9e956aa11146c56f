//! The layers in their order, and the fork between gRPC and REST.

use std::{any::Any, sync::Arc, time::Duration};

use ::http::{HeaderName, HeaderValue, Method, Request, header};
use axum::{Router, body::Body, middleware, response::Response};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::{
    ServiceBuilder, ServiceExt as _,
    util::{MapRequestLayer, MapResponseLayer, option_layer},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use super::{
    access::{self, Observer},
    config::Config,
    gate::{self, Gate, Limiter},
    grpc, http,
    protocol::{self, Protocol},
};
use crate::service::{Error, Service};

/// Puts everything on one router.
pub fn router(service: &Service, health: HealthReporter, config: &Config, observer: Observer) -> Router {
    let limiter = Arc::new(Limiter::new(config));
    let gate = |protocol| Gate::new(protocol, service.clone(), Arc::clone(&limiter), config.timeout);
    let request_bytes = config.request_bytes;
    let grpc = grpc::router(service, health, request_bytes)
        .layer(guarded(gate(Protocol::Grpc)))
        .layer(MapResponseLayer::new(move |response| grpc::with_our_status(response, request_bytes)));
    let grpc = caught(grpc, Protocol::Grpc)
        .layer(GrpcWebLayer::new())
        .layer(MapRequestLayer::new(protocol::with_plain_media_type));
    let rest = http::router(service, request_bytes).layer(guarded(gate(Protocol::Rest)));
    let rest = caught(rest, Protocol::Rest);
    let fork = Router::new().fallback(move |request: Request<Body>| {
        let router = match Protocol::of(&request) {
            Protocol::Grpc => grpc.clone(),
            Protocol::Rest => rest.clone(),
        };
        router.oneshot(request)
    });
    fork.layer(option_layer(cors(&config.cors_origins)))
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

/// A panic is answered like any failure of ours. Where it was went to the log by the panic hook; what it
/// says may hold a value and goes nowhere.
fn caught(router: Router, protocol: Protocol) -> Router {
    let refuse = move |_panic: Box<dyn Any + Send>| protocol.refuse(&Error::Bug("a handler panicked"));
    router.layer(CatchPanicLayer::custom(refuse))
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

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, routing::post};
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::*;

    async fn panics() {
        panic!("sentinel");
    }

    fn panicking(protocol: Protocol) -> Router {
        caught(Router::new().route("/", post(panics)), protocol)
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_the_callers_protocol() {
        let call = Request::post("/").header(header::CONTENT_TYPE, "application/grpc-web");
        let grpc = panicking(Protocol::Grpc).layer(GrpcWebLayer::new());
        let answer = grpc.oneshot(call.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/grpc-web+proto");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::Internal, "Internal error"));
        assert_eq!(status.get_details_error_info().unwrap().reason, "INTERNAL");
        let call = Request::post("/").body(Body::empty()).unwrap();
        let answer = panicking(Protocol::Rest).oneshot(call).await.unwrap();
        assert_eq!(answer.status(), 500);
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        assert_eq!(body, r#"{"status":500,"detail":"Internal error","details":{}}"#);
    }
}
