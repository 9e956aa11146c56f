//! One line and one observation a request, and the id that ties them together.

use std::{borrow::Cow, time::Instant};

use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use tonic::Code;

use super::{
    listener::ConnectionInfo,
    protocol::{CallerNote, Protocol, RequestId, Shed},
};
use crate::{
    domain::{TokenText, base62},
    telemetry::{self, Answered, Metrics, Traces},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id taken from a caller, in bytes.
const MAX_ID_BYTES: usize = 128;

/// Gives the request its id and, once it is answered, writes its line and counts it. Nothing of that was chosen by the
/// caller but an id that is harmless.
pub(super) async fn observe<F>(
    metrics: &Metrics,
    traces: &Traces,
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
    let is_encrypted = request.extensions().get::<ConnectionInfo>().is_some_and(|connection| connection.tls);
    let current = traces.begin(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(caller.clone());
    let started = Instant::now();
    let mut response = match &current {
        None => telemetry::in_request(id.clone(), handle(request)).await,
        // In a box, so that the many calls without a trace need no room for it
        Some(current) => {
            let call = telemetry::in_request(id.clone(), handle(request));
            Box::pin(current.answer(call)).await
        }
    };
    let duration = started.elapsed();
    let (protocol, route, code) = match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => {
            ("grpc", grpc_route(path, &response), grpc_code(&response).into())
        }
        Protocol::Rest => ("rest", rest_route(&method, &response), rest_code(&response)),
    };
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let principal = caller.get();
    let (trace_id, span_id) =
        current.as_ref().map(|it| (it.context().trace.to_string(), it.span().to_string())).unzip();
    if response.extensions().get::<Shed>().is_some() {
        // They are counted: a line for each would cost what others could be answered with
        tracing::debug!(request_id = id, protocol, route, micros, "a call was refused for the load");
    } else {
        tracing::info!(
            name: telemetry::MAY_WAIT,
            request_id = id,
            principal,
            protocol,
            route,
            code = &*code,
            micros,
            trace_id,
            span_id,
            "request"
        );
    }
    if let Some(current) = &current {
        let (route, code) = (route.as_str(), &*code);
        let answered = Answered { request_id: &id, principal, protocol, route, code, is_encrypted };
        traces.finish(current, &answered);
    }
    metrics.count(protocol, route, code, duration);
    response.extensions_mut().insert(caller);
    if let Ok(mut id) = HeaderValue::try_from(id) {
        // It comes never again: HTTP/2 would push what does out of the table that both sides keep of headers
        id.set_sensitive(true);
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

fn rest_code(response: &Response) -> Cow<'static, str> {
    response.status().as_str().to_owned().into()
}

fn grpc_route(path: String, response: &Response) -> String {
    let known =
        grpc_code(response) != "12" && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/".contains(&b));
    if known && super::grpc::SERVICE_NAMES.iter().any(|name| path.trim_start_matches('/').starts_with(name)) {
        path
    } else {
        "unknown".to_owned()
    }
}

/// The gRPC code where it is known with the head of the answer; a stream tells its own at its end.
fn grpc_code(response: &Response) -> &'static str {
    const CODES: [&str; 17] =
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
    let code = match response.headers().get("grpc-status") {
        Some(code) => Code::from_bytes(code.as_bytes()),
        None if response.status() == StatusCode::OK => Code::Ok,
        None => Code::Unknown,
    };
    usize::try_from(i32::from(code)).ok().and_then(|code| CODES.get(code)).copied().unwrap_or("2")
}
