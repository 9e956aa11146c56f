//! The way of every request, step by step, and the fork between gRPC and REST.
//!
//! The steps are functions and no layers of a router: a layer boxes the future of each call and copies what is behind
//! it, and ten of them took longer than the database does to read.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use ::http::{HeaderName, HeaderValue, Method, Request, header};
use axum::{Router, body::Body, response::Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service as TowerService, ServiceExt as _, service_fn, util::BoxCloneSyncService};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{
    access,
    config::Config,
    gate::Gate,
    grpc,
    head::TENANT,
    http,
    load::Entry,
    protocol::{self, Protocol},
};
use crate::{
    service::{Error, Service},
    telemetry::{Metrics, Traces},
    trace,
};

/// What answers every request. Cheap to clone.
#[derive(Clone)]
pub struct Front(Arc<Parts>);

struct Parts {
    metrics: Metrics,
    traces: Traces,
    fork: Fork,
    /// Around the fork, if origins are configured. Without it answers say nothing of CORS.
    cors: Option<BoxCloneSyncService<Request<Body>, Response, Infallible>>,
}

/// Sends a request the way of its protocol.
#[derive(Clone)]
struct Fork(Arc<Ways>);

struct Ways {
    gate: Arc<Gate>,
    grpc: Arc<grpc::Services>,
    /// To gRPC again.
    web: Router,
    rest: Router,
}

// === impl Front ===

impl Front {
    /// Puts everything together.
    #[must_use]
    pub fn new(
        service: &Service,
        health: HealthReporter,
        config: &Config,
        metrics: Metrics,
        traces: Traces,
    ) -> Self {
        let gate = Arc::new(Gate::new(service.clone(), config, metrics.limits().clone()));
        let grpc = Arc::new(grpc::Services::new(service, health, config.request_bytes));
        let web = web(Arc::clone(&gate), Arc::clone(&grpc));
        let rest = http::router(service, config.request_bytes);
        let fork = Fork(Arc::new(Ways { gate, grpc, web, rest }));
        let within = fork.clone();
        let within = service_fn(move |request| {
            let fork = within.clone();
            async move { Ok(fork.answer(request).await) }
        });
        let cors = cors(&config.cors_origins).map(|layer| BoxCloneSyncService::new(layer.layer(within)));
        Self(Arc::new(Parts { metrics, traces, fork, cors }))
    }
}

impl Parts {
    async fn answer(&self, request: Request<Body>) -> Response {
        let onward = |request| async {
            match &self.cors {
                Some(cors) => cors.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
                None => self.fork.answer(request).await,
            }
        };
        access::observe(&self.metrics, &self.traces, request, onward).await
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Front")
    }
}

impl TowerService<Request<Body>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    /// It has its place from now on, and not from when it is first polled: until then it waits for a processor.
    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let parts = Arc::clone(&self.0);
        let entry = parts.fork.0.gate.enter(&request);
        request.extensions_mut().insert(entry.clone());
        Box::pin(async move {
            let answer = parts.answer(request).await;
            if let Entry::Place(place) = entry {
                place.leave();
            }
            Ok(answer)
        })
    }
}

// === impl Fork ===

impl Fork {
    async fn answer(&self, request: Request<Body>) -> Response {
        let Ways { gate, grpc, web, rest } = &*self.0;
        match Protocol::of(&request) {
            Protocol::Grpc => answer_grpc(gate, grpc, request).await,
            Protocol::GrpcWeb => {
                let answered = web.clone().oneshot(protocol::with_plain_media_type(request)).await;
                answered.unwrap_or_else(|never| match never {})
            }
            Protocol::Rest => {
                let handle = |request| async {
                    rest.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
                };
                caught(Protocol::Rest, gate.guard(Protocol::Rest, request, handle)).await
            }
        }
    }
}

async fn answer_grpc(gate: &Gate, grpc: &grpc::Services, request: Request<Body>) -> Response {
    let request = protocol::with_plain_media_type(request);
    let handle = |request| grpc.answer(request);
    caught(Protocol::Grpc, gate.guard(Protocol::Grpc, request, handle)).await
}

/// Turns gRPC-Web into gRPC, and the answers back.
fn web(gate: Arc<Gate>, grpc: Arc<grpc::Services>) -> Router {
    let answer = service_fn(move |request: Request<Body>| {
        let (gate, grpc) = (Arc::clone(&gate), Arc::clone(&grpc));
        async move { Ok::<_, Infallible>(answer_grpc(&gate, &grpc, request).await) }
    });
    Router::new().fallback_service(answer).layer(GrpcWebLayer::new())
}

/// A panic is answered like any failure of ours. Where it was went to the log by the panic hook; what it
/// says may hold a value and goes nowhere.
async fn caught(protocol: Protocol, answer: impl Future<Output = Response>) -> Response {
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    answered.unwrap_or_else(|_panic| protocol.refuse(&Error::Bug("a handler panicked")))
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
            trace::TRACEPARENT,
            trace::TRACESTATE,
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-request-id"),
            TENANT,
            HeaderName::from_static("x-user-agent"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_mins(10));
    Some(layer)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::*;

    #[expect(clippy::unused_async, reason = "it stands for a handler")]
    async fn panics() -> Response {
        panic!("sentinel");
    }

    #[tokio::test]
    async fn a_panic_is_answered_in_the_callers_protocol() {
        let answer = caught(Protocol::Grpc, panics()).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::Internal, "Internal error"));
        assert_eq!(status.get_details_error_info().unwrap().reason, "INTERNAL");
        let answer = caught(Protocol::Rest, panics()).await;
        assert_eq!(answer.status(), 500);
        let body = to_bytes(answer.into_body(), 1000).await.unwrap();
        assert_eq!(body, r#"{"status":500,"detail":"Internal error","details":{}}"#);
    }
}
