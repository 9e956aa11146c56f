//! What every call passes before its handler, whichever protocol it speaks.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{extract::Request, response::Response};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    state::keyed::HashMapStateStore,
};
use http::{HeaderMap, HeaderName, header};
use tokio::sync::Semaphore;

use super::{
    config::Config,
    listener::{ClientCertificate, ConnectionInfo},
    protocol::{CallerNote, Protocol, RequestId},
};
use crate::{
    domain::{Origin, Principal},
    service::{Call, Error, Service},
};

/// Paths that need no token: they tell what this service can do, and whether it does.
const OPEN_PATHS: [&str; 4] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/openapi.json",
];

/// By which a caller who may call for several tenants says for which one.
pub(super) const TENANT: HeaderName = HeaderName::from_static("x-superserve-tenant");

/// After so many limited calls, tokens that have not called for a while are forgotten.
const SWEEP_EVERY: u32 = 10_000;

/// What stands before every handler. Its limits are those of both protocols together.
pub(super) struct Gate {
    service: Service,
    timeout: Duration,
    concurrent: Semaphore,
    rate: Option<RateLimiter<String, HashMapStateStore<String>, DefaultClock>>,
    limited_calls: AtomicU32,
}

// === impl Gate ===

impl Gate {
    /// Limits as they are configured.
    pub(super) fn new(service: Service, config: &Config) -> Self {
        let limiter = |per_second: NonZeroU32| RateLimiter::hashmap(Quota::per_second(per_second));
        Self {
            service,
            timeout: config.timeout,
            concurrent: Semaphore::new(config.concurrent_requests),
            rate: config.rate_limit.map(limiter),
            limited_calls: AtomicU32::new(0),
        }
    }

    /// Hands a request on, or refuses it as its protocol does.
    pub(super) async fn guard<F>(
        &self,
        protocol: Protocol,
        request: Request,
        handle: impl FnOnce(Request) -> F,
    ) -> Response
    where
        F: Future<Output = Response>,
    {
        self.pass(request, handle).await.unwrap_or_else(|error| protocol.refuse(&error))
    }

    /// What every call passes before its handler, in this order: there is room for it, it ends in time, it is known
    /// who calls, and he does not call too often.
    async fn pass<F>(
        &self,
        mut request: Request,
        handle: impl FnOnce(Request) -> F,
    ) -> Result<Response, Error>
    where
        F: Future<Output = Response>,
    {
        let _place = self.concurrent.try_acquire().map_err(|_full| Error::Overloaded)?;
        let limit = self.time_limit(request.headers());
        let answered = async {
            self.authenticate(&mut request).await?;
            self.limit_rate(&request)?;
            Ok(handle(request).await)
        };
        tokio::time::timeout(limit, answered).await.unwrap_or(Err(Error::TimedOut))
    }

    /// As long as this server allows, or less if a gRPC caller asks.
    fn time_limit(&self, headers: &HeaderMap) -> Duration {
        let asked = headers.get("grpc-timeout").and_then(|value| grpc_timeout(value.to_str().ok()?));
        asked.map_or(self.timeout, |asked| asked.min(self.timeout))
    }

    /// Finds out who calls, before anything else is looked at.
    async fn authenticate(&self, request: &mut Request) -> Result<(), Error> {
        let path = request.uri().path();
        if OPEN_PATHS.iter().any(|open| path == *open || (open.ends_with('/') && path.starts_with(open))) {
            return Ok(());
        }
        // Who shows a token is who the token says, whatever his certificate says, and nobody if it is not valid
        let mut principal = if request.headers().contains_key(header::AUTHORIZATION) {
            let token = bearer(request.headers()).ok_or(Error::Unauthenticated)?;
            self.service.authenticate(token).await?
        } else {
            self.by_certificate(request)?
        };
        if let Some(named) = named_tenant(request.headers()) {
            // In a box: few calls name one
            principal = Box::pin(self.service.in_tenant(principal, named)).await?;
        }
        if let Some(note) = request.extensions().get::<CallerNote>() {
            note.set(&principal.token.id);
        }
        let origin = origin(request);
        request.extensions_mut().insert(Call { principal, origin });
        Ok(())
    }

    /// Finds out who calls without a token.
    fn by_certificate(&self, request: &Request) -> Result<Principal, Error> {
        let connection = request.extensions().get::<ConnectionInfo>();
        let client = connection.and_then(|connection| connection.client.as_ref());
        let ClientCertificate { spiffe_id, validity } = &**client.ok_or(Error::Unauthenticated)?;
        let id = spiffe_id.as_ref().map_err(|reason| {
            tracing::debug!(%reason, "a client certificate makes nobody known");
            Error::Unauthenticated
        })?;
        self.service.authenticate_workload(id, validity.not_before, validity.not_after)
    }

    fn limit_rate(&self, request: &Request) -> Result<(), Error> {
        let call = request.extensions().get::<Call>();
        call.map_or(Ok(()), |call| self.check_rate(call.principal.token.id.as_str()))
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

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The tenant that a call names, if it does; what cannot be one is named as none that exists.
fn named_tenant(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(TENANT).iter();
    match (values.next()?, values.next()) {
        (value, None) => Some(value.to_str().unwrap_or_default()),
        (_, Some(_)) => Some(""),
    }
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
