//! What every call passes before its handler, whichever protocol it speaks.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};
use http::{HeaderMap, header};
use tokio::sync::Semaphore;

use super::{
    config::Config,
    listener::ConnectionInfo,
    protocol::{Protocol, RequestId},
};
use crate::{
    domain::Origin,
    service::{Call, Error, Service},
};

/// Paths that need no token: they tell what this service can do, and whether it does.
const OPEN_PATHS: [&str; 4] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/openapi.json",
];

/// After so many limited calls, tokens that have not called for a while are forgotten.
const SWEEP_EVERY: u32 = 10_000;

/// What the layers of one protocol work with.
#[derive(Clone)]
pub(super) struct Gate {
    protocol: Protocol,
    service: Service,
    limiter: Arc<Limiter>,
    timeout: Duration,
}

/// How much may be under way, for both protocols together.
pub(super) struct Limiter {
    concurrent: Semaphore,
    rate: Option<RateLimiter<String, HashMapStateStore<String>, DefaultClock>>,
    limited_calls: AtomicU32,
}

// === impl Gate ===

impl Gate {
    /// Puts it together.
    pub(super) fn new(
        protocol: Protocol,
        service: Service,
        limiter: Arc<Limiter>,
        timeout: Duration,
    ) -> Self {
        Self { protocol, service, limiter, timeout }
    }
}

// === impl Limiter ===

impl Limiter {
    /// Limits as they are configured.
    pub(super) fn new(config: &Config) -> Self {
        let limiter = |per_second: NonZeroU32| RateLimiter::hashmap(Quota::per_second(per_second));
        Self {
            concurrent: Semaphore::new(config.concurrent_requests),
            rate: config.rate_limit.map(limiter),
            limited_calls: AtomicU32::new(0),
        }
    }

    fn check_rate(&self, token: &str) -> Result<(), Error> {
        let Some(rate) = &self.rate else { return Ok(()) };
        if self.limited_calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            rate.retain_recent();
            rate.shrink_to_fit();
        }
        let outcome = rate.check_key(&token.to_owned());
        outcome.map(|_snapshot| ()).map_err(|refused| Error::RateLimited {
            retry_after: refused.wait_time_from(DefaultClock::default().now()),
        })
    }
}

/// Refuses a call at once when too many are under way, before it costs anything.
pub(super) async fn shed(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match gate.limiter.concurrent.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_full) => gate.protocol.refuse(&Error::Overloaded),
    }
}

/// Ends a call that takes longer than it may: as long as this server allows, or less if a gRPC caller asks.
pub(super) async fn deadline(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let asked = request.headers().get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
    let timeout = asked.map_or(gate.timeout, |asked| asked.min(gate.timeout));
    let outcome = tokio::time::timeout(timeout, next.run(request)).await;
    outcome.unwrap_or_else(|_elapsed| gate.protocol.refuse(&Error::TimedOut))
}

/// Finds out who calls, before anything else is looked at.
pub(super) async fn authenticate(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN_PATHS.iter().any(|open| path == *open || (open.ends_with('/') && path.starts_with(open))) {
        return next.run(request).await;
    }
    let Some(token) = bearer(request.headers()) else {
        return gate.protocol.refuse(&Error::Unauthenticated);
    };
    match gate.service.authenticate(token).await {
        Ok(principal) => {
            tracing::Span::current().record("principal", principal.token.id.as_str());
            let origin = origin(&request);
            request.extensions_mut().insert(Call { principal, origin });
            next.run(request).await
        }
        Err(error) => gate.protocol.refuse(&error),
    }
}

/// Refuses a call of a token that calls too often.
pub(super) async fn limit_rate(State(gate): State<Gate>, request: Request<Body>, next: Next) -> Response {
    let checked = match request.extensions().get::<Call>() {
        Some(call) => gate.limiter.check_rate(call.principal.token.id.as_str()),
        None => Ok(()),
    };
    match checked {
        Ok(()) => next.run(request).await,
        Err(error) => gate.protocol.refuse(&error),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn origin(request: &Request) -> Origin {
    let connection = request.extensions().get::<ConnectionInfo>();
    let id = request.extensions().get::<RequestId>();
    Origin {
        request_id: id.map(|id| id.0.clone()).unwrap_or_default(),
        remote: connection.map(|connection| connection.remote.to_string()).unwrap_or_default(),
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeouts_follow_the_grpc_grammar() {
        assert_eq!(grpc_timeout("500m"), Some(Duration::from_millis(500)));
        assert_eq!(grpc_timeout("99999999H"), Some(Duration::from_hours(99_999_999)));
        for text in ["", "m", "5", "123456789S", "-1S", "1x", "1.5S", "５S"] {
            assert_eq!(grpc_timeout(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_breaks_it(text in ".{0,12}") {
            let timeout = grpc_timeout(&text);
            prop_assert!(timeout.is_none_or(|timeout| timeout <= Duration::from_hours(99_999_999)));
        }
    }

    #[test]
    fn only_one_bearer_token_counts() {
        let headers = |values: &[&str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for values in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(values)), None, "{values:?}");
        }
    }
}
