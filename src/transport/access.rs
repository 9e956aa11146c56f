//! One line and one observation a request, and the id that ties them together.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::Instrument as _;

use super::protocol::{CallerNote, Protocol, RequestId};
use crate::domain::{TokenText, base62};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id taken from a caller, in bytes.
const MAX_ID_BYTES: usize = 128;

/// What is told of a request when it is answered. Nothing in it was chosen by the caller.
#[derive(Clone, Debug)]
pub struct Finished {
    /// `grpc` or `rest`.
    pub protocol: &'static str,
    /// The route, as `PATCH /v1/agents/{agent_id}/secrets` or `/package.Service/Method`; `unknown` for
    /// what is none.
    pub route: String,
    /// The HTTP status or the gRPC code.
    pub code: String,
    /// How long it took to the answer's head.
    pub duration: Duration,
}

/// Is told of every request.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&Finished) + Send + Sync>);

// === impl Observer ===

impl Observer {
    /// Tells `observe`.
    pub fn new(observe: impl Fn(&Finished) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Gives the request its id and, once it is answered, writes its line.
pub(super) async fn observe<F>(
    observer: &Observer,
    mut request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response
where
    F: Future<Output = Response>,
{
    let id = request_id(&request);
    let protocol = Protocol::of(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let caller = CallerNote::default();
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(caller.clone());
    // For what else is told on the way
    let span = tracing::info_span!("request", request_id = id);
    let started = Instant::now();
    let mut response = handle(request).instrument(span).await;
    let finished = match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => Finished {
            protocol: "grpc",
            route: grpc_route(&path, &response),
            code: grpc_code(&response),
            duration: started.elapsed(),
        },
        Protocol::Rest => Finished {
            protocol: "rest",
            route: rest_route(&method, &response),
            code: response.status().as_u16().to_string(),
            duration: started.elapsed(),
        },
    };
    (observer.0)(&finished);
    let Finished { protocol, route, code, duration } = finished;
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let principal = caller.get();
    tracing::info!(parent: None, request_id = id, principal, protocol, route, code, micros, "request");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Hands the matched route of a REST request out to [`observe`], which stands outside the router.
pub(super) async fn tell_route(request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let usable = |id: &&str| {
        (1..=MAX_ID_BYTES).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
            // An id is told and kept: a token that was sent in the wrong header is not
            && TokenText::parse(id).is_err()
    };
    given.filter(usable).map_or_else(new_id, str::to_owned)
}

/// 128 random bits. Where the system has no randomness every id is the same: nothing depends on it but
/// finding a line again, and the call itself will fail on the same lack.
fn new_id() -> String {
    let mut bits = [0; 16];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => format!("req_{}", base62(u128::from_be_bytes(bits), 22)),
        Err(ring::error::Unspecified) => "req_none".to_owned(),
    }
}

/// A caller's path may hold anything, also a key or worse, and so may its method: they are told only if they
/// are ours.
fn rest_route(method: &Method, response: &Response) -> String {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE].contains(method);
    match response.extensions().get::<MatchedPath>() {
        Some(path) if known => format!("{method} {}", path.as_str()),
        Some(_) | None => "unknown".to_owned(),
    }
}

fn grpc_route(path: &str, response: &Response) -> String {
    let known =
        grpc_code(response) != "12" && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/".contains(&b));
    if known && super::grpc::SERVICE_NAMES.iter().any(|name| path.trim_start_matches('/').starts_with(name)) {
        path.to_owned()
    } else {
        "unknown".to_owned()
    }
}

/// The gRPC code where it is known with the head of the answer; a stream tells its own at its end.
fn grpc_code(response: &Response) -> String {
    let status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
    match status {
        Some(code) => code.to_owned(),
        None if response.status() == StatusCode::OK => "0".to_owned(),
        None => "2".to_owned(),
    }
}
